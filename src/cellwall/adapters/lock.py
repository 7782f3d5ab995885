"""The writer lock: one file, flock. It dies with its holder, so a crash never leaves it behind."""

import errno
import fcntl
import os
import time

from cellwall.errors import KernelError, Unavailable


class WriterLock:
    """Exclusive over everything that writes on one node. Not reentrant; a wait is bounded by `timeout` seconds.

    A context that is entered again by another thread of the same process waits like any other process: every entry
    opens the file anew, and flock belongs to the open file.
    """

    def __init__(self, path: str | os.PathLike[str], timeout: float = 30.0) -> None:
        self._path = path
        self._timeout = timeout
        self._fds: list[int] = []

    def __enter__(self) -> "WriterLock":
        while True:
            fd = self._open()
            try:
                if self._take(fd):
                    self._fds.append(fd)
                    return self
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # somebody removed the file while we waited: its lock excludes nobody any more

    def __exit__(self, *exception: object) -> None:
        os.close(self._fds.pop())

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError as error:
            raise Unavailable(f"{self._path}: its directory was removed; open the wall again") from error
        except OSError as error:
            raise KernelError(error.errno or errno.EIO, os.fspath(self._path)) from error

    def _in_place(self, fd: int) -> bool:
        try:
            return os.stat(self._path).st_ino == os.fstat(fd).st_ino
        except FileNotFoundError:
            return False

    def _take(self, fd: int) -> bool:
        """Wait for the lock; False where it was taken on a file that is no longer at the path."""
        deadline = time.monotonic() + self._timeout
        pause = 0.0005
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return self._in_place(fd)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Unavailable(f"{self._path}: another writer held the lock for {self._timeout:g} s") from None
            time.sleep(pause)
            pause = min(pause * 1.5, 0.02)
