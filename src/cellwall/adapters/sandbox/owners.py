"""Which attachments belong to a living process: those of `cellwall run`, and nothing else.

A process that attaches for its own lifetime holds a lock file under `run/owners` from before the attach until after
the detach. flock(2) ends with the process, however it dies, so a file that can be locked by someone else names an
attachment that nobody will detach. Process ids are no substitute: they are reused, and a start time read back from
/proc races with that.

Owns: the directory `owners`, its lock files and the files beside them (same stem, other suffix). Refuses: to decide
what happens to an abandoned attachment (`cellwall.engine.attachments.dead`).
"""

import contextlib
import fcntl
import os
import time
from pathlib import Path

from cellwall.errors import Conflict
from cellwall.names import owner_file

_PATIENCE = 2.0
_PAUSE = 0.02


class Owner:
    """A held lock: this process answers for the attachment `container_id`. `inherited`: an earlier process died with
    it, so something of that name may still be attached."""

    def __init__(self, fd: int, path: Path, container_id: str, *, inherited: bool) -> None:
        self._fd = fd
        self._path = path
        self.container_id = container_id
        self.inherited = inherited

    def beside(self, suffix: str) -> Path:
        """A file that belongs to the attachment and goes with it."""
        return self._path.with_suffix(suffix)

    def forget(self) -> None:
        """The attachment is gone: remove its files and let go."""
        for path in self._path.parent.glob(f"{self._path.stem}.*"):
            if path != self._path:
                path.unlink(missing_ok=True)
        # Last, and before the lock is let go: whoever opened the old file notices that it has no name any more.
        self._path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Let go and leave the files: the next reconcile finds the attachment abandoned."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def claim(run: Path, container_id: str) -> Owner:
    """Answer for an attachment from now on. Raises Conflict while another process does."""
    directory = run / "owners"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / owner_file(container_id)
    deadline = time.monotonic() + _PATIENCE
    while (fd := _lock(path, os.O_CREAT)) is None:
        # Others hold the lock for a moment, to see whether anyone does.
        if time.monotonic() > deadline:
            raise Conflict(f"container {container_id}: another process runs it")
        time.sleep(_PAUSE)
    inherited = bool(os.pread(fd, 1, 0))
    os.pwrite(fd, container_id.encode(), 0)
    return Owner(fd, path, container_id, inherited=inherited)


def abandoned(run: Path, container_id: str = "") -> tuple[Owner, ...]:
    """The attachments whose process is gone, or only this container's; each locked by the caller now, who detaches and
    then `forget`s, or `release`s."""
    found = []
    directory = run / "owners"
    try:
        paths = [directory / owner_file(container_id)] if container_id else sorted(directory.glob("*.lock"))
    except OSError:
        return ()
    for path in paths:
        fd = _lock(path, 0)
        if fd is None:
            continue
        # An empty file is a claim that died between making it and naming it: nothing was attached yet.
        named = os.pread(fd, 4096, 0).decode(errors="replace")
        owner = Owner(fd, path, named, inherited=True)
        if named:
            found.append(owner)
        else:
            owner.forget()
    return tuple(found)


def _lock(path: Path, flags: int) -> int | None:
    """Open and lock a file that still has its name; None where it is held, gone or replaced meanwhile."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600)
    except FileNotFoundError:
        return None
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_ino == os.stat(path).st_ino:
            return fd
    os.close(fd)
    return None
