"""Nothing of a lab outlives it, however it ends."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import pytest

from cellwall.errors import LabError
from cellwall.lab import Lab, namespaces, records
from running import wait_until

pytestmark = pytest.mark.root

VICTIM = """
import sys, time
from cellwall.lab import Lab
lab = Lab(prefix=sys.argv[1])
(lab.root / "file").write_text("x")
sleeper = lab.node.popen(["sleep", "1000"])
inside = lab.sandbox("box").popen(["sleep", "1000"])
print(sleeper.pid, inside.pid, lab.root, flush=True)
time.sleep(1000)
"""


def started_lab(prefix: str) -> tuple["subprocess.Popen[str]", list[int], Path]:
    victim = subprocess.Popen([sys.executable, "-c", VICTIM, prefix], stdout=subprocess.PIPE, text=True)
    assert victim.stdout is not None
    first, second, root = victim.stdout.readline().split()
    return victim, [int(first), int(second)], Path(root)


def ended(victim: "subprocess.Popen[str]", number: int) -> None:
    victim.send_signal(number)
    victim.wait(60)
    assert victim.stdout is not None
    victim.stdout.close()


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_namespace_that_takes_the_number_of_one_that_is_swept_keeps_its_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another sweep is faster, and while this one looks around a container comes."""
    prefix = f"cwn{os.getpid():x}"
    namespaces.create_namespaces(prefix, ["gone"])
    others: list[subprocess.Popen[bytes]] = []

    def meanwhile() -> list[int]:
        namespaces.delete_namespaces(namespaces.namespaces_of(prefix))
        time.sleep(0.5)  # the kernel ends a namespace behind its caller's back, and gives its number to the next
        others.extend(subprocess.Popen(["unshare", "-n", "sleep", "60"]) for _ in range(30))
        wait_until(lambda: all(os.readlink(f"/proc/{other.pid}/exe").endswith("sleep") for other in others))
        return [other.pid for other in others]

    monkeypatch.setattr(namespaces, "_pids", meanwhile)
    try:
        assert namespaces.end_processes(prefix) == []
    finally:
        for other in others:
            other.kill()
            other.wait()


def test_killed_lab_is_swept_with_its_orphans() -> None:
    assert any(_is_told_when_swept(f"cwk{number}{os.getpid():x}") for number in range(8))


def _is_told_when_swept(prefix: str) -> bool:
    """False where another lab, which sweeps when it starts, was faster."""
    victim, orphans, root = started_lab(prefix)
    assert prefix not in records.sweep()
    assert len(namespaces.namespaces_of(prefix)) == 7  # a living lab is left alone
    assert all(runs(pid) for pid in orphans)
    ended(victim, signal.SIGKILL)
    done = subprocess.run(
        [sys.executable, "-m", "cellwall.lab.sweep"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    assert prefix not in records.sweep()
    assert namespaces.namespaces_of(prefix) == []
    assert not any(runs(pid) for pid in orphans)
    assert not root.exists()
    assert not (records.RECORDS / prefix).exists()
    return f"removed {prefix}" in done.stdout


def test_next_lab_sweeps_and_may_take_the_prefix() -> None:
    prefix = f"cwn{os.getpid():x}"
    victim, orphans, _ = started_lab(prefix)
    ended(victim, signal.SIGKILL)
    with Lab(prefix=prefix):
        assert not any(runs(pid) for pid in orphans)
    assert namespaces.namespaces_of(prefix) == []


@pytest.mark.parametrize("made", [1, 4, 6])
def test_lab_killed_while_it_is_built_is_swept(made: int) -> None:
    prefix = f"cwb{os.getpid():x}{made}"
    victim = subprocess.Popen([sys.executable, "-c", VICTIM, prefix], stdout=subprocess.PIPE, text=True)
    while len(namespaces.namespaces_of(prefix)) < made:
        assert victim.poll() is None
    ended(victim, signal.SIGKILL)
    records.sweep()
    wait_until(lambda: not namespaces.namespaces_of(prefix))  # another lab, which sweeps when it starts, may be faster
    time.sleep(0.1)  # would a program that was at work outlive its lab, it could still make namespaces now
    assert namespaces.namespaces_of(prefix) == []
    assert not list(Path(tempfile.gettempdir()).glob(f"{prefix}-*"))


def test_lab_that_is_not_closed_ends_with_its_process() -> None:
    prefix = f"cwx{os.getpid():x}"
    victim, orphans, root = started_lab(prefix)
    ended(victim, signal.SIGINT)
    assert namespaces.namespaces_of(prefix) == []
    assert not any(runs(pid) for pid in orphans)
    assert not root.exists()


def test_file_without_a_namespace_is_deleted_too() -> None:
    """What is left of a lab that was killed between making the file and mounting its namespace on it."""
    path = namespaces.path_of("cwhalf", "node")
    path.touch()
    assert namespaces.namespaces_of("cwhalf") == [path]
    namespaces.delete_namespaces([path, path])
    assert namespaces.namespaces_of("cwhalf") == []


def test_record_of_a_reused_pid_is_dead(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    path = records.register("cwreused", root)
    assert "cwreused" not in records.sweep()
    record = msgspec.json.decode(path.read_bytes(), type=records.Record)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(record, started=record.started - 1)))
    assert "cwreused" in records.sweep()
    assert not path.exists()
    assert not root.exists()


def test_close_ends_programs_and_what_they_left_behind() -> None:
    with Lab() as lab:
        polite = lab.node.popen(["sleep", "1000"])
        stubborn = lab.node.popen(
            ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"], stdout=subprocess.PIPE
        )
        assert stubborn.stdout is not None
        assert stubborn.stdout.readline() == b"ready\n"
        # Its parent ends at once: nobody but its namespace tells that it belongs to the lab.
        orphan = int(lab.lan.run(["sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!"]).text)
        assert runs(orphan)
    assert (polite.returncode, stubborn.returncode) == (-signal.SIGTERM, -signal.SIGKILL)
    assert not runs(orphan)


def test_closing_twice_is_harmless() -> None:
    lab = Lab()
    lab.close()
    lab.close()
    with pytest.raises(LabError, match="closed"):
        lab._custody.loop.settle()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_child_does_not_close_its_parents_lab() -> None:
    with Lab() as lab:
        child = os.fork()
        if child == 0:
            try:
                lab.close()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert lab.node.netns.exists()
        assert lab.root.exists()


def test_namespaces_really_end_with_the_lab() -> None:
    """A socket or a thread left inside would keep the namespace alive without a name: its link would stay up."""
    with Lab() as outer:
        sandbox = outer.sandbox("box")
        outer.node.run(
            ["ip", "link", "add", "probe", "type", "veth", "peer", "name", "eth9", "netns", str(sandbox.netns)]
        )
        left_open = sandbox.socket(2, 1)
        assert left_open.fileno() >= 0
        outer._custody.close()
        outer.delete_sandbox(sandbox)
        deadline = time.monotonic() + 30
        while "probe" in outer.node.run(["ip", "-brief", "link"]).text:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_mounts_below_the_directory_are_not_deleted_through(tmp_path: Path) -> None:
    program = f"""
import subprocess
from pathlib import Path
from cellwall.lab import records
root = Path({str(tmp_path)!r}) / "lab"
(root / "mnt").mkdir(parents=True)
subprocess.run(["mount", "-t", "tmpfs", "none", str(root / "mnt")], check=True)
(root / "mnt" / "precious").write_text("x")
try:
    records.remove_root(root)
except Exception as error:
    print(error)
assert (root / "mnt" / "precious").exists()
"""
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert "is still mounted" in done.stdout


INTERRUPTED = """
import sys, threading
from cellwall.lab import namespaces

real = threading.Thread.start

def start(thread):
    real(thread)
    raise SystemExit(143)  # as a signal's handler does, in whatever the main thread is at

threading.Thread.start = start
try:
    namespaces.create_namespaces(sys.argv[1], [f"h{number}" for number in range(40)])
finally:
    namespaces.delete_namespaces(namespaces.namespaces_of(sys.argv[1]))
"""


def test_who_is_ended_while_namespaces_are_made_removes_all_of_them() -> None:
    prefix = f"cwi{os.getpid():x}"
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, prefix], capture_output=True, timeout=60, check=False)
    left = namespaces.namespaces_of(prefix)
    namespaces.delete_namespaces(left)
    assert (done.returncode, left) == (143, [])
