"""`cellwall learn`: from a node's event files to a policy that `cellwall policy set` takes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from nodecommand import SOURCE, Answer, Command

from cellwall.adapters.events.files import EventFiles
from cellwall.audit.events import Attempt, line_of
from cellwall.config import paths_for

pytestmark = pytest.mark.root
FIELDS = {"layer": "FWD", "tenant": "acme", "container": "web", "protocol": "tcp", "source": "192.168.0.2"}


def tried(time: str, destination: str, tenant: str = "acme", port: int = 443) -> Attempt:
    fields = {**FIELDS, "tenant": tenant, "destination": destination, "destination_port": port}
    return Attempt(time, "watch", "out", reason="the policy of the tenant", **fields)  # type: ignore[arg-type]


@pytest.fixture
def watched(cellwall: Command) -> Command:
    assert cellwall("up").status == 0
    events = [
        tried("2020-01-01T00:00:00.000000Z", "8.8.4.4"),
        tried("2026-01-01T00:00:00.000000Z", "151.101.1.69"),
        tried("2026-01-01T00:00:01.000000Z", "10.0.0.5"),
        tried("2026-01-01T00:00:02.000000Z", "8.8.8.8", "rival"),
        tried("2026-01-01T00:00:03.000000Z", "2a04:4e42::1"),
    ]
    files = EventFiles(paths_for(cellwall.lab.root).in_log(), size=1 << 20, count=1)
    assert files.append([line_of(event) for event in events]).error == ""
    files.close()
    return cellwall


def test_what_is_printed_is_what_policy_set_takes(watched: Command, tmp_path: Path) -> None:
    assert watched("policy", "set", "--tenant", "acme", "--block-network").status == 0
    learned = watched("learn", "--tenant", "acme", "--since", "2025-01-01", "--prefix4", "24")
    assert learned.status == 0, learned.err
    assert "RFC 1918" in learned.out
    (tmp_path / "learned.yaml").write_text(learned.out)
    assert watched("policy", "set", "--tenant", "acme", str(tmp_path / "learned.yaml")).status == 0
    shown = watched("policy", "show", "--tenant", "acme", "--json").json["policy"]
    assert [(rule["prefix"], rule["ports"]) for rule in shown["rules"]] == [
        ("151.101.1.0/24", 443),
        ("2a04:4e42::1/128", 443),
    ]
    document = watched("learn", "--tenant", "acme", "--json").json
    assert (document["attempts"], len(document["left_out"])) == (1, 3)  # what is allowed by now is not asked for again


@pytest.mark.parametrize(("option", "value"), [("prefix4", "33"), ("prefix6", "x"), ("since", "never")])
def test_what_cannot_be_meant_is_refused_with_field_and_value(tmp_path: Path, option: str, value: str) -> None:
    refused = learn(tmp_path, "--tenant", "acme", f"--{option}", value, "--json")
    assert (refused.status, refused.json["error"]["field"]) == (2, option)


@pytest.mark.parametrize("whose", ["tenant", "container"])
def test_of_whom_there_is_neither_a_policy_nor_an_attempt_no_policy_is_proposed(tmp_path: Path, whose: str) -> None:
    """A name that was mistyped would be closed whole by what is proposed for it."""
    learned = learn(tmp_path, f"--{whose}", "nobody")
    assert (learned.status, learned.out) == (3, "")
    assert f"{whose}: nobody: has no policy" in learned.err


def test_of_who_is_under_an_open_policy_and_tried_nothing_no_policy_is_proposed(watched: Command) -> None:
    assert watched("attach", "idle").status == 0
    assert watched("learn", "--container", "idle").status == 3


def test_of_whom_nothing_was_watched_the_policy_is_proposed_and_that_is_said(watched: Command) -> None:
    assert watched("policy", "set", "--tenant", "quiet", "--allow-list", "9.9.9.9").status == 0
    learned = watched("learn", "--tenant", "quiet")
    assert (learned.status, "9.9.9.9/32" in learned.out) == (0, True)
    assert learned.out.startswith("# For tenant quiet, ") and "nothing new is on record" in learned.out


def test_of_who_has_no_policy_any_more_what_was_seen_is_proposed(watched: Command) -> None:
    learned = watched("learn", "--tenant", "rival")
    assert (learned.status, "8.8.8.8/32" in learned.out) == (0, True)


def learn(root: Path, *arguments: str) -> Answer:
    argv = [sys.executable, "-m", "cellwall.cli.main", "--root", str(root), "learn", *arguments]
    environ = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, env=environ)
    return Answer(done.returncode, done.stdout, done.stderr)
