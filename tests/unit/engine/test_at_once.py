"""What runs at once: all of it ends before its caller goes on, whatever fails."""

import signal
import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from cellwall.engine.iptables.at_once import at_once


def test_calls_run_beside_each_other_and_answer_in_their_order() -> None:
    met = threading.Barrier(3)

    def meet(number: int) -> int:
        met.wait(10)
        return number

    assert at_once([partial(meet, number) for number in range(3)]) == [0, 1, 2]
    assert at_once([]) == []


def test_the_first_failure_is_raised_when_all_have_ended() -> None:
    ended: list[str] = []

    def fail(name: str) -> None:
        raise LookupError(name)

    def go_on() -> None:
        time.sleep(0.05)
        ended.append("the other")

    with pytest.raises(LookupError, match="first"):
        at_once([lambda: fail("first"), go_on, lambda: fail("last")])
    assert ended == ["the other"]


@pytest.mark.parametrize("interrupting", [0, 1])
def test_whoever_is_interrupted_waits_for_all_of_them(interrupting: int) -> None:
    """By Ctrl-C, while one of them goes on."""
    ended: list[str] = []

    def interrupt() -> None:
        time.sleep(0.02)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        time.sleep(0.05)
        ended.append("this one")

    calls: list[Callable[[], None]] = [lambda: ended.append("the other")] * 2
    calls[interrupting] = interrupt
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            at_once(calls)
    finally:
        signal.signal(signal.SIGINT, former)
    assert ended == ["the other", "this one"]
