"""What the daemon's event loop waits with: it looks after an answer, and sleeps else."""

import asyncio
import socket
import time
from collections.abc import Iterator
from selectors import EVENT_READ

import pytest

from cellwall.busy_poll import BusyPoll
from cellwall.daemon.http.polling import PollingSelector

LONG = 30.0


class Caller:
    """A connection that has something said to it when the loop has looked that often."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.looks = 0
        self.speaks_after = 3

    def give_way(self) -> None:
        self.looks += 1
        if self.looks == self.speaks_after:
            self.theirs.send(b"again")


@pytest.fixture
def caller() -> Iterator[Caller]:
    made = Caller()
    with made.ours, made.theirs:
        yield made


@pytest.fixture
def selector(caller: Caller) -> Iterator[PollingSelector]:
    with PollingSelector(BusyPoll(LONG, clock=lambda: 0.0, give_way=caller.give_way)) as made:
        made.register(caller.ours, EVENT_READ)
        yield made


def test_the_next_call_is_found_without_sleep(caller: Caller, selector: PollingSelector) -> None:
    selector.answered()
    assert [key.fileobj for key, _ in selector.select(LONG)] == [caller.ours]
    assert caller.looks == caller.speaks_after


def test_without_an_answer_nobody_looks(caller: Caller, selector: PollingSelector) -> None:
    assert selector.select(0.001) == []
    assert caller.looks == 0


def test_after_one_answer_the_loop_looks_once(caller: Caller, selector: PollingSelector) -> None:
    selector.answered()
    assert selector.select(LONG)
    selector.heard()
    caller.ours.recv(9)
    assert selector.select(0.001) == []
    assert caller.looks == caller.speaks_after


def test_where_something_else_is_to_be_done_the_loop_does_not_look_yet(
    caller: Caller, selector: PollingSelector
) -> None:
    selector.answered()
    assert selector.select(0) == []
    assert caller.looks == 0
    assert selector.select(LONG)


def test_a_timer_is_not_the_next_call(caller: Caller) -> None:
    caller.speaks_after = 0
    with PollingSelector(BusyPoll(LONG, give_way=caller.give_way)) as selector:
        selector.register(caller.ours, EVENT_READ)
        selector.answered()
        assert selector.select(0.001) == []
        looks = caller.looks
        selector.answered()
        assert selector.select(0.001) == []
        assert caller.looks == looks
        selector.heard()
        selector.answered()
        caller.theirs.send(b"again")
        assert selector.select(LONG)


def test_what_wakes_the_loop_for_another_reason_ends_no_look(caller: Caller, selector: PollingSelector) -> None:
    selector.answered()
    assert selector.select(LONG)
    caller.ours.recv(9)  # a thread's, that has something done
    caller.speaks_after = 2 * caller.looks
    assert selector.select(LONG)
    assert caller.looks == caller.speaks_after


def test_a_look_is_part_of_the_time_that_the_loop_waits(caller: Caller) -> None:
    with PollingSelector(BusyPoll(LONG, give_way=lambda: time.sleep(0.4))) as selector:
        selector.answered()
        began = time.monotonic()
        assert selector.select(0.5) == []
        assert 0.5 <= time.monotonic() - began < 0.8


def test_timers_of_a_loop_that_looks_are_kept() -> None:
    async def rest() -> float:
        selector.answered()
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(0.01)
        return asyncio.get_running_loop().time() - began

    selector = PollingSelector(BusyPoll(LONG))
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        assert 0.01 <= runner.run(rest()) < LONG / 3
