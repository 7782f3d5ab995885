"""Network namespaces: open one safely, enter one with the calling thread.

Owns: the type check of a namespace descriptor (nsfs, network type), the refusal of the caller's own namespace
where a sandbox is asked for, and `setns`. A thread that entered a namespace is always taken back, also by an
exception; a thread that cannot be taken back ends the process, because everything it did from there on would
reach the wrong namespace.
"""

import errno
import fcntl
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache

from cellwall.errors import InvalidSpec, KernelError, NoPrivilege, NotFound

_CLONE_NEWNET = 0x40000000
_PATH_MAX, _MOST_LINKS = 4096, 40  # linux/limits.h, linux/namei.h
_NS_GET_USERNS, _NS_GET_PARENT, _NS_GET_NSTYPE, _NS_GET_OWNER_UID = 0xB701, 0xB702, 0xB703, 0xB704  # linux/nsfs.h

if sys.version_info >= (3, 12):
    # without ctypes, which costs a CNI call 2 ms
    def _setns(fd: int) -> None:
        os.setns(fd, _CLONE_NEWNET)

else:
    import ctypes

    _libc = ctypes.CDLL(None, use_errno=True)

    def _setns(fd: int) -> None:
        if _libc.setns(fd, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def open_netns(path: str, *, field: str = "netns", walked: bool = False, links: bool = True) -> int:
    """Open a network namespace by path; the descriptor is close-on-exec and the caller's to close.

    What is at the path is found once, and opened as what was found: nothing but a namespace ever is, no device and no
    pipe. `walked`: somebody else says the path, so it leads through no file of a process, where another world of mounts
    begins, and of the kernel's links in /proc names a process' network namespace alone; without `links` it is itself no
    symbolic link. Raises NotFound where nothing is there and InvalidSpec where it is not a network namespace.
    """
    try:
        found = _walk(path, field, links=links) if walked else _find(path)
        try:
            fd = _open_namespace(found)
        finally:
            os.close(found)
    except (FileNotFoundError, NotADirectoryError, ProcessLookupError) as error:
        raise NotFound(f"{field}: no such network namespace: {path!r}") from error
    except PermissionError as error:
        raise NoPrivilege(f"{field}: {path!r}: permission denied") from error
    except (OSError, ValueError) as error:
        # not the whole of an OSError: its text has the path, unbounded and unquoted
        reason = getattr(error, "strerror", None) or error
        raise InvalidSpec(field, path, f"cannot be opened: {reason}") from error
    if fd is None:
        raise InvalidSpec(field, path, "is not a network namespace")
    return fd


def _find(path: str, directory: int | None = None, flags: int = 0) -> int:
    return os.open(path, os.O_PATH | os.O_CLOEXEC | flags, dir_fd=directory)


def _walk(path: str, field: str, *, links: bool) -> int:
    """What is at the path, found name by name. The kernel would go through /proc/PID/root into the mounts of that
    process, and wait there for a file system that answers when its owner likes (FUSE below an overlayfs, which asks as
    whoever mounted it)."""
    if len(path) > _PATH_MAX:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    with ExitStack() as held:

        def find(name: str, directory: int | None = None, flags: int = 0) -> int:
            found = _find(name, directory, flags)
            held.callback(os.close, found)
            return found

        at, names, followed = find("/" if path.startswith("/") else "."), _names(path), 0
        proc = os.stat("/proc").st_dev
        while names:
            name = names.pop()
            found = find(name, at, os.O_NOFOLLOW)
            if not stat.S_ISLNK(os.fstat(found).st_mode):
                at = found
            elif os.fstat(at).st_dev == proc:
                if names or not _names_no_path(os.readlink(name, dir_fd=at)):
                    raise InvalidSpec(field, path, "leads through a link in /proc: name /proc/PID/ns/net or a mount")
                at = find(name, at)
            else:
                followed += 1
                if not (names or links):
                    raise InvalidSpec(field, path, "is a symbolic link: name the namespace itself")
                if followed > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                target = os.readlink(name, dir_fd=at)
                names += _names(target)
                at = find("/") if target.startswith("/") else at
        return os.dup(at)


def _names_no_path(target: str) -> bool:
    """What a link in /proc says that leads to a namespace (`net:[4026531840]`), or to something else without a path."""
    kind, _, number = target.partition(":[")
    return kind.replace("_", "").isalpha() and number.endswith("]") and number[:-1].isdigit()


def _names(path: str) -> list[str]:
    """Those of a path, the first one last."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _open_namespace(found: int) -> int | None:
    """The network namespace that was found, None where it is something else."""
    if os.fstat(found).st_dev != _nsfs():
        return None  # a file of another file system than nsfs, of which there is one
    fd = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if fcntl.ioctl(fd, _NS_GET_NSTYPE) == _CLONE_NEWNET:
            return fd
    except OSError:
        pass
    os.close(fd)
    return None


@cache
def _nsfs() -> int:
    """The device of the file system that namespaces are of: there is one."""
    return os.stat("/proc/thread-self/ns/net").st_dev


def identity(fd: int) -> tuple[int, int]:
    """(device, inode) of a namespace descriptor: equal for equal namespaces for as long as one is held."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def shares_users(fd: int) -> bool:
    """The user namespace that owns this namespace is the caller's own, or one around it."""
    try:
        owner = fcntl.ioctl(fd, _NS_GET_USERNS)
    except PermissionError:  # the kernel shows none that is not inside the caller's
        return True
    try:
        mine = os.stat("/proc/thread-self/ns/user")
        return identity(owner) == (mine.st_dev, mine.st_ino)
    finally:
        os.close(owner)


def made_by(fd: int, user: int) -> bool:
    """The namespace belongs to a user namespace that this user made, or to one inside such a one: what the user rules
    over. One that belongs to the caller's own, or to one around it, is nobody's in that sense."""
    if shares_users(fd):
        return False
    owner = fcntl.ioctl(fd, _NS_GET_USERNS)
    while True:
        number = bytearray(4)
        fcntl.ioctl(owner, _NS_GET_OWNER_UID, number)
        if int.from_bytes(number, sys.byteorder) == user:
            os.close(owner)
            return True
        try:
            outer = fcntl.ioctl(owner, _NS_GET_PARENT)
        except PermissionError:  # that is the caller's own
            return False
        finally:
            os.close(owner)
        owner = outer


def own_identity() -> tuple[int, int]:
    """The identity of the calling thread's namespace."""
    status = os.stat("/proc/thread-self/ns/net")
    return status.st_dev, status.st_ino


def find_identity(path: str, *, walked: bool) -> tuple[int, int] | None:
    """(device, inode) of what is at a path, found as `open_netns` finds it; None where nothing is."""
    try:
        found = _walk(path, "netns", links=True) if walked else _find(path)
    except (OSError, ValueError, InvalidSpec):
        return None
    try:
        return identity(found)
    finally:
        os.close(found)


def namespaces_of_processes() -> dict[tuple[int, int], str]:
    """The identity of each network namespace that some process is in, and a path by which it can be opened for as long
    as that process lives."""
    found: dict[tuple[int, int], str] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            place = f"/proc/{name}/ns/net"
            with suppress(OSError):  # it has ended
                status = os.stat(place)
                found.setdefault((status.st_dev, status.st_ino), place)
    return found


def open_identified(place: str, wanted: tuple[int, int]) -> int | None:
    """Open the namespace at a place of `namespaces_of_processes`; None where that is another one by now."""
    try:
        fd = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    if identity(fd) == wanted:
        return fd
    os.close(fd)
    return None


def open_sandbox(path: str, *, field: str = "netns", walked: bool = False, links: bool = True) -> int:
    """`open_netns`, refusing the namespace the caller itself lives in: a node must never be wired to itself."""
    fd = open_netns(path, field=field, walked=walked, links=links)
    if identity(fd) == own_identity():
        os.close(fd)
        raise InvalidSpec(field, path, "is the node's own network namespace")
    return fd


def setns(fd: int) -> None:
    """Move the calling thread into the network namespace `fd`."""
    try:
        _setns(fd)
    except OSError as error:
        if error.errno == errno.EPERM:
            raise NoPrivilege("setns: entering a network namespace needs CAP_SYS_ADMIN") from error
        raise KernelError(error.errno or 0, "setns") from error


@contextmanager
def entered(fd: int) -> Iterator[None]:
    """The calling thread is inside the namespace `fd` for the length of the block."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(fd)
        try:
            yield
        finally:
            try:
                setns(home)
            except BaseException:
                sys.stderr.write("cellwall: cannot return to the own network namespace\n")
                os._exit(70)
    finally:
        with suppress(OSError):
            os.close(home)


@contextmanager
def enter(path: str | os.PathLike[str]) -> Iterator[None]:
    """The calling thread is inside the namespace at `path` for the length of the block."""
    fd = open_netns(os.fspath(path))
    try:
        with entered(fd):
            yield
    finally:
        os.close(fd)
