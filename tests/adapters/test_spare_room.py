"""The room that is set aside for what closes, where a file system that is full gives a part of it."""

import errno
import os
from pathlib import Path

import pytest

from cellwall.adapters.record.state_file import LOAN, SPARE, SpareRoom


@pytest.fixture
def room(tmp_path: Path) -> SpareRoom:
    return SpareRoom(str(tmp_path / "spare"))


def allocate_a_part(fd: int, start: int, size: int) -> None:
    """As ext4 does it: what it allocated before it found no more stays allocated, and the file that much longer."""
    os.truncate(fd, max(os.fstat(fd).st_size, start + size - 4096))
    raise OSError(errno.ENOSPC, "no more")


def test_of_what_was_lent_no_part_is_taken_back(
    room: SpareRoom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.keep()
    monkeypatch.setattr("os.posix_fallocate", allocate_a_part)
    assert (tmp_path / "spare").stat().st_size == SPARE
    assert room.lend(LOAN)
    room.keep()
    assert (tmp_path / "spare").stat().st_size == SPARE - LOAN
    assert room.spend()


def test_a_part_alone_is_not_kept(room: SpareRoom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.posix_fallocate", allocate_a_part)
    room.keep()
    assert not (tmp_path / "spare").exists()
    assert not room.spend()
