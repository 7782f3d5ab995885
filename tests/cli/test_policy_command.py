"""`cellwall policy`: what it does, says and refuses."""

import subprocess
from pathlib import Path

import pytest
from nodecommand import Command

from cellwall.lab import Lab
from cellwall.lab.addresses import PUBLIC4

pytestmark = pytest.mark.root
ALLOWED, DENIED = PUBLIC4[:2]
YAML = f"""\
mode: allow
rules:
  - {{action: allow, prefix: {ALLOWED}, protocol: tcp, ports: 80-90}}
"""


@pytest.fixture(scope="module", autouse=True)
def servers(lab: Lab) -> None:
    lab.internet.serve(tcp=[80])


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(YAML)
    return path


def opens(lab: Lab, netns: str, address: str) -> bool:
    inside = ["nsenter", f"--net={netns}", "busybox", "nc", "-w", "1", address, "80"]
    return lab.node.run(inside, check=False).returncode == 0


def test_a_policy_is_set_shown_listed_patched_and_removed(cellwall: Command, lab: Lab, written: Path) -> None:
    netns = cellwall("attach", "web", "--tenant", "acme", "--json").json["endpoint"]["netns"]
    set_ = cellwall("policy", "set", "--tenant", "acme", str(written), "--json")
    assert set_.status == 0, set_.err
    rule = {"action": "allow", "prefix": f"{ALLOWED}/32", "protocol": "tcp", "ports": "80-90"}
    assert (set_.json["policy"]["mode"], set_.json["policy"]["rules"]) == ("allow", [rule])
    assert cellwall("policy", "show", "--tenant", "acme", "--json").json == set_.json
    assert [opens(lab, netns, to) for to in (ALLOWED, DENIED)] == [True, False]
    assert f"allow {ALLOWED}/32 tcp 80-90" in cellwall("policy", "show", "--tenant", "acme").out
    assert cellwall("policy", "set", "--container", "web", "--block-network").status == 0
    assert not opens(lab, netns, ALLOWED)
    listed = cellwall("policy", "list", "--json").json
    assert list(listed["tenants"]) == ["acme"]
    assert [(row["container"], row["policy"]["mode"]) for row in listed["endpoints"]] == [("web", "block")]
    shown = cellwall("policy", "list").out.splitlines()
    assert [line.split()[:3] for line in shown[1:]] == [["tenant", "acme", "allow"], ["container", "web/eth0", "block"]]
    written.write_text('{"mode": null, "rules": null, "monitor": true}')
    assert cellwall("policy", "patch", "--container", "web", str(written)).status == 0
    assert opens(lab, netns, ALLOWED)
    assert cellwall("policy", "remove", "--tenant", "acme", "--json").json == {"removed": True}
    assert cellwall("policy", "remove", "--tenant", "acme", "--json").json == {"removed": False}
    assert opens(lab, netns, DENIED)
    assert cellwall("policy", "show", "--tenant", "acme").status == 3
    assert cellwall("policy", "show", "--container", "nobody").status == 3


def test_a_sandbox_is_attached_and_a_command_run_under_a_policy(cellwall: Command, lab: Lab, written: Path) -> None:
    for options, open_ in (
        (["--policy", str(written)], [True, False]),
        (["--block-network"], [False, False]),
        (["--allow-list", f"{ALLOWED}/32", "--allow-list", "9.9.9.9"], [True, False]),
    ):
        netns = cellwall("attach", "web", *options, "--json").json["endpoint"]["netns"]
        assert [opens(lab, netns, to) for to in (ALLOWED, DENIED)] == open_
        cellwall("detach", "web")
    ran = ["run", "--block-network", "--", "busybox", "nc", "-w", "1", ALLOWED, "80"]
    assert cellwall(*ran).status == 1
    assert cellwall(*[word for word in ran if word != "--block-network"]).status == 0


def test_a_policy_comes_by_standard_input(cellwall: Command) -> None:
    argv = cellwall.argv("policy", "check", "-")
    done = subprocess.run(argv, input=YAML, text=True, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


@pytest.mark.parametrize(("text", "said"), [
    ("mode: closed", '/mode: "closed": must be open, block or allow'),
    ("mode: allow\nrules: [{action: allow, prefix: 10.0.0.0/8}]", "lies in 10.0.0.0/8 (private use, RFC 1918)"),
    ("mode: allow\nrules: [{action: allow, prefix: 93.184.216.34}]", "the node's own network"),
    ("allow_list: [1.1.1.1, 169.254.169.254]", '/allow_list/1: "169.254.169.254/32"'),
    ("mode: open\nmode: block", "mode stands twice"),
    ("", "is empty"),
    ("- a", "must be a mapping"),
    ("a: [", "is not YAML"),
])  # fmt: skip
def test_what_is_wrong_with_a_file_is_said_with_its_place(
    cellwall: Command, written: Path, text: str, said: str
) -> None:
    written.write_text(text)
    for command in (["check", str(written)], ["set", "--tenant", "acme", str(written)]):
        answer = cellwall("policy", *command)
        assert answer.status == 2
        assert said in answer.err
    assert cellwall("policy", "list", "--json").json == {"tenants": {}, "endpoints": []}


@pytest.mark.parametrize("words", [
    ["set", "--tenant", "acme"],
    ["set", "--tenant", "acme", "FILE", "--block-network"],
    ["set", "FILE"],
    ["set", "--tenant", "acme", "--container", "web", "FILE"],
    ["set", "--tenant", "a b", "FILE"],
    ["set", "--tenant", "acme", "--block-network", "--allow-list", "1.1.1.1"],
    ["show"],
    ["check"],
    [],
])  # fmt: skip
def test_a_wrong_command_line_is_a_usage_error(cellwall: Command, written: Path, words: list[str]) -> None:
    named = [str(written) if word == "FILE" else word for word in words]
    assert cellwall("policy", *named).status == 2


@pytest.mark.parametrize("text", ['{"mode": "\\ud800"}', '{"\\ud800": 1}'])
def test_text_that_no_utf8_can_carry_is_named_by_its_escape(cellwall: Command, tmp_path: Path, text: str) -> None:
    """JSON can write half of a surrogate pair, and repeats it to nobody."""
    file = tmp_path / "policy.json"
    file.write_text(text)
    told = cellwall("policy", "check", str(file), "--json")
    assert told.status == 2
    assert "\\ud800" in told.json["error"]["field"] + told.json["error"]["value"]


def test_a_missing_file_is_not_found_and_one_policy_of_a_sandbox_has_no_links(cellwall: Command, written: Path) -> None:
    assert cellwall("policy", "check", str(written.with_name("none"))).status == 3
    written.write_text("links: true")
    assert cellwall("policy", "check", str(written)).status == 0
    assert cellwall("policy", "check", "--endpoint", str(written)).status == 2
