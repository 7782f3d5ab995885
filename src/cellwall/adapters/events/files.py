"""Lines in files of bounded size and number: `events-00000001.jsonl` and on, the highest number is the present one.
Number 0 is what stays of files that went, each tenant's share of it (`event_shares`).

A file is never renamed, so that who reads one to its end finds the next by its name. Owner and mode let root alone read
them: a file knows no tenants, and everybody's events lie side by side. Who may see some of them asks the daemon.

Owns: where one file ends and the next begins, that a line is whole or not there, and what is thrown away. Does not wait
for the disk to have it: an event is not worth a packet's time, and a crash of the machine may cost the last of them.
"""

import errno
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress

import msgspec

from cellwall.adapters.events.shares import keep_shares

_CHUNK = 1 << 18
_NAME = re.compile(r"events-(\d{8})\.jsonl")


def _name_of(number: int) -> str:
    return f"events-{number:08}.jsonl"


_SHARES = _name_of(0)
"""What stays of files that go: it is written over, and none of those that follow one another."""


def event_files(directory: str) -> list[str]:
    """The paths of all that are there, in the order in which they were written; none where there is no directory."""
    try:
        names = sorted(name for name in os.listdir(directory) if _NAME.fullmatch(name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [os.path.join(directory, name) for name in names]


class Appended(msgspec.Struct, frozen=True):
    """How many lines were written, and why no more; "" where it was all of them."""

    written: int
    error: str = ""


class EventFiles:
    """The one writer below a directory, which need not exist yet. `size`: octets after which a file is followed by the
    next; `count`: files that are kept; `shares`: octets that stay of those that go."""

    def __init__(self, directory: str, *, size: int, count: int, shares: int = 0) -> None:
        self._directory = directory
        self._size = size
        self._count = count
        self._shares = shares
        self._fd: int | None = None
        self._path = ""
        self._length = 0

    def append(self, lines: Sequence[bytes]) -> Appended:
        """Write these, each with its end: as many as go, none of them half."""
        written = 0
        try:
            while written < len(lines):
                self._make_room(len(lines[written]))
                taken = self._fitting(lines, written)
                self._write(b"".join(lines[written : written + taken]))
                written += taken
        except OSError as error:
            return Appended(written, str(error))
        return Appended(written)

    def _fitting(self, lines: Sequence[bytes], first: int) -> int:
        room, taken = self._size - self._length, 0
        while first + taken < len(lines) and (not taken or len(lines[first + taken]) <= room):
            room -= len(lines[first + taken])
            taken += 1
        return taken

    def close(self) -> None:
        """Idempotent."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _make_room(self, wanted: int) -> None:
        """An open file that has room, or has nothing; not one that somebody took away meanwhile."""
        if self._fd is not None and not self._in_place():
            self.close()
        if self._fd is None:
            present = self._present()
            self._open(present[-1] if present else self._numbered(1))
        if self._length and self._length + wanted > self._size:
            number = int(_NAME.fullmatch(os.path.basename(self._path))[1])  # type: ignore[index]
            self.close()
            self._open(self._numbered(number + 1))

    def _open(self, path: str) -> None:
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd, self._path = os.open(path, flags, 0o600), path
        self._length = os.fstat(self._fd).st_size
        if self._length and os.pread(self._fd, 1, self._length - 1) != b"\n":
            self._write(b"\n")  # a line that a crash tore: who reads passes it over, and the next one is whole
        self._drop(self._present()[: -self._count])

    def _present(self) -> list[str]:
        """Those that are written one after the other."""
        return [path for path in event_files(self._directory) if not path.endswith(_SHARES)]

    def _drop(self, old: Sequence[str]) -> None:
        kept = os.path.join(self._directory, _SHARES)
        if old and self._shares:
            with suppress(OSError):  # a disk that is full: the files go all the same, and make room
                keep_shares([kept, *old], kept, self._shares)
        for path in old:
            os.unlink(path)

    def _write(self, octets: bytes) -> None:
        assert self._fd is not None
        written = 0
        try:
            while written < len(octets):
                taken = os.write(self._fd, octets[written:])
                if not taken:
                    raise OSError(errno.EIO, os.strerror(errno.EIO), self._path)
                written += taken
        except OSError:
            if written:
                self._take_back()
            raise
        self._length += written

    def _take_back(self) -> None:
        fd, self._fd = self._fd, None
        assert fd is not None
        try:
            os.ftruncate(fd, self._length)
        finally:
            os.close(fd)

    def _in_place(self) -> bool:
        assert self._fd is not None
        try:
            there = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(self._fd))

    def _numbered(self, number: int) -> str:
        return os.path.join(self._directory, _name_of(number))


def whole_lines(path: str, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Each line from an offset on, without its end, and where it ends; not one that is being written. None where the
    file is gone."""
    rest = b""
    try:
        file = open(path, "rb", buffering=0)  # noqa: SIM115
    except FileNotFoundError:
        return
    with file:
        file.seek(start)
        while chunk := file.read(_CHUNK):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                start += len(line) + 1
                yield start, line


class Following:
    """What is written from now on, or `from_start` everything, also beyond the present file. Where somebody takes files
    away, or empties one, it goes on with what is written then."""

    def __init__(self, directory: str, *, from_start: bool = False) -> None:
        self._directory = directory
        self._shares = from_start
        self._path, self._inode, self._offset = "", 0, 0
        present = [] if from_start else event_files(directory)
        if present:
            self._begin(present[-1])
            self._offset = _there(self._path)[1]

    def read(self) -> Iterator[bytes]:
        """The lines that came since the last call, as they are read."""
        while True:
            present = [path for path in event_files(self._directory) if self._shares or not path.endswith(_SHARES)]
            if self._path and not any(path >= self._path for path in present):
                self._begin("")
                self._shares = False  # what stays of former files has been told
                continue
            later = [path for path in present if path > self._path]
            inode, size = _there(self._path)
            if inode and (inode != self._inode or size < self._offset):
                self._begin(self._path)
            for end, line in whole_lines(self._path, self._offset) if self._path else ():
                self._offset = end
                yield line
            if not later:
                return
            self._begin(later[0])

    def _begin(self, path: str) -> None:
        self._path, self._inode, self._offset = path, _there(path)[0], 0


def _there(path: str) -> tuple[int, int]:
    """A file's inode and size in octets, both 0 where it is gone."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return 0, 0
    return found.st_ino, found.st_size
