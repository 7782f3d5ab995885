"""The writer lock excludes, is bounded, dies with its holder and does not outlive its file."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cellwall.adapters.record.lock import WriterLock
from cellwall.errors import Conflict, KernelError, Unavailable


def test_a_second_writer_waits_only_so_long(tmp_path: Path) -> None:
    with (
        WriterLock(tmp_path / "lock"),
        pytest.raises(Unavailable, match="another writer"),
        WriterLock(tmp_path / "lock", timeout=0.05),
    ):
        pytest.fail("two writers")


def test_one_writer_at_a_time_among_threads(tmp_path: Path) -> None:
    lock, inside, most = WriterLock(tmp_path / "lock"), [0], [0]

    def work() -> None:
        for _ in range(20):
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    code = (
        "from cellwall.adapters.record.lock import WriterLock\n"
        f"WriterLock({path!r}).__enter__(); print(flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(Unavailable), WriterLock(tmp_path / "lock", timeout=0.02):
            pytest.fail("two writers")
        holder.kill()
        holder.wait()
        with WriterLock(tmp_path / "lock", timeout=1.0):
            pass


def test_a_lock_on_a_removed_file_is_taken_anew(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = WriterLock(path)
    first.__enter__()
    entered = threading.Event()

    def second() -> None:
        with WriterLock(path, timeout=5.0):
            entered.set()

    waiter = threading.Thread(target=second)
    waiter.start()
    time.sleep(0.05)
    path.unlink()
    first.__exit__()
    waiter.join()
    assert entered.is_set()
    assert path.exists(), "the waiter made the file anew and locked that one"


def test_a_directory_that_is_gone_or_is_none_is_an_error_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="gone/lock"), WriterLock(tmp_path / "gone" / "lock"):
        pytest.fail("locked")
    (tmp_path / "file").write_text("")
    with pytest.raises(KernelError, match="file/lock"), WriterLock(tmp_path / "file" / "lock"):
        pytest.fail("locked")


def test_a_lock_that_is_held_is_entered_again_and_again_and_by_nobody_else(tmp_path: Path) -> None:
    held = WriterLock(tmp_path / "lock")
    held.hold(1.0)
    for _ in range(2):
        with held, pytest.raises(Unavailable), WriterLock(tmp_path / "lock", timeout=0.01):
            pytest.fail("two writers")
    held.release()
    with WriterLock(tmp_path / "lock", timeout=0.01):
        pass


def test_a_held_lock_whose_file_was_removed_lets_nobody_write(tmp_path: Path) -> None:
    held = WriterLock(tmp_path / "lock")
    held.hold(1.0)
    (tmp_path / "lock").unlink()
    with pytest.raises(Unavailable, match="uninstalled"), held:
        pytest.fail("wrote beside whoever made the file anew")
    held.release()


def test_who_waits_for_the_lock_of_a_daemon_is_refused_at_once(tmp_path: Path) -> None:
    record = tmp_path / "mode"
    held = WriterLock(tmp_path / "lock", daemon=str(record))
    held.hold(1.0)
    record.write_text("daemon")
    with pytest.raises(Unavailable, match=r"node\.mode"), WriterLock(tmp_path / "lock", 3600, daemon=str(record)):
        pytest.fail("two writers")
    with held:
        pass
    held.release()


def test_while_a_daemon_is_on_record_nobody_writes_in_its_absence(tmp_path: Path) -> None:
    record = tmp_path / "mode"
    record.write_text("daemon")
    with pytest.raises(Unavailable, match=r"node\.mode"), WriterLock(tmp_path / "lock", daemon=str(record)):
        pytest.fail("wrote while the daemon was gone for a moment")
    again = WriterLock(tmp_path / "lock", daemon=str(record))
    again.hold(1.0)
    again.release()


def test_a_second_daemon_is_told_of_the_first(tmp_path: Path) -> None:
    record = tmp_path / "mode"
    first, second = (WriterLock(tmp_path / "lock", daemon=str(record)) for _ in range(2))
    first.hold(1.0)
    with pytest.raises(Unavailable, match="another writer"):
        second.hold(0.01)
    record.write_text("daemon")
    with pytest.raises(Conflict, match="another daemon"):
        second.hold(0.01)
    first.release()
    second.hold(0.01)
    second.release()
