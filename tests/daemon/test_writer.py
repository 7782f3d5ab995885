"""Writes happen one after the other, of each caller in the order in which they were asked for, each once or not at
all."""

import asyncio
import time
from collections.abc import Callable, Sequence
from threading import Event, get_ident
from typing import Any

import pytest

from cellwall.daemon.turns.chores import Chore
from cellwall.daemon.turns.lines import ROOT, Whose
from cellwall.daemon.turns.reader import Reader
from cellwall.daemon.turns.writer import LONG, LULL, Kind, Writer
from cellwall.errors import Unavailable

MEMBER = Whose(50, 1000)


class Slow:
    """A write that begins, and goes on until it is let go."""

    def __init__(self) -> None:
        self.began, self.go = Event(), Event()

    def __call__(self) -> str:
        self.began.set()
        assert self.go.wait(30)
        return "done"

    async def has_begun(self) -> None:
        assert await asyncio.to_thread(self.began.wait, 30)


def run(act: Callable[[Writer], Any], *, limit: int = 100, together: int = 8, afterwards: Any = lambda: None) -> Any:
    """What a coroutine over a writer gives."""

    async def main() -> Any:
        writer = Writer(limit=limit, together=together, afterwards=afterwards)
        writer.start()
        try:
            return await act(writer)
        finally:
            await asyncio.to_thread(writer.end)

    return asyncio.run(main())


def test_writes_keep_their_order() -> None:
    done: list[int] = []

    async def act(writer: Writer) -> None:
        await asyncio.gather(*(writer.do(lambda number=number: done.append(number)) for number in range(50)))

    run(act)
    assert done == list(range(50))


def test_who_asks_a_lot_keeps_nobody_else_waiting() -> None:
    done: list[str] = []

    def ask(writer: Writer, whose: Whose, *names: str) -> list[Any]:
        return [writer.do(lambda name=name: done.append(name), whose=whose) for name in names]

    async def act(writer: Writer) -> None:
        slow = Slow()
        first = writer.do(slow, whose=MEMBER)
        await slow.has_begun()
        waiting = ask(writer, MEMBER, *"abcdef") + ask(writer, ROOT, *"PQR") + ask(writer, Whose(60, 1001), *"xy")
        slow.go.set()
        await asyncio.gather(first, *waiting)

    run(act)
    assert "".join(done) == "PaQxRbycdef"


def test_only_one_callers_are_taken_together() -> None:
    taken: list[list[int]] = []

    def together(items: Sequence[int]) -> list[None]:
        taken.append(list(items))
        return [None] * len(items)

    async def act(writer: Writer) -> None:
        kind, slow = Kind(together, lambda item: item), Slow()
        first = writer.do(slow)
        await slow.has_begun()
        waiting = [writer.add(kind, number, whose=Whose(50, 1000 + number % 2)) for number in range(6)]
        slow.go.set()
        await asyncio.gather(first, *waiting)

    run(act)
    assert taken == [[0, 2, 4], [1, 3, 5]]


def test_what_waits_in_a_row_is_taken_together_up_to_a_bound() -> None:
    taken: list[list[str]] = []

    def together(items: Sequence[str]) -> list[str]:
        taken.append(list(items))
        return [item.upper() for item in items]

    async def act(writer: Writer) -> list[str]:
        kind, other, slow = Kind(together, lambda item: item), Kind(together, lambda item: item), Slow()
        first = writer.do(slow)
        await slow.has_begun()
        waiting = [writer.add(kind, item) for item in "abcde"]
        waiting += [writer.do(lambda: "-"), writer.add(kind, "f"), writer.add(other, "g"), writer.add(kind, "f")]
        waiting += [writer.add(kind, item) for item in "ffg"]
        slow.go.set()
        return [await first, *await asyncio.gather(*waiting)]

    assert "".join(run(act, together=4)[1:]) == "ABCDE-FGFFFG"
    assert ["".join(items) for items in taken] == ["abcd", "e", "f", "g", "f", "f", "fg"]


def test_each_of_those_taken_together_has_its_own_outcome() -> None:
    def together(items: Sequence[int]) -> list[Any]:
        return [item if item % 2 else ValueError(str(item)) for item in items]

    async def act(writer: Writer) -> list[Any]:
        kind: Kind[int, int] = Kind(together, lambda item: item)
        return await asyncio.gather(*(writer.add(kind, item) for item in range(4)), return_exceptions=True)

    zero, one, two, three = run(act)
    assert (str(zero), one, str(two), three) == ("0", 1, "2", 3)


def test_an_error_is_the_askers_and_the_writer_goes_on() -> None:
    async def act(writer: Writer) -> Any:
        with pytest.raises(ZeroDivisionError):
            await writer.do(lambda: 1 / 0)
        kind: Kind[int, int] = Kind(lambda items: [1 // item for item in items], lambda item: item)
        with pytest.raises(ZeroDivisionError):
            await writer.add(kind, 0)
        return await writer.do(lambda: 7)

    assert run(act) == 7


def test_a_full_queue_refuses_and_has_room_again() -> None:
    async def act(writer: Writer) -> None:
        slow = Slow()
        first = writer.do(slow)
        await slow.has_begun()
        waiting = [writer.do(lambda: 1) for _ in range(3)]
        with pytest.raises(Unavailable, match="3 writes are waiting"):
            writer.do(lambda: 1)
        slow.go.set()
        await asyncio.gather(first, *waiting)
        assert await writer.do(lambda: 2) == 2

    run(act, limit=3)


def test_what_nobody_waits_for_any_more_is_dropped_and_makes_room() -> None:
    done: list[str] = []

    async def act(writer: Writer) -> None:
        slow = Slow()
        first = writer.do(slow)
        await slow.has_begun()
        gone = writer.do(lambda: done.append("gone"))
        gone.cancel()
        await asyncio.sleep(0)
        await asyncio.gather(writer.do(lambda: done.append("kept")), asyncio.to_thread(slow.go.set), first)

    run(act, limit=1)
    assert done == ["kept"]


def test_what_has_begun_is_finished_whoever_goes() -> None:
    done: list[str] = []

    async def act(writer: Writer) -> None:
        slow = Slow()

        def write() -> None:
            done.append(slow())

        first = writer.do(write)
        await slow.has_begun()
        first.cancel()
        slow.go.set()
        await writer.do(lambda: done.append("next"))

    run(act)
    assert done == ["done", "next"]


def test_at_the_end_what_has_begun_is_finished_and_the_rest_refused() -> None:
    done: list[str] = []

    async def act(writer: Writer) -> None:
        slow = Slow()
        first = writer.do(slow)
        await slow.has_begun()
        waiting = writer.do(lambda: done.append("never"))
        ending = asyncio.create_task(asyncio.to_thread(writer.end))
        with pytest.raises(Unavailable, match="ending"):
            await waiting
        with pytest.raises(Unavailable, match="ending"):
            writer.do(lambda: done.append("never"))
        slow.go.set()
        assert await first == "done"
        await ending
        assert not writer.alive

    run(act)
    assert done == []


def test_who_watches_sees_how_long_the_same_write_takes() -> None:
    async def act(writer: Writer) -> None:
        assert writer.busy_for() == 0
        slow = Slow()
        first = writer.do(slow)
        await slow.has_begun()
        earlier = writer.busy_for()
        await asyncio.sleep(0.01)
        assert writer.busy_for() > earlier > 0
        slow.go.set()
        await first

    run(act)


def test_what_can_wait_is_done_once_nothing_else_does() -> None:
    cleared = Event()
    seen: list[str] = []

    def afterwards() -> None:
        seen.append("after")
        cleared.set()

    async def act(writer: Writer) -> None:
        await asyncio.gather(*(writer.do(lambda: seen.append("write")) for _ in range(3)))
        assert await asyncio.to_thread(cleared.wait, 30)
        await writer.do(lambda: None)

    run(act, afterwards=afterwards)
    assert seen[:4] == ["write", "write", "write", "after"]


def test_of_the_writes_that_may_wait_the_last_quarter_is_roots() -> None:
    slow = Slow()

    async def act(writer: Writer) -> None:
        first = writer.do(slow)
        await slow.has_begun()
        waiting = [writer.do(int, whose=MEMBER) for _ in range(3)]
        with pytest.raises(Unavailable, match="3 writes"):
            writer.do(int, whose=MEMBER)
        waiting.append(writer.do(int))
        with pytest.raises(Unavailable, match="4 writes"):
            writer.do(int)
        slow.go.set()
        await asyncio.gather(first, *waiting)

    run(act, limit=4)


def test_of_the_reads_that_may_wait_the_last_quarter_is_roots() -> None:
    async def act() -> None:
        reader, slow = Reader("reads", limit=4), Slow()
        waiting = [asyncio.ensure_future(reader.do(slow, whose=MEMBER))]
        await slow.has_begun()
        waiting += [asyncio.ensure_future(reader.do(lambda: "done", whose=MEMBER)) for _ in range(2)]
        await asyncio.sleep(0)  # each has its place
        with pytest.raises(Unavailable, match="3 reads"):
            await reader.do(str, whose=MEMBER)
        waiting.append(asyncio.ensure_future(reader.do(lambda: "done")))
        await asyncio.sleep(0)
        slow.go.set()
        assert await asyncio.gather(*waiting) == ["done"] * 4
        reader.end()

    asyncio.run(act())


def test_who_asks_is_expected_to_ask_again_for_a_moment() -> None:
    async def act(writer: Writer) -> list[bool]:
        seen = [writer.at_work]
        await writer.do(lambda: None)
        seen.append(writer.at_work)
        await asyncio.sleep(LULL)
        return [*seen, writer.at_work]

    assert run(act) == [False, True, False]


def test_whoever_is_at_a_long_write_is_at_work() -> None:
    async def act(writer: Writer) -> bool:
        slow = Slow()
        first = writer.do(slow)
        await slow.has_begun()
        await asyncio.sleep(2 * LULL)
        seen = writer.at_work
        slow.go.set()
        await first
        return seen

    assert run(act)


def test_whoever_would_be_disturbed_is_told_before_a_write_begins() -> None:
    order: list[str] = []

    async def act() -> None:
        writer = Writer(limit=1, together=1, afterwards=lambda: None, coming=lambda: order.append("told"))
        writer.start()
        await writer.do(lambda: order.append("written"))
        await asyncio.to_thread(writer.end)

    asyncio.run(act())
    assert order == ["told", "written"]


def test_what_is_short_is_done_at_once_by_who_asks_where_nobody_waits() -> None:
    async def act(writer: Writer) -> None:
        assert writer.at_once(get_ident) == get_ident()
        assert writer.at_work  # and may ask again at once
        slow = Slow()
        first = writer.do(slow)
        await slow.has_begun()
        assert writer.at_once(get_ident) is None
        second = writer.do(get_ident)
        slow.go.set()
        assert await first == "done" and await second != get_ident()
        deadline = time.monotonic() + 30
        while writer.busy_for():
            assert time.monotonic() < deadline
            await asyncio.sleep(0)
        assert writer.at_once(get_ident) == get_ident()
        writer.refuse()
        assert writer.at_once(get_ident) is None

    run(act)


def test_what_took_long_at_once_has_others_go_to_the_thread_for_a_while() -> None:
    async def act(writer: Writer) -> None:
        writer.at_once(lambda: time.sleep(2 * LONG))
        assert writer.at_once(get_ident) is None
        assert await writer.do(get_ident) != get_ident()

    run(act)


def test_what_can_wait_comes_its_time_after_what_was_done_at_once() -> None:
    pause, done, asked = 0.2, list[float](), list[float]()
    chore = Chore(lambda: done.append(time.monotonic()), lambda: pause)

    async def main() -> None:
        writer = Writer(limit=1, together=1, afterwards=lambda: None, chores=[chore])
        writer.start()
        await asyncio.sleep(0.05)  # it sleeps, with nothing to do
        for _ in range(3):
            asked.append(writer.at_once(time.monotonic) or 0.0)
            await asyncio.sleep(pause / 3)
        while not done:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(writer.end)

    asyncio.run(asyncio.wait_for(main(), 30))
    assert done[0] >= asked[-1] + pause


@pytest.mark.parametrize("looks", [False, True])
def test_what_only_looks_puts_nothing_off(looks: bool) -> None:
    """The status asked for every 20 ms kept a pool half full for as long as that went on."""
    pause, done = 0.2, list[float]()
    chore = Chore(lambda: done.append(time.monotonic()), lambda: pause)

    async def main() -> None:
        writer = Writer(limit=1, together=1, afterwards=lambda: None, chores=[chore])
        writer.start()
        await writer.do(lambda: None)
        until = time.monotonic() + 4 * pause
        while time.monotonic() < until:
            await writer.do(lambda: None, looks=looks)
            await asyncio.sleep(0.002)
        assert bool(done) is looks
        await asyncio.to_thread(writer.end)

    asyncio.run(asyncio.wait_for(main(), 30))
