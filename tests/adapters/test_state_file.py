"""The file of the journal: whose boot it is of, who may read it, and what a disk or a writer that fails is to a
caller."""

import errno
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from adapters.test_store import _endpoint
from cellwall.adapters.record.state_file import SCHEMA_VERSION
from cellwall.adapters.record.store import Store
from cellwall.errors import Conflict, KernelError, Unavailable


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "run", "boot-1")) as opened:
        yield opened


def test_another_boot_starts_empty(tmp_path: Path) -> None:
    store = Store(tmp_path, "boot-1")
    with store.transaction():
        store.write_endpoints([_endpoint()], "attached")
        store.put("foundation", b"{}")
    store.close()
    store = Store(tmp_path, "boot-2")
    assert (store.count(), store.get("foundation")) == (0, None)
    store.close()


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    store = Store(tmp_path, "boot-1")
    store.close()
    raw = sqlite3.connect(tmp_path / "state.db")
    raw.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    raw.close()
    with pytest.raises(Conflict, match="newer"):
        Store(tmp_path, "boot-2")


def test_a_full_disk_is_an_error_with_the_path_and_what_was_written_before_stays(store: Store) -> None:
    with store.transaction():
        store.write_endpoints([_endpoint()], "attached")
    limited(store, "max_page_count", store._db.row("PRAGMA page_count")[0])
    with pytest.raises(KernelError, match=r"state\.db: No space left on device") as refused, store.transaction():
        store.put("word", bytes(1 << 16))
    assert refused.value.errno == errno.ENOSPC
    limited(store, "max_page_count", 1 << 20)
    with store.transaction():
        store.put("word", b"fits")
    assert (store.get("word"), store.endpoints()) == (b"fits", (_endpoint(),))


def test_a_read_only_journal_is_an_error_with_the_path(store: Store) -> None:
    limited(store, "query_only", 1)
    with pytest.raises(KernelError, match=r"state\.db: Read-only file system"), store.transaction():
        store.put("word", b"")
    assert store.get("word") is None


def limited(store: Store, pragma: str, value: int) -> None:
    """What SQLite then answers is what it answers on such a disk."""
    store._db.rows(f"PRAGMA {pragma} = {value}")


@pytest.mark.parametrize("first", [0, 4096], ids=["header", "a page"])
def test_a_damaged_journal_is_an_error_with_the_path(tmp_path: Path, first: int) -> None:
    store = Store(tmp_path, "boot-1")
    with store.transaction():
        store.write_endpoints([_endpoint()], "attached")
    store.close()
    path = tmp_path / "state.db"
    body = path.read_bytes()
    path.write_bytes(body[:first] + b"\xa5" * (len(body) - first))
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(Conflict, match=r"state\.db: is damaged"):
        Store(tmp_path, "boot-1")
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_writer_that_does_not_let_go_is_unavailable(store: Store) -> None:
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    limited(store, "busy_timeout", 1)
    with pytest.raises(Unavailable, match=r"state\.db"), store.transaction():
        pass
    other.close()


def test_a_directory_that_cannot_be_made_is_an_error_with_the_path(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("not a directory")
    with pytest.raises(KernelError, match=r"run/cellwall/state\.db"):
        Store(tmp_path / "run/cellwall", "boot-1")


def test_only_root_reads_the_journal(store: Store) -> None:
    assert stat.S_IMODE(Path(store.path).stat().st_mode) == 0o600


def test_a_removed_journal_is_noticed(store: Store) -> None:
    assert store.in_place()
    Path(store.path).unlink()
    assert not store.in_place()
