"""The file that describes one boot of one node: an SQLite database in the run directory, with room set aside beside it.

A file of another boot is discarded (its links and rules are gone with that boot), a file of a newer schema is refused,
one of an older schema taken over under its endpoints. WAL with synchronous=FULL: 0.17 ms a transaction on a disk, less
on the tmpfs that a run directory is.

Owns: the file from its making to its end, and named records in it: what `up` did, the policy-version counter. What its
other tables hold is `store`'s.
"""

import errno
import os
from contextlib import suppress

from cellwall.adapters.record.database import Database
from cellwall.errors import Conflict, KernelError

SCHEMA_VERSION = 5
"""Of the tables that `cellwall.adapters.record.store_schema` makes, or makes of older ones."""

SPARE = 2 << 20
"""Octets: what a journal takes for some dozens of operations, or one of a few hundred endpoints."""

LOAN = 64 << 10
"""Octets of it: what who opens a file that nobody has open needs beside it, and as much for a small operation."""


class SpareRoom:
    """A file of so many octets that are all allocated, which is given up for what must be written, or a part of it."""

    def __init__(self, path: str, size: int = SPARE) -> None:
        self._path = path
        self._size = size
        self._kept = self._found() == size

    def _found(self) -> int:
        try:
            return os.stat(self._path).st_size
        except OSError:
            return 0

    def keep(self) -> None:
        """Set it aside where it is not. What fails is tried again with the next call: nothing depends on it yet."""
        if self._kept:
            return
        lent = self._found()
        with suppress(OSError):
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, self._size)
                self._kept = True
            except OSError:
                os.truncate(fd, lent)  # ext4 leaves allocated what it found, which somebody needs now
                if not lent:
                    os.unlink(self._path)
            finally:
                os.close(fd)

    def lend(self, octets: int) -> bool:
        """Give up so many of it, until the next `keep` that finds room. False where there are none."""
        self._kept = False
        with suppress(OSError):
            if (found := self._found()) > octets:
                os.truncate(self._path, found - octets)
                return True
        return False

    def spend(self) -> bool:
        """Give it up. False where there was none, so that nothing has changed."""
        self._kept = False
        try:
            os.unlink(self._path)
        except OSError:
            return False
        return True


def _refuse_anothers(directory: str, path: str) -> None:
    """Raise Conflict where the record, or what lies beside it, may be somebody else's. One that stands is gone by
    also where another could be put in its place, as nobody would begin one there: what is open by it is to be
    closed."""
    if not os.path.exists(path):
        from cellwall.adapters.record.trusted_path import (
            refuse_others_directories,  # here and not above: one is begun once a boot
        )

        refuse_others_directories(directory)
    for place in (directory, path):
        with suppress(FileNotFoundError, NotADirectoryError):
            found = os.stat(place)
            if found.st_uid not in (0, os.geteuid()):
                raise Conflict(f"{place}: belongs to uid {found.st_uid}")
            if found.st_mode & 0o002:
                raise Conflict(f"{place}: others may write here (mode {found.st_mode & 0o7777:o})")


class StateFile:
    """One connection. KernelError where the directory cannot be made, Conflict for a file of a newer schema, or where
    somebody else than root may have made it, or may put another in its place, and what `Database` raises."""

    def __init__(self, directory: str | os.PathLike[str], boot_id: str) -> None:
        self.path = os.path.join(directory, "state.db")
        _refuse_anothers(os.fspath(directory), self.path)
        try:
            os.makedirs(directory, exist_ok=True, mode=0o750)
        except OSError as error:
            raise KernelError(error.errno or errno.EIO, self.path) from error
        self._spare = SpareRoom(os.path.join(directory, "spare"))
        self._db = self._opened()
        self._seen: dict[str, bytes | None] = {}
        try:
            version = int(self._db.row("PRAGMA user_version")[0])
            if version > SCHEMA_VERSION:
                raise Conflict(f"{self.path}: written by a newer cellwall (schema {version})")
            if version == 0:
                self._create(boot_id)
            elif self.get("boot_id") != boot_id.encode():
                self._discard()
                self._create(boot_id)
            elif version < SCHEMA_VERSION:
                self._upgrade()
        except BaseException:
            self._db.close()
            raise
        self._inode = os.stat(self.path).st_ino

    def _opened(self) -> Database:
        """Also on a full disk: who cannot open the file can close nothing."""
        try:
            return Database(self.path)
        except KernelError as error:
            if error.errno != errno.ENOSPC or not self._spare.lend(LOAN):
                raise
            return Database(self.path)

    def _create(self, boot_id: str) -> None:
        from cellwall.adapters.record.store_schema import (
            create,  # here and not above: nearly all find the tables as they are
        )

        with self._db.transaction():
            create(self._db, boot_id)
            self._db.run(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _upgrade(self) -> None:
        from cellwall.adapters.record.store_schema import upgrade

        with self._db.transaction():
            upgrade(self._db)
            self._db.run(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _discard(self) -> None:
        self._db.close()
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.unlink(f"{self.path}{suffix}")
        self._db = Database(self.path)

    def close(self) -> None:
        self._db.close()

    def in_place(self) -> bool:
        """The file that is open is still the one at its path: nobody removed the run directory meanwhile."""
        try:
            return os.stat(self.path).st_ino == self._inode
        except FileNotFoundError:
            return False

    def look(self) -> None:
        """What is read from now on is of one moment, until `end_look` or the next write: for who is the only writer."""
        self._seen.clear()
        self._db.look()

    def end_look(self) -> None:
        """Idempotent."""
        self._db.end_look()

    def keep_spare_room(self) -> None:
        """Set room aside for what closes, where it is not. Never raises."""
        self._spare.keep()

    def spend_spare_room(self) -> bool:
        """Give up what is set aside, for one operation that closes: nothing else is journalled on a full disk. False
        where there is none."""
        return self._spare.spend()

    def get(self, key: str) -> bytes | None:
        """A named record, or None. In one look it is read once."""
        if not self._db.looking:
            return self._read(key)
        if key not in self._seen:
            self._seen[key] = self._read(key)
        return self._seen[key]

    def _read(self, key: str) -> bytes | None:
        row = self._db.row("SELECT value FROM meta WHERE key = ?", (key,))
        return None if row is None else bytes(row[0])

    def put(self, key: str, value: bytes) -> None:
        """Write a named record."""
        self._db.run("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def drop(self, key: str) -> None:
        """Remove a named record; tolerates absence."""
        self._db.run("DELETE FROM meta WHERE key = ?", (key,))
