"""One SQLite file: how it is opened, written in transactions, and what its failures mean to a caller.

Owns: the file's mode, the journal mode, and the only place that sees sqlite3's errors. A full disk, a read-only or
damaged file are the file's, named by path; another writer that does not let go is Unavailable.
Knows nothing of tables.
"""

import _sqlite3 as sqlite3  # sqlite3 itself adds types that nothing here stores, for 1 ms of a CNI call
import errno
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any, cast

from cellwall.errors import AlreadyExists, CellwallError, Conflict, KernelError, Unavailable

# Primary result codes (sqlite3.h), which the low byte of an extended one is.
_BUSY, _LOCKED, _READ_ONLY, _CORRUPT, _FULL, _CONSTRAINT, _NOT_A_DATABASE = 5, 6, 8, 11, 13, 19, 26
_ERRNO = {_READ_ONLY: errno.EROFS, _FULL: errno.ENOSPC}
_NO_ROOM_FOR_INDEX = sqlite3.SQLITE_IOERR_SHMSIZE  # of the log: 32 KiB that the first who opens it makes


def _nothing() -> None:
    pass


class _Closed:
    """What a connection is after its end: sqlite3 would say so by errors of its own, of some uses."""

    def __init__(self, path: str) -> None:
        self._path = path

    def close(self) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        raise Conflict(f"{self._path}: was closed by this process: open the wall again")


class Database:
    """One connection, used by one thread at a time, whichever it is.

    Every method raises KernelError (ENOSPC, EROFS, EIO …), Conflict (a damaged file), Unavailable (another writer) or
    AlreadyExists (a value that must be unique), each with the path.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.looking = False
        """A `look` goes on."""
        try:
            self._db = _connect(path)
        except sqlite3.Error as error:
            raise _meaning(path, error) from error
        except OSError as error:
            raise KernelError(error.errno or errno.EIO, path) from error

    def close(self) -> None:
        """Idempotent. What is asked afterwards is Conflict."""
        self._db.close()
        self._db = cast(sqlite3.Connection, _Closed(self.path))

    def row(self, statement: str, arguments: Sequence[object] = ()) -> Any:
        """The first row, or None."""
        try:
            return self._db.execute(statement, arguments).fetchone()
        except sqlite3.Error as error:
            raise _meaning(self.path, error) from error

    def rows(self, statement: str, arguments: Sequence[object] = ()) -> list[Any]:
        """All rows."""
        try:
            return self._db.execute(statement, arguments).fetchall()
        except sqlite3.Error as error:
            raise _meaning(self.path, error) from error

    def run(self, statement: str, arguments: Sequence[object] = ()) -> None:
        """A statement that gives no rows."""
        self.end_look()
        try:
            self._db.execute(statement, arguments)
        except sqlite3.Error as error:
            raise _meaning(self.path, error) from error

    def run_each(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        """A statement once for each row of arguments."""
        self.end_look()
        try:
            self._db.executemany(statement, rows)
        except sqlite3.Error as error:
            raise _meaning(self.path, error) from error

    def look(self) -> None:
        """What is read from now on is of one moment, until `end_look` or until this connection writes. Each question
        locks the file and lets go of it else, which takes it longer than the answer. A transaction goes on with what
        was looked at: Unavailable where somebody else has written since."""
        if not self._db.in_transaction:
            self.run("BEGIN")
            self.looking = True

    def end_look(self) -> None:
        """Idempotent, and raises nothing: what was done before it is done, and nothing of a look is to be kept."""
        if self.looking:
            self.looking = False
            if self._db.in_transaction:  # a failure may have ended it already
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")

    def transaction(
        self, last: Callable[[], object] = _nothing, then: Callable[[], object] = _nothing
    ) -> AbstractContextManager[None]:
        """All writes of the block, or none. `last` is called in it, at its end; `then` when it is on disk."""
        return _Transaction(self, last, then)

    def _begin(self) -> None:
        if self.looking and self._db.in_transaction:
            self.looking = False  # the first write makes it one that writes
        else:
            self.run("BEGIN IMMEDIATE")

    def _roll_back(self) -> None:
        if self._db.in_transaction:  # a full disk may have taken it back already
            self.run("ROLLBACK")


class _Transaction:
    """As a generator it would take a tenth of the time of a claim."""

    __slots__ = ("_database", "_last", "_then")

    def __init__(self, database: Database, last: Callable[[], object], then: Callable[[], object]) -> None:
        self._database = database
        self._last = last
        self._then = then

    def __enter__(self) -> None:
        self._database._begin()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        database = self._database
        if kind is not None:
            database._roll_back()
            return
        try:
            self._last()
            database.run("COMMIT")
        except BaseException:
            database._roll_back()
            raise
        self._then()


def _connect(path: str) -> sqlite3.Connection:
    # The file holds no secrets, but who may write it steers the firewall: created 0600 whatever the umask.
    # Only if it is missing: closing any descriptor of a file lets go of all locks that the process has on it
    # (fcntl(2)), those of another connection too, whose log the last other process would then delete.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    db = sqlite3.connect(path, isolation_level=None, timeout=10.0, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
    except BaseException:
        db.close()
        raise
    return db


def _meaning(path: str, error: sqlite3.Error) -> CellwallError:
    extended = getattr(error, "sqlite_errorcode", 0)
    if extended == _NO_ROOM_FOR_INDEX:
        return KernelError(errno.ENOSPC, path, "database or disk is full")
    code = extended & 0xFF
    if code in (_BUSY, _LOCKED):
        return Unavailable(f"{path}: {error}")
    if code in (_CORRUPT, _NOT_A_DATABASE):
        return Conflict(f"{path}: is damaged: {error}")
    if code == _CONSTRAINT:
        return AlreadyExists(f"{path}: {error}")
    return KernelError(_ERRNO.get(code, errno.EIO), path, str(error))
