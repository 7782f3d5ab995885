"""Looking for a moment before a thread sleeps, where what it waits for is likely to come within that moment.

A processor without work halts, and to wake it takes longer than much of what is waited for; the more so in a virtual
machine, whose host has to wake it. KVM's `halt_poll_ns` and the kernel's `SO_BUSY_POLL` are of this kind.

Owns: when it is worth that. It is where the last time was short enough, and where nobody else wants the processor, or
another thread the interpreter: after a look that gave way to somebody, none is for many times as long as that took.
"""

import os
import time
from collections.abc import Callable
from typing import TypeVar

R = TypeVar("R")

_OTHERS = 50e-6
"""Seconds from one look to the next in which somebody else worked: alone they are a few microseconds apart."""
_REST = 50
"""For how many times as long nobody looks then. Who gives way has its next turn later than who sleeps and is woken."""


class BusyPoll:
    """One kind of wait, of `seconds` at most. Threads may share it. `give_way` lets others have the processor."""

    def __init__(
        self,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        give_way: Callable[[], None] = os.sched_yield,
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._give_way = give_way
        self._pays = seconds > 0
        self._not_before = float("-inf")

    def look(self, began: float, found: Callable[[], R | None], until: float = float("inf")) -> R | None:
        """What `found` gives first, asked again and again, of what is waited for since `began`, and not for longer than
        `until`; both of the monotonic clock. None: nothing by then, or it is not worth it, and the caller sleeps."""
        now = self._clock()
        until = min(until, began + self._seconds) if self._pays else now
        while now < until:
            if (come := found()) is not None:
                return come
            self._give_way()
            before, now = now, self._clock()
            if now - before > _OTHERS:
                self._not_before = now + _REST * (now - before)
                break
        self._pays = False
        return None

    def came(self, began: float) -> None:
        """What was waited for since then is here."""
        now = self._clock()
        self._pays = self._not_before <= now < began + self._seconds
