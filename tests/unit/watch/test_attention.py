"""What wakes a thread that watches, and what does not in a rest. Pipes stand for what the kernel tells."""

import os
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from cellwall.watch.attention import Attention

AT_ONCE, PATIENCE = 0.02, 30.0


@pytest.fixture
def pipes() -> Iterator[tuple[int, int, int, int]]:
    """The end to wait for and the one to write to: of what ends it, and of what is told."""
    ends = (*os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC), *os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC))
    yield ends
    for end in ends:
        os.close(end)


@pytest.fixture
def attention() -> Iterator[Attention]:
    with closing(Attention()) as made:
        yield made


def woken(attention: Attention, seconds: float = AT_ONCE) -> bool:
    """Whether something wakes it before so many seconds are over."""
    over = threading.Event()
    waiting = threading.Thread(target=lambda: (attention.wait(PATIENCE), over.set()))
    waiting.start()
    woke = over.wait(seconds)
    if not woke:
        attention.go_on()
    waiting.join()
    return woke


def test_what_is_told_wakes_it(attention: Attention, pipes: tuple[int, int, int, int]) -> None:
    stop, _, told, tell = pipes
    with attention.to(stop, told):
        os.write(tell, b"!")
        assert woken(attention, PATIENCE)


def test_what_is_told_in_a_rest_wakes_it_when_the_rest_is_over(
    attention: Attention, pipes: tuple[int, int, int, int]
) -> None:
    stop, _, told, tell = pipes
    with attention.to(stop, told):
        assert attention.rest()
        os.write(tell, b"!")
        assert not woken(attention)
        assert woken(attention, PATIENCE)


def test_it_rests_no_more_before_it_has_heard_what_was_told_in_the_last_rest(
    attention: Attention, pipes: tuple[int, int, int, int]
) -> None:
    stop, _, told, _ = pipes
    with attention.to(stop, told):
        assert attention.rest()
        assert not attention.rest()
        attention.go_on()
        assert not attention.rest()
        attention.wait(0)
        assert attention.rest()


def test_the_end_is_heard_in_a_rest(attention: Attention, pipes: tuple[int, int, int, int]) -> None:
    stop, end, told, _ = pipes
    with attention.to(stop, told):
        assert attention.rest()
        os.write(end, b"!")
        assert attention.wait(PATIENCE, stop)


def test_nobody_rests_who_does_not_watch(attention: Attention, pipes: tuple[int, int, int, int]) -> None:
    stop, _, told, _ = pipes
    assert not attention.rest()
    with attention.to(stop, told):
        pass
    assert not attention.rest()
