"""The commands on a real node: what they do, say and refuse."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from nodecommand import Command

from cellwall.adapters.process import Completed, find_program
from cellwall.adapters.record.lock import WriterLock
from cellwall.cli.main import main
from cellwall.lab import Lab, connect
from cellwall.lab.addresses import NODE4
from running import wait_until

pytestmark = pytest.mark.root


def test_up_is_idempotent_and_down_refuses_while_attached(cellwall: Command) -> None:
    assert cellwall("status", "--json").json["up"] is False
    first = cellwall("up", "--json")
    assert (first.status, first.json["changed"], first.json["uplink"]) == (0, True, "eth0")
    assert cellwall("up", "--json").json["changed"] is False
    assert cellwall("attach", "web").status == 0
    before = cellwall.snapshot()
    refused = cellwall("down", "--json")
    assert (refused.status, refused.json["error"]["kind"]) == (4, "conflict")
    assert refused.json["error"]["message"] == "1 endpoint is attached; detach first, or force"
    assert cellwall.snapshot() == before
    assert cellwall("attach", "second").status == 0
    assert "2 endpoints are attached" in cellwall("down").err
    assert cellwall("down", "--force").status == 0
    assert cellwall("list", "--json").json == {"endpoints": []}


def test_a_reconcile_of_a_node_that_is_down_brings_it_up_and_says_so(cellwall: Command) -> None:
    assert cellwall("status", "--json").json["up"] is False
    assert cellwall("reconcile", "--json").json == {"repaired": ["the node was not up"]}
    assert cellwall("reconcile", "--json").json == {"repaired": []}
    assert cellwall("status", "--json").json["up"] is True


def test_attach_expose_and_detach_pass_packets_as_they_say(cellwall: Command, lab: Lab) -> None:
    made = cellwall("attach", "web", "--tenant", "acme", "--expose", "8080:80", "--ip", "192.168.0.77", "--json")
    assert made.status == 0, made.err
    endpoint = made.json["endpoint"]
    assert (endpoint["container"], endpoint["tenant"], endpoint["address4"]) == ("web", "acme", "192.168.0.77")
    assert endpoint["address6"] == "fd00:abcd::4d"
    assert endpoint["exposed"][0]["host_port"] == 8080
    again = cellwall("attach", "web", "--tenant", "acme", "--expose", "8080:80", "--ip", "192.168.0.77", "--json")
    assert again.json == made.json
    inside = ["nsenter", f"--net={endpoint['netns']}"]
    server = lab.node.popen([*inside, "busybox", "nc", "-ll", "-p", "80", "-e", "cat"])
    wait_until(lambda: "LISTEN" in lab.node.run([*inside, "ss", "-tln"]).text)
    assert connect(lab.lan, NODE4, 8080, payload=b"hello").data == b"hello"
    assert connect(lab.lan, NODE4, 8081, timeout=0.3).kind != "answer"
    assert cellwall("expose", "web", "8081:80").status == 0
    assert connect(lab.lan, NODE4, 8081, payload=b"hello").data == b"hello"
    assert len(cellwall("list", "--json").json["endpoints"][0]["exposed"]) == 2
    assert cellwall("unexpose", "web", "8081:80").status == 0
    assert connect(lab.lan, NODE4, 8081, timeout=0.3).kind != "answer"
    assert cellwall("detach", "web", "--json").json == {"detached": True}
    assert connect(lab.lan, NODE4, 8080, timeout=0.3).kind != "answer"
    assert cellwall("detach", "web", "--json").json == {"detached": False}
    server.terminate()


def test_what_the_node_lacks_is_said_once_by_up_and_by_the_attach_that_does_the_same() -> None:
    with Lab() as lab:
        cellwall = Command(lab)
        lab.node.run(["sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1"])
        said = cellwall("up", "--json")
        assert said.err == "".join(f"cellwall: warning: {line}\n" for line in said.json["warnings"])
        assert "no IPv6 in sandboxes" in said.err
        for quiet in (["attach", "web"], ["expose", "web", "9000-9010:9000"], ["reconcile"], ["up"]):
            assert cellwall(*quiet).err == ""
        assert cellwall("up", "--json").json["warnings"] == said.json["warnings"]
        cellwall("down", "--force")
        assert cellwall("attach", "web").err == said.err
        cellwall("down", "--force")


def test_what_a_detach_cannot_clean_up_is_a_line_each_and_everything_is_closed(cellwall: Command, lab: Lab) -> None:
    in_the_way = [lab.root / "run/cellwall/netns" / name for name in ("one", "two")]
    assert [cellwall("attach", path.name).status for path in in_the_way] == [0, 0]
    for path in in_the_way:
        subprocess.run(["umount", path], check=True)
        path.unlink()
        path.mkdir()
    said = cellwall("down", "--force", "--json")
    assert (said.status, said.json["error"]["kind"]) == (1, "incomplete")
    lines = said.err.splitlines()
    assert len(lines) == 2
    assert all(str(path) in line for path, line in zip(in_the_way, lines, strict=True))
    assert cellwall("list", "--json").json == {"endpoints": []}
    for path in in_the_way:
        path.rmdir()
    assert cellwall("down").status == 0


def test_detach_leaves_neither_end_of_the_link(cellwall: Command, lab: Lab) -> None:
    box = lab.sandbox("stays")
    assert cellwall("attach", "web", "--netns", str(box.netns)).status == 0
    assert "eth0" in box.run(["ip", "-br", "link"]).text
    assert cellwall("detach", "web").status == 0
    assert "eth0" not in box.run(["ip", "-br", "link"]).text
    assert "b9h" not in lab.node.run(["ip", "-br", "link"]).text
    assert cellwall("status", "--json").json["drift"] == []


def test_status_finds_drift_and_reconcile_repairs_it(cellwall: Command, lab: Lab) -> None:
    cellwall("attach", "web")
    assert cellwall("status").status == 0
    lab.node.run(["nft", "flush", "ruleset"])
    found = cellwall("status", "--json")
    assert (found.status, bool(found.json["drift"])) == (10, True)
    repaired = cellwall("reconcile", "--json")
    assert repaired.status == 0
    assert repaired.json["repaired"]
    assert cellwall("status").status == 0
    assert cellwall("reconcile", "--json").json == {"repaired": []}


def test_tables_are_for_people(cellwall: Command) -> None:
    assert cellwall("attach", "web", "--tenant", "acme", "--expose", "8080:80").status == 0
    head, line = cellwall("list").out.splitlines()
    assert head.split() == ["CONTAINER", "TENANT", "INTERFACE", "IPV4", "IPV6", "EXPOSED"]
    assert line.split()[:3] == ["web", "acme", "eth0"]
    assert "8080:80/tcp" in line
    assert "sandboxes:  1" in cellwall("status").out


REFUSED: list[tuple[list[str], int, str]] = [
    (["attach", "a", "--netns", "/nonexistent"], 3, "/nonexistent"),
    (["attach", "a", "--netns", "/proc/self/ns/net"], 2, "own network namespace"),
    (["attach", "a", "--netns", "/proc/self/ns/mnt"], 2, "is not a network namespace"),
    (["attach", "a", "--netns", "/etc/passwd"], 2, "is not a network namespace"),
    (["attach", "a", "--netns", "/x\ny"], 3, r"/x\ny"),
    (["attach", "a", "--netns", "x" * 5000], 2, "cannot be opened: File name too long"),
    (["attach", "a/b"], 2, "a/b"),
    (["attach", "a\nb"], 2, r"a\nb"),
    (["attach", "a" * 254], 2, "aaaa"),
    (["attach", "a", "--ifname", "a-name-too-long-for-it"], 2, "a-name-too-long-for-it"),
    (["attach", "a", "--ifname", "e/0"], 2, "e/0"),
    (["attach", "a", "--ifname", "lo"], 2, "lo"),
    (["attach", "a", "--tenant", "x;y"], 2, "x;y"),
    (["attach", "a", "--ip", "192.168.0.1"], 2, "192.168.0.1"),
    (["attach", "a", "--ip", "192.168.0.0"], 2, "192.168.0.0"),
    (["attach", "a", "--ip", "192.168.15.255"], 2, "192.168.15.255"),
    (["attach", "a", "--ip", "10.1.2.3"], 2, "10.1.2.3"),
    (["attach", "a", "--ip", "fd00:ffff::1"], 2, "fd00:ffff::1"),
    (["attach", "a", "--ip", "192.168.0.50"], 4, "192.168.0.50"),
    (["attach", "a", "--mac", "01:00:5e:00:00:01"], 2, "01:00:5e:00:00:01"),
    (["attach", "a", "--mac", "00:00:00:00:00:00"], 2, "00:00:00:00:00:00"),
    (["attach", "a", "--mac", "02:00:00:00:00:01"], 2, "02:00:00:00:00:01"),
    (["attach", "a", "--mac", "0a:58:c0:a8:00:32"], 2, "0a:58:c0:a8:00:32"),
    (["attach", "a", "--expose", "0:80"], 2, "0"),
    (["attach", "a", "--expose", "20000:80"], 2, "20000"),
    (["attach", "a", "--expose", "7000:80"], 4, "7000"),
    (["expose", "taken", "7000:80/udp"], 0, ""),
    (["expose", "nobody", "7001:80"], 3, "nobody"),
    (["unexpose", "nobody", "7001:80"], 3, "nobody"),
    (["attach", "taken", "--ip", "192.168.0.51"], 4, "taken"),
    (["run", "--name", "taken", "--", "true"], 4, "taken"),
]


@pytest.fixture(scope="module")
def occupied(lab: Lab) -> Command:
    """A node with one sandbox that has everything others may not have."""
    command = Command(lab)
    made = command("attach", "taken", "--ip", "192.168.0.50", "--expose", "7000:80")
    assert made.status == 0, made.err
    return command


@pytest.fixture(scope="module")
def before(occupied: Command) -> tuple[str, ...]:
    """What all that is refused leaves as it is."""
    return occupied.snapshot()


@pytest.mark.parametrize(
    ("argv", "status", "named"), [row for row in REFUSED if row[1]], ids=lambda value: str(value)[:40]
)
def test_bad_request_is_refused_by_name_and_changes_nothing(
    occupied: Command, before: tuple[str, ...], argv: list[str], status: int, named: str
) -> None:
    said = occupied(*argv)
    assert (said.status, said.out) == (status, ""), said.err
    assert said.err.startswith("cellwall: ")
    assert said.err.count("\n") == 1
    assert len(said.err) < 300
    assert named in said.err
    assert occupied.snapshot() == before


def test_namespace_that_is_attached_and_a_mac_that_is_taken_are_refused(
    occupied: Command, before: tuple[str, ...]
) -> None:
    (taken,) = occupied("list", "--json").json["endpoints"]
    for argv in (["--netns", taken["netns"]], ["--mac", taken["mac"]]):
        said = occupied("attach", "other", *argv)
        assert said.status in (2, 4), said
        assert any(word in said.err for word in (argv[1], "eth0")), said
        assert said.err.count("\n") == 1
        assert occupied.snapshot() == before


def test_full_pool_is_a_conflict(lab: Lab) -> None:
    cellwall = Command(lab)
    cellwall("down", "--force")
    small = {"CELLWALL_NETWORK_SUBNET4": "10.88.0.0/29"}
    names = [f"c{number}" for number in range(6)]
    said = [cellwall("attach", name, "--json", **small) for name in names]
    assert [answer.status for answer in said] == [0, 0, 0, 0, 0, 4]
    assert said[-1].json["error"]["kind"] == "conflict"
    assert "10.88.0.0/29" in said[-1].err
    assert len(cellwall("list", "--json", **small).json["endpoints"]) == 5
    assert cellwall("detach", "c0", **small).status == 0
    assert cellwall("attach", "c5", **small).status == 0
    assert cellwall("down", "--force", **small).status == 0


def test_busy_writer_is_unavailable_after_a_bounded_wait(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    cellwall = Command(lab)
    cellwall("up")
    hold = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    lock = lab.root / "run/cellwall/writer.lock"
    holder = lab.node.popen([sys.executable, "-c", hold, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    monkeypatch.setattr(WriterLock.__init__, "__defaults__", (0.2,))
    with lab.node.enter():
        assert main(["--root", str(lab.root), "attach", "x"]) == 7
    holder.kill()
    holder.wait()


def test_missing_privileges_have_their_status(lab: Lab) -> None:
    argv = Command(lab).argv("up")
    readable = [*argv[: argv.index("--root")], "--root", "/nonexistent", "up"]
    powerless = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", "--reuid", "65534", "--clear-groups"]
    without_root = lab.node.run([*powerless, *readable[2:]], check=False)
    assert without_root.returncode == 6
    assert b"root" in without_root.stderr


@pytest.mark.parametrize(
    ("missing", "configured", "status", "said"),
    [
        (["nft"], "auto", 0, b"iptables ("),
        (["nft"], "nftables", 5, b"nftables: the program 'nft' is not installed"),
        (["iptables-nft-restore"], "iptables", 0, b"iptables (legacy)"),
        (
            ["iptables-nft-restore", "iptables-legacy-restore"],
            "iptables",
            5,
            b"iptables: iptables-nft lacks iptables-nft-restore; iptables-legacy lacks",
        ),
        (
            ["nft", "iptables-nft-restore", "iptables-legacy-restore"],
            "auto",
            5,
            b"installed; iptables: iptables-nft lacks",
        ),
    ],
)
def test_a_wall_stands_in_what_the_host_has_or_the_refusal_names_what_it_lacks(
    lab: Lab, tmp_path: Path, missing: list[str], configured: str, status: int, said: bytes
) -> None:
    cellwall = Command(lab)
    cellwall("down", "--force")
    done = without_programs(cellwall, tmp_path, missing, "up", "--set", f"node.backend={configured}")
    assert done.returncode == status, done
    assert said in done.stdout + done.stderr
    assert cellwall("down", "--force").status == 0


def without_programs(cellwall: Command, tmp_path: Path, missing: list[str], *arguments: str) -> Completed:
    """A command where these cannot be executed: in a mount namespace of its own, and the machine keeps them."""
    plain = tmp_path / "nothing"
    plain.touch(mode=0o600)
    programs = [os.path.realpath(found) for name in missing if (found := find_program(name))]
    hide = "".join(f"mount --bind {plain} {program}; " for program in programs) + 'exec "$@"'
    argv = cellwall.argv(*arguments)
    return cellwall.lab.node.run(["unshare", "--mount", "sh", "-ec", hide, "-", *argv[2:]], check=False)


@pytest.mark.parametrize(("command", "holder"), [("up", "iptables ("), ("down", "")])
def test_a_wall_that_nft_laid_goes_also_where_nft_is_gone(lab: Lab, tmp_path: Path, command: str, holder: str) -> None:
    """Who removes the package has the wall in what is left, and not in both for good."""
    cellwall = Command(lab)
    cellwall("down", "--force")
    assert cellwall("up").status == 0
    done = without_programs(cellwall, tmp_path, ["nft"], command)
    assert done.returncode == 0, done
    assert "cellwall" not in lab.node.run(["nft", "list", "tables"]).text
    assert holder in done.text
    assert cellwall("status").status == 0 or command == "down"
    assert cellwall("down", "--force").status == 0


@pytest.mark.parametrize("command", ["list", "status", "policy list", "detach web", "down", "top --once"])
def test_a_mistyped_root_is_named_and_is_not_made(lab: Lab, tmp_path: Path, command: str) -> None:
    root = tmp_path / "nod"
    for _ in range(2):
        said = Command(lab)("--root", str(root), *command.split())
        assert (said.status, said.out) == (3, "")
        assert f'--root: "{root}": is not there' in said.err
    assert not root.exists()


@pytest.mark.parametrize("command", ["list", "up", "attach web", "detach web", "log", "release web"])
def test_a_root_that_is_a_file_is_refused_by_name(lab: Lab, tmp_path: Path, command: str) -> None:
    file = tmp_path / "node"
    file.write_text("mine")
    said = Command(lab)("--root", str(file), *command.split())
    assert (said.status, said.err) == (2, f'cellwall: --root: "{file}": is no directory\n')
    assert file.read_text() == "mine"


def test_uninstall_leaves_the_node_as_it_was() -> None:
    with Lab() as lab:
        cellwall = Command(lab)
        before = _node(lab)
        assert cellwall("attach", "web", "--expose", "8080:80").status == 0
        assert _node(lab) != before
        assert cellwall("uninstall").status == 4
        assert cellwall("uninstall", "--force").status == 0
        assert _node(lab) == before
        assert not (lab.root / "run").exists()
        (lab.root / "run").mkdir()
        (lab.root / "run/others").touch()
        assert (cellwall("up").status, cellwall("uninstall").status) == (0, 0)
        assert [path.name for path in (lab.root / "run").iterdir()] == ["others"]


def _node(lab: Lab) -> tuple[str, ...]:
    run = lab.node.run
    settings = run(["sysctl", "-a", "--pattern", "^net[.](ipv4|ipv6|bridge)"]).text
    lines = [line for line in settings.splitlines() if "stat" not in line and "lft" not in line]
    return run(["nft", "list", "ruleset"]).text, run(["ip", "-o", "addr"]).text, "\n".join(lines)
