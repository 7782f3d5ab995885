"""The loop itself, in a thread: by walls of which something goes wrong, or is taken away, at just one moment."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cellwall.api import Wall
from cellwall.errors import CellwallError, Dismissed, KernelError, Unavailable
from cellwall.model.settings import Settings
from cellwall.watch.loop import watch
from world import World, open_world

pytestmark = pytest.mark.root
PATIENCE = 30
TABLES = ("filter", "nat", "mangle", "raw", "security")


class Eventful:
    """A wall whose first repairs end with these events in place of, or after, what they do."""

    def __init__(self, wall: Wall, *events: Callable[[], None]) -> None:
        self._wall = wall
        self._events = list(events)
        self.asked: list[str] = []
        self.closed, self.repaired = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wall, name)

    def holds(self) -> bool:
        self.asked.append("holds")
        return self._wall.holds()

    def repair(self, **how: Any) -> tuple[str, ...]:
        self.asked.append("repair")
        done = self._wall.repair(**how)
        if self._events:
            self._events.pop(0)()
        else:
            self.repaired.set()
        return done

    def close_unjudged(self, **how: Any) -> bool:
        closed = self._wall.close_unjudged(**how)
        if closed:
            self.asked.append("closed")
            self.closed.set()
        return closed


@contextmanager
def watching(wall: Eventful) -> Iterator[list[Exception]]:
    """What ended it."""
    ended: list[Exception] = []
    reading, writing = os.pipe2(os.O_CLOEXEC)

    def run() -> None:
        try:
            watch(wall, reading)  # type: ignore[arg-type]
        except Exception as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield ended
    finally:
        os.close(writing)
        thread.join()
        os.close(reading)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with open_world() as world:
        yield world


def failing(error: CellwallError) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize("error", [Unavailable("nft -f -: no end within 30 s"), KernelError(12, "lay the rules")])
def test_a_repair_that_fails_is_tried_again(world: World, error: CellwallError) -> None:
    wall = Eventful(world.wall, failing(error), failing(error))
    with watching(wall) as ended:
        assert wall.repaired.wait(PATIENCE)
    assert ended == []


def test_it_ends_where_there_is_nothing_to_watch_any_more(world: World) -> None:
    gone = Dismissed("uninstalled")
    wall = Eventful(world.wall, failing(gone))
    with watching(wall) as ended:
        while not ended:
            assert not wall.repaired.wait(0.01)
    assert ended == [gone]


@pytest.fixture(scope="module")
def legacy() -> Iterator[World]:
    with open_world(settings=Settings(backend="iptables", iptables="legacy")) as world:
        world.attach("tenant")
        yield world


def test_what_was_emptied_without_a_word_while_it_looked_is_closed_before_the_next_look(legacy: World) -> None:
    empty = "".join(f"*{table}\nCOMMIT\n" for table in TABLES).encode()
    wall = Eventful(
        legacy.wall, lambda: (legacy.lab.node.run(["iptables-legacy-restore", "-w", "10"], input=empty), None)[1]
    )
    with watching(wall):
        assert wall.closed.wait(PATIENCE)
        assert wall.repaired.wait(PATIENCE)
    assert wall.asked.index("closed") == 1  # after the first look
    legacy.wall.repair()
    assert legacy.wall.status().drift == ()
