"""What wakes a thread that watches; and a rest, in which what is told wakes nobody yet.

Every write of our own is told to whoever watches, several times while it goes on. Python runs one thread at a time: to
hear each of these takes the time of the very write that it tells of. So who is about to write in the same process has
the watch rest for a moment. Nothing that is told meanwhile is lost; it is heard when the rest is over.
"""

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

REST, LONGEST = 0.01, 0.05
"""Seconds that a rest should last behind a write, which is more than most claims and attaches take, and that it should
last at most where one follows the other."""
THREAD_TURN = 0.0001
"""Seconds that a thread may keep the interpreter from another one, wherever a watch compares in one. Python's own 5 ms
are waited for after each call of the kernel's while a thousand endpoints are compared: a hundred milliseconds of one
attach, or of the thread that closes what a flush left open."""


class Attention:
    """Rests end by `go_on` alone, which is their caller's to see to. After each the watch has heard what was told
    before it may rest again, so no stream of writes keeps it deaf."""

    def __init__(self) -> None:
        self._waiting = select.epoll()
        self._over = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._waiting.register(self._over, select.EPOLLIN)
        self._state = Lock()
        self._sources: tuple[int, ...] = ()
        self._may_rest = False

    def close(self) -> None:
        """For who watches no more."""
        self._waiting.close()
        os.close(self._over)

    @contextmanager
    def to(self, stop: int, *sources: int) -> Iterator[None]:
        """Wait for these descriptors; for `stop` also in a rest."""
        self._waiting.register(stop, select.EPOLLIN)
        for source in sources:
            self._waiting.register(source, select.EPOLLIN)
        with self._state:
            self._sources, self._may_rest = sources, True
        try:
            yield
        finally:
            with self._state:
                self._sources, self._may_rest = (), False
            for descriptor in (stop, *sources):
                self._waiting.unregister(descriptor)

    def wait(self, seconds: float, stop: int = -1) -> bool:
        """Until something was told, or for so long; True: `stop` is readable."""
        readable = {descriptor for descriptor, _ in self._waiting.poll(seconds)}
        if self._over in readable:
            os.eventfd_read(self._over)
            with self._state:
                self._may_rest = bool(self._sources)
        return stop in readable

    def rest(self) -> bool:
        """From now on what is told wakes nobody; False where it does, as nobody watches, or nobody has heard yet what
        was told in the last one. From any thread."""
        with self._state:
            if not self._may_rest:
                return False
            self._may_rest = False
            self._wake_for(0)
        return True

    def go_on(self) -> None:
        """The rest is over: what was told in it is heard now. From any thread."""
        with self._state:
            self._wake_for(select.EPOLLIN)
        os.eventfd_write(self._over, 1)

    def _wake_for(self, events: int) -> None:
        for source in self._sources:
            self._waiting.modify(source, events)
