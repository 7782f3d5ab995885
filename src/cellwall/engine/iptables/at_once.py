"""Programs that do not wait for each other run at once: each takes some ten milliseconds, most of it before it comes to
what it is asked, and sandboxes that a flush cut off wait for all of them."""

from collections.abc import Callable, Sequence
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """What each of them returns, in their order. All have ended when this returns, or raises what the first of those
    that failed raised: nothing goes on behind its caller. They run in the network namespace of the calling thread."""
    done: dict[int, T] = {}
    failed: dict[int, BaseException] = {}

    def carry_out(place: int) -> None:
        try:
            done[place] = calls[place]()
        except BaseException as error:  # raised by who waits
            failed[place] = error

    others = [Thread(target=carry_out, args=(place,)) for place in range(1, len(calls))]
    for thread in others:
        thread.start()
    if calls:
        carry_out(0)
    for thread in others:
        thread.join()
    if failed:
        raise failed[min(failed)]
    return [done[place] for place in range(len(calls))]
