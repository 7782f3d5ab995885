"""Reads, and looks that are one at a time, take turns: who asks a lot keeps nobody of another group waiting."""

import asyncio
from collections.abc import Callable
from threading import Event
from typing import Any

import pytest

from cellwall.daemon.turns.lines import ROOT, Whose
from cellwall.daemon.turns.reader import Reader
from cellwall.daemon.turns.single import Single

FIRST, SECOND = Whose(50, 1000), Whose(60, 1001)
ASKED = [*((FIRST, name) for name in "abcd"), *((SECOND, name) for name in "xy"), *((ROOT, name) for name in "PQ")]
INTURN = "PaQxbycd"


class Held:
    """A reader that is at one read until it is let go."""

    def __init__(self) -> None:
        self.reader = Reader("reads", limit=100)
        self.go, self.began = Event(), Event()
        self.first = self.ask(self._first, FIRST)

    def _first(self) -> None:
        self.began.set()
        assert self.go.wait(30)

    def ask(self, act: Callable[[], Any], whose: Whose) -> "asyncio.Task[Any]":
        return asyncio.ensure_future(self.reader.do(act, whose=whose))

    async def has_begun(self) -> None:
        assert await asyncio.to_thread(self.began.wait, 30)


def test_reads_are_taken_in_turn() -> None:
    done: list[str] = []

    async def act() -> None:
        held = Held()
        await held.has_begun()
        waiting = [held.ask(lambda name=name: done.append(name), whose) for whose, name in ASKED]
        await asyncio.sleep(0)
        held.go.set()
        await asyncio.gather(held.first, *waiting)
        held.reader.end()

    asyncio.run(act())
    assert "".join(done) == INTURN


def test_what_nobody_waits_for_any_more_is_not_read_and_an_error_is_its_askers() -> None:
    done: list[str] = []

    async def act() -> None:
        held = Held()
        await held.has_begun()
        gone = held.ask(lambda: done.append("gone"), FIRST)
        wrong, right = held.ask(lambda: 1 // 0, FIRST), held.ask(lambda: 7, SECOND)
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        held.go.set()
        with pytest.raises(ZeroDivisionError):
            await wrong
        assert await right == 7
        held.reader.end()

    asyncio.run(act())
    assert not done


def test_at_the_end_what_has_begun_is_finished_and_nothing_else_begins() -> None:
    done: list[str] = []

    async def act() -> None:
        held = Held()
        await held.has_begun()
        waiting = held.ask(lambda: done.append("never"), SECOND)
        await asyncio.sleep(0)
        ending = asyncio.create_task(asyncio.to_thread(held.reader.end))
        with pytest.raises(asyncio.CancelledError):
            await waiting
        held.go.set()
        await asyncio.gather(ending, held.first)

    asyncio.run(act())
    assert not done


async def _in_turn(*gone: int) -> str:
    single, go = Single(), asyncio.Event()
    done: list[str] = []
    at_once: list[str] = []

    async def one(whose: Whose, name: str) -> None:
        async with single.turn(whose):
            at_once.append(name)
            assert at_once == [name]
            try:
                await go.wait()
                done.append(name)
                await asyncio.sleep(0)
            finally:
                at_once.remove(name)

    tasks = [asyncio.ensure_future(one(FIRST, "0"))]
    await asyncio.sleep(0)
    tasks += [asyncio.ensure_future(one(whose, name)) for whose, name in ASKED]
    await asyncio.sleep(0)
    for number in gone:
        tasks[number].cancel()
    go.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with single.turn(ROOT):  # nobody is at it
        return "".join(done)


def test_what_one_at_a_time_may_be_at_goes_round() -> None:
    assert asyncio.run(_in_turn()) == "0" + INTURN


def test_who_goes_while_it_waits_leaves_its_place() -> None:
    assert asyncio.run(_in_turn(7, 1)) == "0Qbxcyd"


def test_who_goes_in_its_turn_leaves_it_to_the_next() -> None:
    assert asyncio.run(_in_turn(0)) == INTURN


@pytest.mark.parametrize("called", [True, False])
def test_who_goes_as_it_is_called_leaves_it_to_the_next(called: bool) -> None:
    """Just behind that, or just before."""

    async def act() -> list[str]:
        single = Single()
        done: list[str] = []

        async def one(name: str) -> None:
            async with single.turn(FIRST):
                done.append(name)

        async with single.turn(ROOT):
            tasks = [asyncio.ensure_future(one(name)) for name in "ab"]
            await asyncio.sleep(0)
            if not called:
                tasks[0].cancel()
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.timeout(5), single.turn(ROOT):
            return done

    assert asyncio.run(act()) == ["b"]
