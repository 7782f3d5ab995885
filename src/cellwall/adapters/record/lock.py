"""The writer lock: one file, flock. It dies with its holder, so a crash never leaves it behind.

Whoever writes in process takes it for one operation; a daemon holds it for its life, and leaves a file beside it that
says so. While that file is there nobody else writes, also where the daemon is gone for the moment of a restart.
"""

import errno
import fcntl
import os
import time
from collections.abc import Callable

from cellwall.errors import Conflict, Dismissed, KernelError, Unavailable

KEPT = "its daemon writes on this node (node.mode): ask it with cellwall.client, or the command line"


class Held(Unavailable):
    """Another writer did not let go in time."""


class WriterLock:
    """Exclusive over everything that writes on one node. Not reentrant; a wait is bounded by `timeout` seconds.

    A context that is entered again by another thread of the same process waits like any other process: every entry
    opens the file anew, and flock belongs to the open file. `daemon`: the file that says that a daemon writes; then an
    entry is Unavailable at once, but for who has called `hold`.
    """

    def __init__(self, path: str | os.PathLike[str], timeout: float = 30.0, *, daemon: str | None = None) -> None:
        self._path = path
        self._timeout = timeout
        self._daemon = daemon
        self._fds: list[int | None] = []
        self._held: int | None = None
        self._inode = 0

    def __enter__(self) -> "WriterLock":
        if self._held is not None:
            if self._inode_in_place() != self._inode:
                raise Dismissed(f"{self._path}: was removed: cellwall was uninstalled meanwhile")
            self._fds.append(None)
            return self
        fd = self._taken(self._timeout, self._kept)
        if self._kept():
            os.close(fd)
            raise Dismissed(KEPT)
        self._fds.append(fd)
        return self

    def __exit__(self, *exception: object) -> None:
        fd = self._fds.pop()
        if fd is not None:
            os.close(fd)

    def within(self, patience: float) -> "WriterLock":
        """The same lock, for who would rather come back than wait for longer; Held then."""
        return self if self._held is not None else WriterLock(self._path, patience, daemon=self._daemon)

    def hold(self, patience: float) -> None:
        """Take it until `release`: entries of this object, whose callers keep apart from each other, only look whether
        the file is still in place. Where nobody lets go within `patience` seconds, Conflict if that is a daemon, else
        Unavailable."""
        try:
            self._held = self._taken(patience, lambda: False)
            self._inode = os.fstat(self._held).st_ino
        except Unavailable as error:
            if self._kept():
                raise Conflict(f"{self._path}: another daemon holds it: a node has one") from error
            raise

    def release(self) -> None:
        """End what `hold` began. Idempotent."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _kept(self) -> bool:
        return self._daemon is not None and os.path.lexists(self._daemon)

    def _taken(self, patience: float, hopeless: Callable[[], bool]) -> int:
        while True:
            fd = self._open()
            try:
                if self._take(fd, patience, hopeless):
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # somebody removed the file while we waited: its lock excludes nobody any more

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError as error:
            raise Dismissed(f"{self._path}: its directory was removed; open the wall again") from error
        except OSError as error:
            raise KernelError(error.errno or errno.EIO, os.fspath(self._path)) from error

    def _inode_in_place(self) -> int:
        """Of the file at the path; 0: there is none."""
        try:
            return os.stat(self._path).st_ino
        except FileNotFoundError:
            return 0

    def _take(self, fd: int, patience: float, hopeless: Callable[[], bool]) -> bool:
        """Wait for the lock, unless that is hopeless; False where it was taken on a file that is no longer at the
        path."""
        deadline = time.monotonic() + patience
        pause = 0.0005
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return self._inode_in_place() == os.fstat(fd).st_ino
            except BlockingIOError:
                if hopeless():
                    raise Dismissed(KEPT) from None
                if time.monotonic() > deadline:
                    raise Held(f"{self._path}: another writer held the lock for {patience:g} s") from None
            time.sleep(pause)
            pause = min(pause * 1.5, 0.02)
