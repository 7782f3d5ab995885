"""When a thread looks for what it waits for before it sleeps, and when it does not: by a clock that its looks move."""

from collections.abc import Callable

import pytest

from cellwall.busy_poll import BusyPoll

SECONDS, LOOK = 0.001, 0.000_002


class Processor:
    """Each look takes a moment of it; `taken` seconds of it go to others whenever somebody gives way."""

    def __init__(self) -> None:
        self.now = 100.0
        self.taken = 0.0
        self.looks = 0

    def poll(self, seconds: float = SECONDS) -> BusyPoll:
        return BusyPoll(seconds, clock=lambda: self.now, give_way=self.give_way)

    def give_way(self) -> None:
        self.now += self.taken

    def at_look(self, number: float) -> Callable[[], str | None]:
        """What comes at that look; what has come stays."""
        self.looks = 0

        def found() -> str | None:
            self.looks += 1
            self.now += LOOK
            return "it" if self.looks >= number else None

        return found


NEVER = float("inf")


def test_what_comes_soon_is_found_without_sleep() -> None:
    processor = Processor()
    poll = processor.poll()
    for _ in range(3):
        began = processor.now
        assert poll.look(began, processor.at_look(100)) == "it"
        poll.came(began)


def test_who_waits_for_long_is_looked_for_once() -> None:
    processor = Processor()
    poll = processor.poll()
    for expected in (pytest.approx(SECONDS / LOOK, abs=1), 0, 0):
        began = processor.now
        assert poll.look(began, processor.at_look(NEVER)) is None
        assert processor.looks == expected
        processor.now += 1.0  # it sleeps, and is woken
        poll.came(began)


def test_who_comes_soon_again_is_looked_for_again() -> None:
    processor = Processor()
    poll = processor.poll()
    began = processor.now
    assert poll.look(began, processor.at_look(NEVER)) is None
    poll.came(began)
    began = processor.now
    assert poll.look(began, processor.at_look(1)) is None
    processor.now += SECONDS / 2  # it sleeps, and could have been found
    poll.came(began)
    assert poll.look(processor.now, processor.at_look(1)) == "it"


def test_where_others_want_the_processor_nobody_looks_for_many_times_as_long() -> None:
    processor = Processor()
    poll = processor.poll()
    processor.taken = 0.0001
    began = processor.now
    assert poll.look(began, processor.at_look(NEVER)) is None
    assert processor.looks == 1
    processor.taken = 0.0
    poll.came(began)  # soon enough, but beside others
    lost, kept = processor.now - began, processor.now
    while poll.look(processor.now, processor.at_look(1)) is None:
        began = processor.now
        processor.now += SECONDS / 10
        poll.came(began)
    assert 49 * lost < processor.now - kept < 52 * lost


def test_a_look_ends_in_time_for_what_else_is_due() -> None:
    processor = Processor()
    due = processor.now + SECONDS / 4
    assert processor.poll().look(processor.now, processor.at_look(NEVER), due) is None
    assert processor.now == pytest.approx(due, abs=2 * LOOK)


def test_of_no_seconds_nobody_ever_looks() -> None:
    processor = Processor()
    poll = processor.poll(0)
    for _ in range(3):
        began = processor.now
        assert poll.look(began, processor.at_look(1)) is None
        poll.came(began)
    assert processor.looks == 0
