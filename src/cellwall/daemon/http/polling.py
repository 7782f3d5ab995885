"""What the event loop waits with: it looks for the next call for a moment after an answer, as one that asks again asks
soon.

It is the same thread that carries out what is short (`Writer.at_once`), so for who claims one sandbox after the other
nobody has to be woken in the daemon.
"""

import time
from selectors import EpollSelector, SelectorKey

from cellwall.busy_poll import BusyPoll

Ready = list[tuple[SelectorKey, int]]


class PollingSelector(EpollSelector):
    """asyncio's own, but that it looks after an answer for as long as `poll` finds it worth it."""

    def __init__(self, poll: BusyPoll) -> None:
        super().__init__()
        self._poll = poll
        self._answered: float | None = None

    def answered(self) -> None:
        """An answer was given, and nobody else waits for one."""
        self._answered = time.monotonic()

    def heard(self) -> None:
        """A caller said something: the first after an answer is what was looked for. What else the loop wakes for, a
        timer or another thread, is not."""
        if self._answered is not None:
            self._poll.came(self._answered)
            self._answered = None

    def select(self, timeout: float | None = None) -> Ready:
        """As of any selector: `timeout` in seconds, None: until something is ready."""
        answered = self._answered
        if answered is None or (timeout is not None and timeout <= 0):
            return super().select(timeout)
        until = float("inf") if timeout is None else time.monotonic() + timeout
        ready = self._poll.look(answered, self._ready_now, until)
        if ready is not None:
            return ready
        return super().select(None if timeout is None else max(until - time.monotonic(), 0))

    def _ready_now(self) -> Ready | None:
        return super().select(0) or None
