"""`cellwall run` on a real node: behind the wall while it lives, gone when it ends, however it ends."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nodecommand import SOURCE, Command

from cellwall.lab import Lab, connect
from cellwall.lab.addresses import NODE4
from running import wait_until

pytestmark = pytest.mark.root

FETCH = "import socket; s = socket.create_connection(('151.101.1.69', 80), 3); s.sendall(b'x'); print(s.recv(99))"


@pytest.fixture(autouse=True)
def nothing_stays(cellwall: Command) -> Iterator[None]:
    """Whatever `run` was told, no endpoint, no lock file and no namespace outlives it."""
    yield
    assert cellwall("list", "--json").json == {"endpoints": []}
    assert list((cellwall.lab.root / "run/cellwall/owners").glob("*")) == []
    assert list((cellwall.lab.root / "run/cellwall/netns").glob("*")) == []


@pytest.fixture
def start(cellwall: Command) -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    """Start `cellwall run` and leave it running."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*arguments: str) -> "subprocess.Popen[bytes]":
        child: subprocess.Popen[bytes] = subprocess.Popen(
            cellwall.argv("run", *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
        )
        started.append(child)
        return child

    yield begin
    for child in started:
        if child.poll() is None:
            child.terminate()
        child.communicate(timeout=20)


def test_command_reaches_the_internet_and_nothing_else(cellwall: Command, lab: Lab) -> None:
    with lab.internet.serve(tcp=[80]), lab.node.serve(tcp=[8000]), lab.infra.serve(tcp=[80]):
        answered = cellwall("run", "--", "python3", "-c", FETCH)
        assert (answered.status, answered.out) == (0, "b'internet x'\n"), answered
        for address in ("169.254.169.254", "10.0.0.5", "172.20.0.20", NODE4):
            port = "8000" if address == NODE4 else "80"
            denied = cellwall(
                "run", "--", "python3", "-c", FETCH.replace("151.101.1.69", address).replace("80)", f"{port})")
            )
            assert denied.status == 1
            assert "Error" in denied.err


def test_names_are_resolved_by_the_walls_resolvers(cellwall: Command) -> None:
    seen = cellwall("run", "--set", "network.dns=8.8.8.8", "--", "cat", "/etc/resolv.conf")
    assert (seen.status, seen.out) == (0, "nameserver 8.8.8.8\n")
    lookup = "import socket; print(sorted({row[4][0] for row in socket.getaddrinfo('www.test', 80)}))"
    found = cellwall("run", "--set", "network.dns=8.8.8.8", "--", "python3", "-c", lookup)
    assert (found.status, "151.101.1.69" in found.out) == (0, True), found


def test_resolver_file_behind_a_symlink_is_replaced_for_the_command_only(lab: Lab, cellwall: Command) -> None:
    real = lab.root / "stub-resolv.conf"
    real.write_text("nameserver 192.0.2.1\n")
    link = lab.root / "etc-overlay"
    link.mkdir()
    for entry in Path("/etc").iterdir():
        if entry.name != "resolv.conf":
            (link / entry.name).symlink_to(f"/proc/1/root/etc/{entry.name}")
    (link / "resolv.conf").symlink_to(real)
    # /etc with a symlink for resolv.conf, as systemd-resolved has it, in a mount namespace of the test's own.
    world = ["unshare", "--mount", "sh", "-ec", 'mount --bind "$0" /etc; "$@"; cat /etc/resolv.conf', str(link)]
    argv = cellwall.argv("run", "--set", "network.dns=8.8.8.8", "--", "cat", "/etc/resolv.conf")
    seen = lab.node.run([*world, *argv[2:]], env={"PYTHONPATH": str(SOURCE)}, timeout=30)
    assert seen.text == "nameserver 8.8.8.8\nnameserver 192.0.2.1\n"


def test_exit_status_and_output_are_the_commands(cellwall: Command) -> None:
    assert cellwall("up").status == 0  # whoever lays the wall is told what the node lacks
    assert cellwall("run", "--", "sh", "-c", "echo out; echo err >&2; exit 7") == type(cellwall("version"))(
        7, "out\n", "err\n"
    )
    assert cellwall("run", "--", "sh", "-c", "kill -TERM $$").status == 128 + 15
    assert cellwall("run", "--", "/nonexistent/program").status == 127
    assert cellwall("run", "--", "/etc/passwd").status == 126
    missing = cellwall("--json", "run", "--", "/nonexistent/program").json["error"]
    assert (missing["kind"], missing["status"]) == ("not-found", 127)


def test_command_serves_behind_an_exposed_port(start: Callable[..., "subprocess.Popen[bytes]"], lab: Lab) -> None:
    child = start("--expose", "8080:80", "--", "sh", "-c", "echo up; exec busybox nc -ll -p 80 -e cat")
    assert child.stdout is not None
    assert child.stdout.readline() == b"up\n"
    deadline = time.monotonic() + 30
    while (answer := connect(lab.lan, NODE4, 8080, payload=b"hello")).kind != "answer":
        assert time.monotonic() < deadline
    assert answer.data == b"hello"


LEFT = """
import os, socket, sys, time
def reaches():
    try:
        return socket.create_connection(('151.101.1.69', 80), 3) is not None
    except OSError:
        return False
def told(name, what):
    with open(name + '.part', 'w') as part:
        print(what, file=part)
    os.rename(part.name, name)
ended, before, after = sys.argv[1:]
told(before, reaches())
while not os.path.exists(ended):
    time.sleep(0.02)
told(after, [reaches(), *(name for _, name in socket.if_nameindex())])
"""


def test_what_the_command_leaves_running_goes_on_without_a_network(cellwall: Command, lab: Lab, tmp_path: Path) -> None:
    """As behind `ip netns exec` and nsenter(1) it is the caller's to end; what was its interface is gone."""
    ended, before, after = (tmp_path / name for name in ("ended", "before", "after"))
    left = f'python3 -c "$0" {ended} {before} {after} >/dev/null 2>&1 &'
    with lab.internet.serve(tcp=[80]):
        command = f"{left} until [ -e {before} ]; do sleep 0.02; done; exit 3"
        assert cellwall("run", "--", "sh", "-c", command, LEFT).status == 3, "nobody waits for it"
        ended.touch()
        wait_until(after.exists)
    assert (before.read_text(), after.read_text()) == ("True\n", "[False, 'lo']\n")


def test_termination_reaches_the_command_and_the_sandbox_is_closed(
    start: Callable[..., "subprocess.Popen[bytes]"], cellwall: Command
) -> None:
    child = start(
        "--name", "one", "--", "sh", "-c", "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.02; done"
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"up\n"
    assert cellwall("list", "--json").json["endpoints"][0]["container"] == "one"
    child.send_signal(signal.SIGTERM)
    assert child.stdout.read() == b"bye\n"
    assert child.wait(60) == 5


def test_name_in_use_is_a_conflict(start: Callable[..., "subprocess.Popen[bytes]"], cellwall: Command) -> None:
    child = start("--name", "one", "--", "sh", "-c", "echo up; exec sleep 60")
    assert child.stdout is not None
    child.stdout.readline()
    second = cellwall("run", "--name", "one", "--", "true")
    assert (second.status, "one" in second.err) == (4, True)
    assert len(cellwall("list", "--json").json["endpoints"]) == 1


def test_kill_is_cleared_up_by_reconcile(start: Callable[..., "subprocess.Popen[bytes]"], cellwall: Command) -> None:
    child = start("--name", "one", "--", "sh", "-c", "echo $$; exec sleep 60")
    assert child.stdout is not None
    command = int(child.stdout.readline())
    os.kill(child.pid, signal.SIGKILL)
    child.wait(60)
    deadline = time.monotonic() + 30
    while _runs(command):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert len(cellwall("list", "--json").json["endpoints"]) == 1
    repaired = cellwall("reconcile", "--json").json["repaired"]
    assert any("one" in line for line in repaired)
    assert cellwall("reconcile", "--json").json == {"repaired": []}


def test_name_of_a_killed_run_can_be_used_again(
    start: Callable[..., "subprocess.Popen[bytes]"], cellwall: Command
) -> None:
    child = start("--name", "one", "--", "sh", "-c", "echo up; exec sleep 60")
    assert child.stdout is not None
    child.stdout.readline()
    os.kill(child.pid, signal.SIGKILL)
    child.wait(60)
    assert cellwall("run", "--name", "one", "--", "echo", "again").out == "again\n"


@pytest.fixture
def killed_run(start: Callable[..., "subprocess.Popen[bytes]"]) -> None:
    """A `run` of the name `one` with a published port, which nobody detached."""
    child = start("--name", "one", "--expose", "8080:80", "--", "sh", "-c", "echo up; exec sleep 60")
    assert child.stdout is not None
    child.stdout.readline()
    os.kill(child.pid, signal.SIGKILL)
    child.wait(60)


@pytest.mark.usefixtures("killed_run")
def test_status_names_what_a_killed_run_left_and_leaves_it(cellwall: Command) -> None:
    for _ in range(2):
        said = cellwall("status", "--json")
        assert said.status == 10
        assert [line for line in said.json["drift"] if "one" in line and "the process that ran it is gone" in line]
    assert cellwall("reconcile").status == 0
    assert cellwall("status").status == 0


@pytest.mark.usefixtures("killed_run")
@pytest.mark.parametrize("wanted", ["port", "address", "mac", "name"])
def test_what_a_killed_run_holds_goes_to_who_asks_for_it(cellwall: Command, wanted: str) -> None:
    (left,) = cellwall("list", "--json").json["endpoints"]
    asked = {
        "port": ["run", "--expose", "8080:80", "--", "echo", "done"],
        "address": ["run", "--ip", left["address4"], "--", "echo", "done"],
        "mac": ["attach", "two", "--mac", left["mac"], "--ip", left["address4"]],
        "name": ["attach", "one"],
    }
    said = cellwall(*asked[wanted])
    assert said.status == 0, said
    others = [row for row in cellwall("list", "--json").json["endpoints"] if row["netns"] == left["netns"]]
    assert [row["exposed"] for row in others] == ([[]] if wanted == "name" else [])
    assert cellwall("reconcile", "--json").json == {"repaired": []}, "the new endpoint is nobody's to take away"
    cellwall("detach", "one")
    cellwall("detach", "two")


@pytest.mark.usefixtures("killed_run")
def test_port_that_a_killed_run_holds_can_be_published_for_another(cellwall: Command) -> None:
    assert cellwall("attach", "two").status == 0
    assert cellwall("expose", "two", "8080:80").status == 0
    assert [row["container"] for row in cellwall("list", "--json").json["endpoints"]] == ["two"]
    cellwall("detach", "two")


@pytest.mark.usefixtures("killed_run")
def test_name_of_a_killed_run_that_was_detached_by_hand_is_free_of_its_past(cellwall: Command) -> None:
    assert cellwall("detach", "one").status == 0
    assert cellwall("status").status == 0
    assert cellwall("attach", "one").status == 0
    assert cellwall("status").status == 0
    assert cellwall("reconcile", "--json").json == {"repaired": []}
    assert cellwall("detach", "one", "--json").json == {"detached": True}


def test_what_a_living_run_holds_stays_its_own(
    start: Callable[..., "subprocess.Popen[bytes]"], cellwall: Command
) -> None:
    child = start("--name", "one", "--expose", "8080:80", "--", "sh", "-c", "echo up; exec sleep 60")
    assert child.stdout is not None
    child.stdout.readline()
    assert cellwall("status").status == 0
    refused = cellwall("attach", "two", "--expose", "8080:80")
    assert (refused.status, "is taken by container one" in refused.err) == (4, True)
    assert cellwall("reconcile", "--json").json == {"repaired": []}


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
