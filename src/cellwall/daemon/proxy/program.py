"""The proxy's process, and the daemon's word with it.

It does what it is told in that order, and answers with the number of each end of a turn. Whoever changed something
waits for that, as a client who is not admitted any more is to be cut before the change is answered; but for no longer
than `PATIENCE`, and not at all while an earlier answer is due. On a busy machine a process may be late, and a stopped
one is: it keeps what it carries, and passes nothing on before it has done what it was told (`Relay.is_current`).

Only one that is dead, or has answered nothing for `SILENT`, is over, and its connections with it.
"""

import errno
import socket
import sys
import time

import msgspec

from cellwall.adapters import process
from cellwall.daemon.proxy.relay import Told

COMMAND = (sys.executable, "-m", "cellwall.daemon.proxy.relay")
PATIENCE = 5.0
SILENT = 60.0
"""Seconds: a turn waits for the proxy, and what is still to be answered is waited for by all turns together."""
_LARGEST = 16 << 20
"""Octets that are told and not read yet. More of them are waited for, and end a proxy that takes none."""
_SO_SNDBUFFORCE = 32  # asm-generic/socket.h: Python has no name for it


class Program:
    """One process, from its beginning to `end`."""

    def __init__(self) -> None:
        self._word, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            _with_room(self._word)
            self._word.settimeout(PATIENCE)
            try:
                self._process = process.start(COMMAND, stdin=theirs.fileno())
            except BaseException:
                self._word.close()
                raise
        self._asked = self._answered = 0
        self._since = time.monotonic()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def tell(self, told: Told, *fds: int) -> None:
        """One message. OSError where it cannot be told any more."""
        socket.send_fds(self._word, [msgspec.json.encode(told)], fds)

    def settle(self) -> bool:
        """Whether all is done that was told by now; waits for it where nothing else is due. OSError where the process
        has ended."""
        self._hear(0.0)
        if self._answered == self._asked:
            self._since, patience = time.monotonic(), PATIENCE
        else:
            patience = 0.0
        self._asked += 1
        self.tell(Told("done", number=self._asked))
        self._hear(patience)
        return self._answered == self._asked

    @property
    def dead(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def is_over(self) -> str:
        """How it came to an end, or "": it is there, and answers, or may yet."""
        if self.dead:
            return f"has died ({self._process.returncode})"
        if self._answered == self._asked or time.monotonic() - self._since < SILENT:
            return ""
        try:
            self._hear(PATIENCE)  # also who asks may have been stopped
        except OSError as error:
            return f"has ended ({error.strerror})"
        return "" if time.monotonic() - self._since < SILENT else f"has not answered for {SILENT:g} s"

    def end(self) -> None:
        """End it, and what it carries."""
        self._word.close()
        process.end([self._process])

    def _hear(self, patience: float) -> None:
        """Take the answers that there are, and for so many seconds those to come."""
        deadline = time.monotonic() + patience
        try:
            while self._answered != self._asked:
                self._word.settimeout(max(deadline - time.monotonic(), 0.0))
                answer = self._word.recv(32)
                if not answer:
                    raise OSError(errno.EPIPE, "the proxy has ended")
                self._answered, self._since = int(answer), time.monotonic()
        except (BlockingIOError, TimeoutError):
            pass
        finally:
            self._word.settimeout(PATIENCE)


def _with_room(word: socket.socket) -> None:
    """Past net.core.wmem_max, where that may be: the lists of a tenant's ports are megabytes."""
    try:
        word.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _LARGEST)
    except PermissionError:
        word.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LARGEST)
