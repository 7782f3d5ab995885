"""The writer lock excludes, is bounded, dies with its holder and does not outlive its file."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cellwall.adapters.lock import WriterLock
from cellwall.errors import KernelError, Unavailable


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
    code = f"from cellwall.adapters.lock import WriterLock as W; W({path!r}).__enter__(); print(flush=True); input()"
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
