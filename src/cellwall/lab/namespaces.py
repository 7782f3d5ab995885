"""Named network namespaces of one lab, and the processes that live in them.

Owns: `/run/netns/<prefix>-<name>`, created and deleted in batches. A prefix has no dash, so that no prefix
is the beginning of another one's names. Refuses to signal a process that is not inside a namespace of the
prefix: the check and the signal go through one pidfd, so a reused pid is never hit.
"""

import ctypes
import errno
import fcntl
import os
import re
import secrets
import select
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from pathlib import Path

from cellwall.errors import LabError, printable

RUN = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_MS_BIND, _MS_REC, _MS_SHARED, _MNT_DETACH = 1 << 12, 1 << 14, 1 << 20, 2
_LONGEST = 30.0
"""Seconds for a program that is ended to have made its namespaces."""
_libc = ctypes.CDLL(None, use_errno=True)
_PREFIX = re.compile(r"[a-z][a-z0-9]{1,11}")
_AT_ONCE = 100
"""Namespaces that are held open: a process may have a thousand files, and a lab has as many sandboxes."""
_DRAWN = 5
"""Random bytes of a prefix, two digits each. Sixteen bits beside the process's number came twice in a run of some
thousand labs: a process has several at once."""
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,47}")


def check_prefix(prefix: str) -> str:
    """`prefix`, or LabError where it is not 2 to 12 lower-case letters and digits, a letter first."""
    if not _PREFIX.fullmatch(prefix):
        raise LabError(f"prefix: {printable(prefix)}: is not 2 to 12 of a-z and 0-9, a letter first")
    return prefix


def free_prefix(drawn: Callable[[], str] = lambda: secrets.token_hex(_DRAWN)) -> str:
    """A prefix that no namespace has: as many random digits as fit (2⁴⁰ prefixes), again where somebody has them."""
    while True:
        prefix = check_prefix(f"cw{drawn()}")
        if not namespaces_of(prefix):
            return prefix


def check_name(name: str) -> str:
    """`name`, or LabError where it cannot be the name of a host."""
    if not _NAME.fullmatch(name):
        raise LabError(f"host: {printable(name)}: is not 1 to 48 of a-z, 0-9 and dash")
    return name


def path_of(prefix: str, name: str) -> Path:
    """Where the namespace of a host is found."""
    return RUN / f"{prefix}-{name}"


def prepare_directory() -> None:
    """Make `/run/netns` what `ip netns` makes of it: a shared mount of its own.

    Without it the first `ip netns add` of anyone would bind the directory over itself and over our namespaces, and
    those below could not be unmounted any more. The lock is the one that `ip` takes for the same.
    """
    RUN.mkdir(mode=0o755, parents=True, exist_ok=True)
    lock = os.open(RUN, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            _mount(b"", RUN, _MS_SHARED | _MS_REC)
        except OSError as error:
            if error.errno != errno.EINVAL:  # "is not a mount point"
                raise
            _mount(os.fsencode(RUN), RUN, _MS_BIND | _MS_REC)
            _mount(b"", RUN, _MS_SHARED | _MS_REC)
    finally:
        os.close(lock)


def create_namespaces(prefix: str, names: Sequence[str]) -> None:
    """Create the namespaces of these hosts; LabError if one exists.

    In this process and not with `ip netns add`: an `ip` would outlive a killed lab by a moment, and make namespaces
    that the sweep has just looked for. In a thread of its own, because a thread that has left its namespace is best
    never used again. Whatever is raised here, a signal's end of the program too, all of them are there then.
    """
    paths = [path_of(prefix, name) for name in names]
    ended = threading.Event()
    failures: list[Exception] = []

    def make() -> None:
        try:
            _create(paths)
        except Exception as error:
            failures.append(error)
        finally:
            ended.set()

    try:
        threading.Thread(target=make).start()
        ended.wait()
    except BaseException:
        # Of a thread whose start was interrupted nobody tells whether it runs.
        ended.wait(_LONGEST)
        raise
    if failures:
        raise failures[0]


def _create(paths: Sequence[Path]) -> None:
    for path in paths:
        try:
            path.touch(mode=0o444, exist_ok=False)
            if _libc.unshare(_CLONE_NEWNET) != 0:
                raise _last_error("unshare")
            _mount(b"/proc/thread-self/ns/net", path, _MS_BIND)
        except OSError as error:
            raise LabError(f"{path}: cannot be created: {error}") from error


def delete_namespaces(paths: Sequence[Path]) -> None:
    """Delete these namespaces. They vanish from the kernel when nothing is left inside."""
    for path in paths:
        # EINVAL: a lab was killed between making the file and mounting on it. ENOENT: another sweep was faster.
        if _libc.umount2(os.fsencode(path), _MNT_DETACH) != 0 and ctypes.get_errno() not in (
            errno.EINVAL,
            errno.ENOENT,
        ):
            raise LabError(f"{path}: cannot be unmounted: {os.strerror(ctypes.get_errno())}")
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise LabError(f"{path}: cannot be deleted: {error}") from error


def _mount(source: bytes, target: Path, flags: int) -> None:
    if _libc.mount(source, os.fsencode(target), b"none", flags, None) != 0:
        raise _last_error("mount")


def _last_error(call: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{call}: {os.strerror(number)}")


def namespaces_of(prefix: str) -> list[Path]:
    """The namespaces of a prefix that exist now."""
    return sorted(RUN.glob(f"{prefix}-*"))


def end_processes(prefix: str, timeout: float = 2.0) -> list[int]:
    """Kill every process inside a namespace of `prefix` and wait for its end; returns their pids.

    The calling process is left out: a thread of it may be inside for the length of an `enter`.
    """
    paths = namespaces_of(prefix)
    some = (paths[start : start + _AT_ONCE] for start in range(0, len(paths), _AT_ONCE))
    return list(chain.from_iterable(_end_inside(few, timeout) for few in some))


def _end_inside(paths: Iterable[Path], timeout: float) -> list[int]:
    ended: list[int] = []
    waiting: list[int] = []
    with _numbers_kept(paths) as inside:
        for pid in _pids():
            if pid == os.getpid() or _netns_of(pid) not in inside:
                continue
            with suppress(ProcessLookupError):
                pidfd = os.pidfd_open(pid)
                waiting.append(pidfd)
                if _netns_of(pid) in inside:
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                    ended.append(pid)
    for pidfd in waiting:
        ended_now = select.poll()
        ended_now.register(pidfd, select.POLLIN)
        ended_now.poll(timeout * 1000)
        os.close(pidfd)
    return ended


@contextmanager
def _numbers_kept(paths: Iterable[Path]) -> Iterator[set[tuple[int, int]]]:
    """The inodes of these namespaces, held open: the kernel gives the number of one that ended to the next that
    begins, anybody's container, and another sweep may delete them at any moment."""
    found = set()
    with ExitStack() as opened:
        for path in paths:
            with suppress(OSError):
                status = os.fstat(opened.enter_context(path.open("rb")).fileno())
                found.add((status.st_dev, status.st_ino))
        yield found


def _netns_of(pid: int) -> tuple[int, int] | None:
    try:
        status = os.stat(f"/proc/{pid}/ns/net")
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
