"""The engine's view of sandbox namespaces, over `cellwall.adapters.sandbox.netns`.

ctypes and threading are imported where a namespace is made or removed: a container runtime brings its own, and its
plugin is a process per call.
"""

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cellwall.adapters.sandbox import netns
from cellwall.engine.contracts import Namespace
from cellwall.errors import AlreadyExists, InvalidSpec, KernelError, NotFound

if TYPE_CHECKING:
    from ctypes import CDLL

_MS_BIND = 0x1000
_MNT_DETACH = 0x2
_CLONE_NEWNET = 0x40000000
_REST = 10
"""For so many times as long as a look at all processes took there is none again for who was not in it: a thousand
endpoints may be asked about."""


class ProcNamespaces:
    """Named namespaces as mounts, the way `ip netns` keeps them. `serving`: others than who resolves it say what is
    opened, and have no say in how long that takes."""

    def __init__(self, *, serving: bool = False) -> None:
        self._serving = serving
        self._processes: dict[tuple[int, int], str] = {}
        self._due = float("-inf")

    @contextmanager
    def opened(self, path: str, *, asked: bool = False) -> Iterator[Namespace]:
        fd = netns.open_sandbox(path, walked=self._serving, links=not asked)
        try:
            yield Namespace(os.path.abspath(path), fd, *netns.identity(fd))
        finally:
            os.close(fd)

    @contextmanager
    def attached(self, path: str, identity: tuple[int, int]) -> Iterator[Namespace]:
        try:
            fd = netns.open_sandbox(path, walked=self._serving)
        except (InvalidSpec, NotFound):
            if (held := self._of_a_process(path, identity)) is None:
                raise
            fd = held
        try:
            if netns.identity(fd) != identity and (held := self._of_a_process(path, identity)) is not None:
                os.close(fd)
                fd = held
            yield Namespace(path, fd, *netns.identity(fd))
        finally:
            os.close(fd)

    def _of_a_process(self, path: str, identity: tuple[int, int]) -> int | None:
        """By the process that was named, or else any that is in it now."""
        if not path.startswith("/proc/"):
            return None
        known = self._processes.get(identity)
        if known is not None and (fd := netns.open_identified(known, identity)) is not None:
            return fd
        began = time.monotonic()
        if known is not None or began >= self._due:
            self._processes = netns.namespaces_of_processes()
            self._due = time.monotonic() + _REST * (time.monotonic() - began)
        place = self._processes.get(identity)
        return None if place is None else netns.open_identified(place, identity)

    def shares_users(self, namespace: Namespace) -> bool:
        return netns.shares_users(namespace.fd)

    def made_by(self, namespace: Namespace, user: int) -> bool:
        return netns.made_by(namespace.fd, user)

    def identity_of(self, path: str) -> tuple[int, int] | None:
        return netns.find_identity(path, walked=self._serving)

    def identity_of_own(self, path: str) -> tuple[int, int] | None:
        try:
            status = os.lstat(path)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def create(self, path: str) -> None:
        try:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
        except FileExistsError as error:
            raise AlreadyExists(f"netns: {path}: exists already") from error
        except OSError as error:
            raise KernelError(error.errno or errno.EIO, f"make a network namespace at {path}") from error
        import threading

        failure: list[BaseException] = []
        # A thread of its own: one that unshared its namespace must never run anything else.
        maker = threading.Thread(target=_make, args=(path, failure), name="cellwall-netns")
        try:
            maker.start()
        except RuntimeError:  # that is how Python tells that the kernel gave none
            os.unlink(path)
            raise KernelError(errno.EAGAIN, f"make a network namespace at {path}", "no thread can be had") from None
        maker.join()
        if failure:
            os.unlink(path)
            raise failure[0]

    def remove(self, path: str) -> None:
        try:
            _libc().umount2(os.fsencode(path), _MNT_DETACH)
            os.unlink(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise KernelError(error.errno or errno.EIO, f"remove the network namespace at {path}") from error

    def kept(self, directory: str) -> list[str]:
        try:
            return sorted(entry.path for entry in os.scandir(directory) if entry.is_file(follow_symlinks=False))
        except (FileNotFoundError, NotADirectoryError):
            return []


def _libc() -> "CDLL":
    from ctypes import CDLL

    return CDLL(None, use_errno=True)


def _make(path: str, failure: list[BaseException]) -> None:
    try:
        from ctypes import get_errno

        libc = _libc()
        if libc.unshare(_CLONE_NEWNET) != 0:
            raise KernelError(get_errno(), "unshare of a network namespace")
        if libc.mount(b"/proc/thread-self/ns/net", os.fsencode(path), None, _MS_BIND, None) != 0:
            raise KernelError(get_errno(), f"mount of a network namespace at {path}")
    except BaseException as error:  # reported by the thread that waits
        failure.append(error)
