"""A command inside a sandbox's network namespace, with the wall's resolvers, in the terminal of its caller.

Owns: the fork, the network namespace, a private mount namespace in which /etc/resolv.conf is another file, the
signals and the exit status. Refuses: every other isolation. The command has the caller's user, files, processes and
capabilities; whoever needs more uses a container runtime.

Not `process.run`: the command keeps the caller's standard streams and process group, and the steps between fork and
exec need this very process. Not `nsenter` and `unshare`: neither mounts a file, and a shell between them would have
to quote the command.
"""

import ctypes
import errno
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from cellwall.adapters.sandbox import netns
from cellwall.errors import CellwallError, KernelError

_CLONE_NEWNS = 0x00020000
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_SLAVE = 1 << 19
_PR_SET_PDEATHSIG = 1
_SI_KERNEL = 0x80

_RESOLV_CONF = "/etc/resolv.conf"
_HOST_RESOLVERS = ("/run/systemd/resolve/io.systemd.Resolve", "/run/nscd/socket", "/var/run/nscd/socket")
"""Sockets over which glibc asks a service of the host instead of resolv.conf (nss-resolve(8), nscd(8)). A pathname
socket crosses network namespaces, and the host's resolver knows names and reaches servers that a tenant must not."""

FORWARDED = frozenset(
    {
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGWINCH,
        signal.SIGALRM,
    }
)
"""Signals that are the command's business. SIGTSTP and SIGCONT are not: a terminal sends them to both processes."""

_WAITED = FORWARDED | {signal.SIGCHLD}

_libc = ctypes.CDLL(None, use_errno=True)


class ExecFailed(CellwallError):
    """The command could not be executed; `missing` where it is not there at all."""

    def __init__(self, program: str, number: int) -> None:
        self.missing = number in (errno.ENOENT, errno.ENOTDIR)
        super().__init__(f"command: {program!r}: {os.strerror(number)}")


def hold_signals() -> None:
    """Block every signal that `wait` passes on. Called before the first change to the node, so that nothing but
    SIGKILL ends the process between an attach and its detach; what arrives meanwhile is passed on later."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # inherited as ignored, it would reap the command unseen
    signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED)


def start(argv: Sequence[str], *, sandbox: str, resolv_conf: Path) -> int:
    """Start a command and return its process id. The caller has called `hold_signals`.

    The command is killed when this process dies, and its sandbox is closed by the next reconcile. Raises ExecFailed,
    or KernelError naming the step that the kernel refused.
    """
    netns_fd = netns.open_sandbox(sandbox)
    reader, writer = os.pipe()
    parent = os.getpid()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        _become(argv, netns_fd, resolv_conf, writer, parent)
    os.close(writer)
    os.close(netns_fd)
    with os.fdopen(reader) as pipe:
        failure = pipe.read()  # empty when exec closed the other end
    if failure:
        os.waitpid(pid, 0)
        number, _, step = failure.partition(" ")
        if step == "exec":
            raise ExecFailed(argv[0], int(number))
        raise KernelError(int(number), step)
    return pid


def wait(pid: int) -> int:
    """Wait for the command, passing signals on; its exit status, or minus the signal that ended it."""
    while True:
        received = signal.sigwaitinfo(_WAITED)
        if received.si_signo == signal.SIGCHLD:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
        elif not _came_from_terminal(received, pid):
            os.kill(pid, received.si_signo)


def _came_from_terminal(received: signal.struct_siginfo, pid: int) -> bool:
    """The terminal sends to its whole foreground group: passing on would interrupt the command twice."""
    return received.si_code == _SI_KERNEL and os.getpgid(pid) == os.getpgrp()


def _become(argv: Sequence[str], netns_fd: int, resolv_conf: Path, report: int, parent: int) -> NoReturn:
    """The child between fork and exec. Everything it needs was imported and opened before the fork."""
    step = "prctl"
    try:
        _checked(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
        if os.getppid() != parent:  # died before it was asked for
            os._exit(1)
        step = "setns"
        netns.setns(netns_fd)
        step = "a private mount namespace"
        _checked(_libc.unshare(_CLONE_NEWNS))
        # Slave and not private: file systems that the host mounts later still appear, ours never reach the host.
        _mount(None, "/", _MS_REC | _MS_SLAVE)
        step = f"mounting over {_RESOLV_CONF}"
        _replace_resolvers(resolv_conf)
        step = "exec"
        # Python ignores SIGPIPE and SIGXFSZ and catches SIGINT; the rest is the caller's (nohup's SIGHUP, say).
        for changed in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
            signal.signal(changed, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WAITED)
        os.execvp(argv[0], list(argv))
    except OSError as error:
        number = error.errno or errno.EIO
    except KernelError as error:
        number = error.errno
    except BaseException:
        number = errno.EIO
    os.write(report, f"{number} {step}".encode())
    os._exit(1)


def _replace_resolvers(resolv_conf: Path) -> None:
    # mount(2) follows a symlink, as resolv.conf is with systemd-resolved. One that leads nowhere cannot be mounted
    # over; then the command finds no resolver file, and in its namespace none answers on the loopback either.
    if os.path.exists(_RESOLV_CONF):
        _mount(os.fspath(resolv_conf), _RESOLV_CONF, _MS_BIND)
    for path in {os.path.realpath(path) for path in _HOST_RESOLVERS}:
        if os.path.exists(path):
            _mount("/dev/null", path, _MS_BIND)


def _mount(source: str | None, target: str, flags: int) -> None:
    _checked(_libc.mount(source and source.encode(), target.encode(), None, ctypes.c_ulong(flags), None))


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def has_resolver_file() -> bool:
    """There is a file to mount the wall's resolvers over."""
    return os.path.exists(_RESOLV_CONF)
