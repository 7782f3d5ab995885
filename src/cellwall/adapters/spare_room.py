"""Room on a file system that is set aside for when it is full.

Somebody else's files may fill the run directory, and what closes a sandbox is journalled first, like everything else.
"""

import os
from contextlib import suppress

SIZE = 2 << 20
"""Octets: what a journal takes for some dozens of operations, or one of a few hundred endpoints."""


class SpareRoom:
    """A file of so many octets that are all allocated, which is given up for what must be written."""

    def __init__(self, path: str, size: int = SIZE) -> None:
        self._path = path
        self._size = size
        self._kept = os.path.exists(path)

    def keep(self) -> None:
        """Set it aside where it is not. What fails is tried again with the next call: nothing depends on it yet."""
        if self._kept:
            return
        with suppress(OSError):
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, self._size)
                self._kept = True
            finally:
                os.close(fd)
                if not self._kept:
                    os.unlink(self._path)

    def spend(self) -> bool:
        """Give it up. False where there was none, so that nothing has changed."""
        self._kept = False
        try:
            os.unlink(self._path)
        except OSError:
            return False
        return True
