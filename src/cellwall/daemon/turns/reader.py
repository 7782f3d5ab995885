"""One thread for what only reads: beside the writer, and never more than it.

One and not many, because Python runs one thread at a time: readers that are many would take the writer's time, however
they are queued.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from cellwall.daemon.bounds import but_for_root
from cellwall.errors import Unavailable

R = TypeVar("R")


class Reader:
    """The thread; `limit` reads may wait for it. It has the network namespace of who first asks."""

    def __init__(self, name: str, *, limit: int) -> None:
        self._limit = limit
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def do(self, act: Callable[[], R], *, root: bool = True) -> R:
        """What `act` gives. Unavailable where too many wait, which for others than root is earlier; dropped where who
        asked goes before it began."""
        limit = self._limit if root else but_for_root(self._limit)
        if self._waiting >= limit:
            raise Unavailable(f"{limit} reads are waiting already; ask again")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, act)
        finally:
            self._waiting -= 1

    def end(self) -> None:
        """Wait for what has begun; nothing else begins."""
        self._thread.shutdown(wait=True, cancel_futures=True)
