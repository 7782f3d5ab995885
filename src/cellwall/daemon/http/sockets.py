"""The daemon's socket: a directory that its group may enter, in it a path that the group may connect to.

Owns: who may connect, by owner and mode; that a path of another make is never taken over; and that there is no moment
at which the path is there and nobody listens, or somebody does who may not be let in. It is bound under another name,
and renamed when it is ready.
"""

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from cellwall.errors import Conflict, InvalidSpec, KernelError

BACKLOG = 1024
NAME = "api"
"""What a socket unit calls it (FileDescriptorName=)."""


@contextmanager
def listening(path: str, group: int | None) -> Iterator[socket.socket]:
    """The socket at `path`, for root and for the members of `group`. Who holds the writer lock calls it: what listened
    there before is dead. Conflict where something else is in the way."""
    directory = _directory(os.path.dirname(path), group)
    try:
        name = os.path.basename(path)
        _refuse_others(directory, name, path)
        draft = f".{name}.draft"
        with suppress(FileNotFoundError):
            os.unlink(draft, dir_fd=directory)  # of one that was killed in here
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
            before = os.umask(0o177)
            try:
                sock.bind(_place(directory, draft))
            finally:
                os.umask(before)
            try:
                _let_in(directory, draft, group)
                sock.listen(BACKLOG)
                os.rename(draft, name, src_dir_fd=directory, dst_dir_fd=directory)
            except BaseException:
                os.unlink(draft, dir_fd=directory)
                raise
            inode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_ino
            try:
                yield sock
            finally:
                _unlink_own(directory, name, inode)
    except OSError as error:
        raise KernelError(error.errno or errno.EIO, path) from error
    finally:
        os.close(directory)


@contextmanager
def handed_over(fd: int, path: str, group: int | None) -> Iterator[socket.socket]:
    """The socket that a service manager listens with, and goes on to after this process. It must be at `path`; who may
    connect is set as for one's own."""
    with socket.socket(fileno=fd) as sock:
        if sock.family != socket.AF_UNIX or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise InvalidSpec("LISTEN_FDS", fd, "is no unix socket that listens")
        if os.path.realpath(sock.getsockname()) != os.path.realpath(path):
            raise InvalidSpec("ListenStream", sock.getsockname(), f"must be {path}")
        let_in(path, group)
        yield sock


def let_in(path: str, group: int | None) -> None:
    """Have exactly root and this group connect from now on."""
    directory = _directory(os.path.dirname(path), group)
    try:
        _let_in(directory, os.path.basename(path), group)
    except OSError as error:
        raise KernelError(error.errno or errno.EIO, path) from error
    finally:
        os.close(directory)


def _directory(path: str, group: int | None) -> int:
    """The directory, made where it is missing, open; Conflict where somebody else could put a socket into it."""
    try:
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            raise Conflict(f"{path}: is no directory") from error
        raise KernelError(error.errno or errno.EIO, path) from error
    if os.fstat(fd).st_uid != os.geteuid():
        os.close(fd)
        raise Conflict(f"{path}: belongs to uid {os.stat(path).st_uid}")
    os.fchmod(fd, 0o700)  # nobody comes by while it changes hands
    os.fchown(fd, -1, os.getegid() if group is None else group)
    if group is not None:
        os.fchmod(fd, 0o750)
    return fd


def _let_in(directory: int, name: str, group: int | None) -> None:
    if not stat.S_ISSOCK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
        raise Conflict(f"{name}: is no socket")
    at = _place(directory, name)
    os.chmod(at, 0o600)
    os.chown(at, -1, os.getegid() if group is None else group)
    if group is not None:
        os.chmod(at, 0o660)


def _refuse_others(directory: int, name: str, path: str) -> None:
    """What a dead daemon left is in nobody's way; what is no socket, or one that somebody answers at, is not ours."""
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise Conflict(f"{path}: is no socket, and not ours to remove")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(_place(directory, name))
        except ConnectionRefusedError:
            return
        except BlockingIOError:
            pass  # a full queue: somebody listens
    raise Conflict(f"{path}: somebody else listens there")


def _unlink_own(directory: int, name: str, inode: int) -> None:
    with suppress(FileNotFoundError):
        if os.stat(name, dir_fd=directory, follow_symlinks=False).st_ino == inode:
            os.unlink(name, dir_fd=directory)


def _place(directory: int, name: str) -> str:
    """A path of bounded length, by no link and no other directory: an address of a unix socket has 108 octets."""
    return f"/proc/self/fd/{directory}/{name}"
