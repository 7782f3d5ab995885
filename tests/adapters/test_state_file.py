"""The file of the journal: whose boot it is of, who may read it, and what a disk or a writer that fails is to a
caller."""

import errno
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
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


def mode(bits: int, group: int = 0) -> Callable[[Path], None]:
    def set_on(place: Path) -> None:
        os.chown(place, 0, group)
        place.chmod(bits)

    return set_on


def others(place: Path) -> None:
    os.chown(place, 1000, 1000)


def others_below(place: Path) -> None:
    place.chmod(0o1777)
    (place / "run").mkdir()
    others(place / "run")


def others_link(place: Path) -> None:
    """To where all is in order."""
    place.chmod(0o1777)
    (place.parent / "target").mkdir()
    (place / "run").symlink_to(place.parent / "target")
    os.chown(place / "run", 1000, 1000, follow_symlinks=False)


def link_to_others(place: Path) -> None:
    (place.parent / "target").mkdir()
    (place / "run").symlink_to(place.parent / "target")
    others(place.parent / "target")


@pytest.mark.root
@pytest.mark.parametrize(("above", "why"), [
    (mode(0o777), r"/place lets others rename what is in it \(mode 777\)"),
    (mode(0o770, group=1000), r"/place lets others rename what is in it \(mode 770\)"),
    (others, "/place belongs to uid 1000"), (others_below, "/place/run belongs to uid 1000"),
    (others_link, "/place/run belongs to uid 1000"), (link_to_others, "/target belongs to uid 1000"),
    (mode(0o1777), ""), (mode(0o755, group=1000), ""), (mode(0o770), ""),
])  # fmt: skip
def test_a_record_is_made_where_nobody_else_may_put_another(
    tmp_path: Path, above: Callable[[Path], None], why: str
) -> None:
    """Whoever owns a directory on the way, or writes into one that is not sticky, moves what root has made there."""
    place, run = tmp_path / "place", tmp_path / "place" / "run" / "cellwall"
    place.mkdir()
    above(place)
    if not why:
        Store(run, "boot-1").close()
        return
    with pytest.raises(Conflict, match=rf"^{run}: may be another's than root's: {tmp_path}{why}$"):
        Store(run, "boot-1")
    assert not run.exists(), "nothing is changed"


@pytest.mark.root
def test_a_record_lies_in_no_directory_that_others_write_into_sticky_or_not(tmp_path: Path) -> None:
    """As a tmpfs is that was mounted with no mode."""
    run = tmp_path / "run"
    run.mkdir()
    run.chmod(0o1777)
    with pytest.raises(Conflict, match=rf"^{run}: others may write here \(mode 1777\)$"):
        Store(run, "boot-1")
    assert list(run.iterdir()) == []


@pytest.mark.root
def test_a_record_that_stands_is_closed_by_whatever_became_of_what_is_above_and_not_if_it_is_anothers(
    tmp_path: Path,
) -> None:
    run = tmp_path / "place" / "run"
    Store(run, "boot-1").close()
    run.parent.chmod(0o777)
    Store(run, "boot-1").close()
    for path, mode, why in (
        (run, 0o777, "others may write here"),
        (run, 0o750, "belongs to uid 1000"),
        (run / "state.db", 0o600, "belongs to uid 1000"),
    ):
        path.chmod(mode)
        os.chown(path, 1000 if "uid" in why else 0, 0)
        with pytest.raises(Conflict, match=rf"^{path}: {why}"):
            Store(run, "boot-1")
        os.chown(path, 0, 0)
        path.chmod(0o750)
    Store(run, "boot-1").close()


def test_a_removed_journal_is_noticed(store: Store) -> None:
    assert store.in_place()
    Path(store.path).unlink()
    assert not store.in_place()
