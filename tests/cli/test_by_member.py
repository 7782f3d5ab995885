"""The commands of somebody who is not root, on a node whose daemon lets a group ask."""

import os
import subprocess
import sys
from collections.abc import Iterator

import msgspec
import pytest
from nodecommand import SOURCE, Answer

from cellwall.lab import Lab
from daemon.served import Daemon, namespace_of, served

pytestmark = pytest.mark.root
MEMBER, GROUP = 1000, 5000
CONFIGURATION = f"""
[daemon]
group = "{GROUP}"
allow = ["{GROUP} attach,detach,list,expose ci-*"]
"""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Lab() as lab, lab.node.enter():
        os.chmod(lab.root, 0o755)
        with served(lab, configuration=CONFIGURATION) as daemon:
            daemon.paths.config_file.chmod(0o600)
            daemon.attach("secret", tenant="web")
            yield daemon


def asked(daemon: Daemon, *arguments: str, groups: int = GROUP) -> Answer:
    identity = ["setpriv", f"--reuid={MEMBER}", f"--regid={MEMBER}", f"--groups={groups}", "--"]
    argv = [*identity, sys.executable, "-m", "cellwall.cli.main", "--root", str(daemon.lab.root), *arguments]
    environ = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, env=environ)
    return Answer(done.returncode, done.stdout, done.stderr)


def test_a_member_needs_neither_the_record_nor_the_configuration(daemon: Daemon) -> None:
    with namespace_of(MEMBER) as netns:
        made = asked(daemon, "attach", "job", "--tenant", "ci-1", "--netns", netns, "--expose", "8080:80", "--json")
        assert made.status == 0, made.err
        assert [row["container"] for row in asked(daemon, "list", "--json").json["endpoints"]] == ["job"]
        assert asked(daemon, "unexpose", "job", "8080:80").status == 0
        assert asked(daemon, "detach", "job", "--json").json == {"detached": True}


@pytest.mark.parametrize("command", [["up"], ["down", "--force"], ["status"], ["reconcile"]])
def test_what_is_the_nodes_is_refused_in_one_line(daemon: Daemon, command: list[str]) -> None:
    refused = asked(daemon, *command)
    assert (refused.status, refused.err.count("\n")) == (6, 1)
    assert "daemon.allow" in refused.err


def test_who_is_in_no_group_may_not_even_connect(daemon: Daemon) -> None:
    refused = asked(daemon, "list", "--json", groups=MEMBER)
    assert (refused.status, msgspec.json.decode(refused.out)["error"]["kind"]) == (6, "no-privilege")
