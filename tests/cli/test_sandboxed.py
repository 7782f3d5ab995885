"""A command in another network namespace: streams, signals, status, resolvers, and nothing left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cellwall.adapters.sandbox import netns

pytestmark = pytest.mark.root

_RUNNER = """
import sys
from pathlib import Path
from cellwall.adapters.sandbox import sandboxed
sandboxed.hold_signals()
try:
    pid = sandboxed.start(sys.argv[3:], sandbox=sys.argv[1], resolv_conf=Path(sys.argv[2]))
except sandboxed.ExecFailed as error:
    sys.exit(127 if error.missing else 126)
status = sandboxed.wait(pid)
sys.exit(status if status >= 0 else 128 - status)
"""

Run = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Start a command in a new namespace that lives as long as a sleeping process in it."""
    keeper = subprocess.Popen(["unshare", "--net", "sleep", "120"])
    path = f"/proc/{keeper.pid}/ns/net"
    while os.stat(path).st_ino == netns.own_identity()[1]:
        time.sleep(0.005)
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.53\n")
    started: list[subprocess.Popen[bytes]] = []

    def begin(*argv: str, **options: object) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", _RUNNER, path, str(tmp_path / "resolv.conf"), *argv]
        child: subprocess.Popen[bytes] = subprocess.Popen(
            command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, **options
        )  # type: ignore[call-overload]
        started.append(child)
        return child

    try:
        yield begin
    finally:
        for child in [*started, keeper]:
            if child.poll() is None:
                child.kill()
            child.communicate()


def test_command_sees_its_namespace_the_callers_streams_and_the_walls_resolvers(run: Run) -> None:
    before = Path("/etc/resolv.conf").read_bytes() if Path("/etc/resolv.conf").exists() else None
    child = run("sh", "-c", "cat; cat /etc/resolv.conf; readlink /proc/self/ns/net; ls /sys/class/net >/dev/null")
    out, _ = child.communicate(b"typed\n", timeout=20)
    typed, resolvers, namespace = out.decode().splitlines()
    assert (typed, resolvers) == ("typed", "nameserver 192.0.2.53")
    assert namespace != os.readlink("/proc/self/ns/net")
    after = Path("/etc/resolv.conf").read_bytes() if Path("/etc/resolv.conf").exists() else None
    assert after == before
    assert "resolv.conf" not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize("argv", [["sh", "-c", "exit 7"], ["true"], ["sh", "-c", "kill -9 $$"]])
def test_exit_status_is_the_commands(run: Run, argv: list[str]) -> None:
    expected = {"exit 7": 7, "true": 0, "kill -9 $$": 137}[argv[-1]]
    child = run(*argv)
    child.communicate(timeout=20)
    assert child.returncode == expected


def test_missing_and_unexecutable_commands_are_told_apart(run: Run, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("x")
    for command, status in (("/nonexistent", 127), (str(plain), 126)):
        child = run(command)
        child.communicate(timeout=20)
        assert child.returncode == status


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "WINCH"])
def test_signal_reaches_the_command_once(run: Run, name: str) -> None:
    script = f"n=0; trap 'n=$((n+1)); echo got $n' {name}; trap 'exit 9' ALRM; echo ready; while :; do sleep 0.02; done"
    child = run("sh", "-c", script)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    child.send_signal(getattr(signal, f"SIG{name}"))
    assert child.stdout.readline() == b"got 1\n"
    child.send_signal(signal.SIGALRM)  # passed on too; were there a second copy, it would have been said before
    assert child.stdout.read() == b""
    assert child.wait(60) == 9


def test_command_dies_with_its_caller(run: Run) -> None:
    child = run("sh", "-c", "echo $$; exec sleep 60")
    assert child.stdout is not None
    pid = int(child.stdout.readline())
    child.kill()
    child.wait(60)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and Path(f"/proc/{pid}/stat").exists():
        if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
            break
        time.sleep(0.01)
    else:
        assert not Path(f"/proc/{pid}").exists()


def test_no_descriptor_of_ours_leaks_into_the_command(run: Run) -> None:
    child = run("sh", "-c", "ls /proc/self/fd")
    out, _ = child.communicate(timeout=20)
    assert set(out.split()) <= {b"0", b"1", b"2", b"3"}  # 3: the directory that ls reads


def test_ignored_hangup_stays_ignored_and_pipes_break_as_usual(run: Run) -> None:
    child = run("sh", "-c", "grep -E 'Sig(Ign|Blk)' /proc/self/status", preexec_fn=_ignore_hangup)
    out, _ = child.communicate(timeout=20)
    masks = dict(line.split(":\t") for line in out.decode().splitlines())
    assert int(masks["SigBlk"], 16) == 0
    ignored = int(masks["SigIgn"], 16)
    assert ignored >> (signal.SIGHUP - 1) & 1
    assert not ignored >> (signal.SIGPIPE - 1) & 1


def _ignore_hangup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
