"""Where the daemon keeps events: in files with shares of what goes, and beside them in systemd's journal."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cellwall.adapters.events.files import event_files, whole_lines
from cellwall.adapters.events.journald import Journal
from cellwall.audit.events import Attempt, event_of
from cellwall.config import Serving
from cellwall.daemon.audit.thread import FilesAndJournal

QUIET = Attempt("2026-01-31T12:00:00.000000Z", "deny", "out", "FWD", "the floor", tenant="quiet", container="one")
LOUD = Attempt("2026-01-31T12:00:01.000000Z", "deny", "out", "FWD", "x" * 900, tenant="loud", container="many")


def test_a_quarter_of_the_files_is_for_what_stays_of_those_that_go(tmp_path: Path) -> None:
    kept = FilesAndJournal(str(tmp_path), Serving(files=4, file_size=1))
    assert kept.append([QUIET]).error == ""
    for _ in range(8):
        assert kept.append([LOUD] * 1000).error == ""
    kept.close()
    paths = event_files(str(tmp_path))
    assert len(paths) == 4
    assert os.path.basename(paths[0]) == "events-00000000.jsonl"
    assert all(os.path.getsize(path) <= 1 << 20 for path in paths)
    tenants = [event_of(line).tenant for _, line in whole_lines(paths[0])]  # type: ignore[union-attr]
    assert tenants.count("quiet") == 1


def test_of_one_file_nothing_stays_beside_it(tmp_path: Path) -> None:
    kept = FilesAndJournal(str(tmp_path), Serving(files=1, file_size=1))
    for _ in range(3):
        assert kept.append([LOUD] * 1000).error == ""
    kept.close()
    assert len(event_files(str(tmp_path))) == 1


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    place = str(tmp_path / "journal")
    monkeypatch.setattr("cellwall.daemon.audit.thread.Journal", lambda: Journal(place))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(place)
        listening.settimeout(10)
        yield listening


def test_the_journal_is_told_of_each_where_it_is_wanted(tmp_path: Path, journal: socket.socket) -> None:
    wanted = FilesAndJournal(str(tmp_path / "log"), Serving(journal=True))
    assert wanted.append([QUIET, LOUD]).written == 2
    told = [journal.recv(65536) for _ in range(2)]
    assert [b"CELLWALL_TENANT=quiet\n" in told[0], b"CELLWALL_TENANT=loud\n" in told[1]] == [True, True]
    wanted.close()


def test_the_journal_is_told_of_none_where_it_is_not(tmp_path: Path, journal: socket.socket) -> None:
    unwanted = FilesAndJournal(str(tmp_path / "log"), Serving())
    assert unwanted.append([QUIET]).written == 1
    journal.setblocking(False)
    with pytest.raises(BlockingIOError):
        journal.recv(65536)
    unwanted.close()
