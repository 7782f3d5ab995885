"""The watch in a thread of the daemon: by the wall that writes, and a second one beside it to compare with."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread

from cellwall.api import Wall
from cellwall.watch.loop import watch

StartWatch = Callable[[Callable[[Exception], None]], None]
"""Has the node watched; its argument is told what ended that, if anything did."""


@contextmanager
def watched(wall: Wall, beside: Wall) -> Iterator[StartWatch]:
    """What starts the watch, in a thread of the node's network namespace; it is over at the end of the block. What
    ends it before is told."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    threads: list[Thread] = []

    def run(failed: Callable[[Exception], None]) -> None:
        try:
            watch(wall, reading, beside=beside)
        except Exception as error:
            failed(error)

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
