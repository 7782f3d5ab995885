"""The watch in a thread of the daemon: by the wall that writes, and two beside it, to compare with and to close by.

What the watch cannot do anything about, another version's wall or one that was removed, is the end of the daemon. Any
other failure is a defect, logged, and the watch begins anew: a daemon that ended for it would not serve either.
"""

import asyncio
import logging
import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Thread

from cellwall.api import Wall
from cellwall.errors import Dismissed
from cellwall.watch.attention import LONGEST, REST, Attention
from cellwall.watch.loop import NOBODY, Counts, watch

_log = logging.getLogger("cellwall.daemon")
_AGAIN = 1.0
"""Seconds until the watch begins anew after a failure."""

StartWatch = Callable[[Callable[[Exception], None]], None]
"""Has the node watched; its argument is told what ended that, if anything did."""


def resting(attention: Attention) -> Callable[[], None]:
    """Has the watch rest for a moment, and for as long as one write follows another, but for `LONGEST` at most; for the
    thread of an event loop that is about to have something written."""
    last = 0.0

    def rest() -> None:
        nonlocal last
        last = time.monotonic()
        if attention.rest():
            go_on_after(last)

    def go_on_after(began: float) -> None:
        until = min(last + REST, began + LONGEST)
        if until > time.monotonic():
            asyncio.get_running_loop().call_at(until, go_on_after, began)
        else:
            attention.go_on()

    return rest


@contextmanager
def watched(
    wall: Wall,
    beside: Wall,
    closer: Wall,
    counts: Counts = NOBODY,
    at_work: Callable[[], bool] = lambda: False,
    attention: Attention | None = None,
) -> Iterator[StartWatch]:
    """What starts the watch, in a thread of the node's network namespace; it is over at the end of the block. That
    there is nothing to watch any more is told; of the other arguments see `watch`."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    look = partial(watch, wall, reading, closer=closer, beside=beside, counts=counts)
    threads: list[Thread] = []

    def run(failed: Callable[[Exception], None]) -> None:
        while True:
            try:
                return look(at_work=at_work, attention=attention)
            except Dismissed as error:
                return failed(error)
            except Exception:
                _log.exception("the watch failed, and begins anew")
            if select.select([reading], [], [], _AGAIN)[0]:
                return None

    def start(failed: Callable[[Exception], None]) -> None:
        threads.append(Thread(target=run, args=(failed,), name="cellwall-watch"))
        threads[-1].start()

    try:
        yield start
    finally:
        os.close(writing)  # which makes the other end readable
        for thread in threads:
            thread.join()
        os.close(reading)
