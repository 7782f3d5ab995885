"""One thread for what only reads: beside the writer, and never more than it.

One and not many, because Python runs one thread at a time: readers that are many would take the writer's time, however
they are queued. Whose turn it is goes as with the writer's: one read may take a second, and who asks may ask often.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any, TypeVar

from cellwall.daemon.bounds import but_for_root
from cellwall.daemon.turns.lines import ROOT, Lines, Whose
from cellwall.errors import Unavailable

R = TypeVar("R")


class _Read:
    __slots__ = ("act", "outcome")

    def __init__(self, act: Callable[[], Any]) -> None:
        self.act = act
        self.outcome: Future[Any] = Future()


class Reader:
    """The thread; `limit` reads may wait for it. It has the network namespace of who first asks."""

    def __init__(self, name: str, *, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._waiting: Lines[_Read] = Lines()
        self._state = Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def do(self, act: Callable[[], R], *, whose: Whose = ROOT) -> R:
        """What `act` gives, in the turn of that user. Unavailable where too many wait, which for others than root is
        earlier; dropped where who asked goes before it began."""
        limit = self._limit if whose == ROOT else but_for_root(self._limit)
        if self._taken >= limit:
            raise Unavailable(f"{limit} reads are waiting already; ask again")
        read = _Read(act)
        with self._state:
            self._waiting.append(whose, read)
        self._taken += 1
        try:
            self._thread.submit(self._next)  # a turn for each, whosever it will be
            outcome: R = await asyncio.wrap_future(read.outcome)
            return outcome
        finally:
            self._taken -= 1
            with self._state:
                self._waiting.remove(whose, read)

    def end(self) -> None:
        """Wait for what has begun; nothing else begins."""
        with self._state:
            left = self._waiting.clear()
        for read in left:
            read.outcome.cancel()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _next(self) -> None:
        with self._state:
            taken = self._waiting.take()
        for read in taken:
            if read.outcome.set_running_or_notify_cancel():
                try:
                    read.outcome.set_result(read.act())
                except BaseException as error:  # who asked has it
                    read.outcome.set_exception(error)
