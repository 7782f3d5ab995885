"""The daemon's pool grows by what is claimed, a little at a time, and only as far as it may."""

from typing import Any, cast

import pytest

from cellwall.api import Wall
from cellwall.daemon.pool import LATELY, LATER, SOON, TOGETHER, Pool
from cellwall.errors import KernelError
from cellwall.model.pool import PoolFigures, PoolSize


class Stock:
    """A wall's pool, with room for so many."""

    def __init__(self, room: int = 1000) -> None:
        self.ready = 0
        self.room = room
        self.failing = False

    def fill_pool(self, wanted: int) -> int:
        if self.failing:
            raise KernelError(12, "make a sandbox")
        made = min(wanted, self.room - self.ready)
        self.ready += made
        return made

    def empty_pool(self, count: int) -> int:
        self.ready -= count
        return self.ready


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def pool_of(stock: Stock, size: PoolSize, clock: Clock | None = None) -> Pool:
    return Pool(cast(Wall, cast(Any, stock)), size, clock or Clock())


def done(pool: Pool) -> list[float | None]:
    """What the chore says, until it wants to wait."""
    said: list[float | None] = []
    while not said or said[-1] == 0.0:
        said.append(pool.act())
    return said


def claim(pool: Pool, stock: Stock, count: int) -> None:
    hits = [number < stock.ready for number in range(count)]
    stock.ready -= sum(hits)
    pool.claimed(hits)


def test_it_is_filled_a_few_at_a_time_and_then_left_alone() -> None:
    stock = Stock()
    pool = pool_of(stock, PoolSize(5))
    assert done(pool) == [0.0, 0.0, 0.0, None]
    assert stock.ready == 5 and TOGETHER == 2
    assert pool.figures == PoolFigures(ready=5)


def test_claims_are_counted_with_those_that_found_none() -> None:
    stock = Stock()
    pool = pool_of(stock, PoolSize(4))
    done(pool)
    claim(pool, stock, 6)
    assert pool.figures == PoolFigures(ready=0, claimed=4, missed=2)


def test_as_many_more_are_made_as_were_claimed_of_late_and_ended_when_that_is_over() -> None:
    stock, clock = Stock(), Clock()
    pool = pool_of(stock, PoolSize(4, burst=10), clock)
    done(pool)
    claim(pool, stock, 3)
    assert done(pool)[-1] == LATELY
    assert stock.ready == 7
    clock.now += LATELY + 1
    assert done(pool)[-1] is None
    assert stock.ready == 4


def test_it_is_asked_again_when_the_last_claim_counts_no_more() -> None:
    stock, clock = Stock(), Clock()
    pool = pool_of(stock, PoolSize(4, burst=10), clock)
    done(pool)
    claim(pool, stock, 3)
    clock.now += LATELY - 1
    assert done(pool)[-1] == 1
    clock.now += 1
    assert done(pool)[-1] is None
    assert stock.ready == 4


def test_half_empty_it_waits_for_a_shorter_silence() -> None:
    stock = Stock()
    pool = pool_of(stock, PoolSize(4))
    assert pool.pause() == SOON
    done(pool)
    assert pool.pause() == LATER
    claim(pool, stock, 3)
    assert pool.pause() == SOON


def test_where_there_is_no_room_it_waits_for_the_next_write() -> None:
    stock = Stock(room=3)
    pool = pool_of(stock, PoolSize(8))
    assert done(pool)[-1] is None
    assert stock.ready == 3


def test_what_keeps_it_from_being_filled_is_told_once_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    stock = Stock()
    stock.failing = True
    pool = pool_of(stock, PoolSize(2))
    assert [pool.act() for _ in range(3)] == [5.0] * 3
    assert len(caplog.records) == 1
    stock.failing = False
    done(pool)
    assert stock.ready == 2


def test_another_size_holds_from_then_on() -> None:
    stock = Stock()
    pool = pool_of(stock, PoolSize(6))
    done(pool)
    pool.size = PoolSize(2)
    done(pool)
    assert stock.ready == 2
    pool.size = PoolSize(0)
    done(pool)
    assert stock.ready == 0
