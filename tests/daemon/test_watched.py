"""The watch inside the daemon outlives its own defects, and not the wall."""

import threading
from typing import Any

import pytest

from cellwall.api import Wall
from cellwall.daemon import watched as module
from cellwall.daemon.watched import watched
from cellwall.errors import Dismissed
from world import World

pytestmark = pytest.mark.root


class Once:
    """A wall of which the first thing that is asked goes wrong."""

    def __init__(self, wall: Wall, error: Exception) -> None:
        self._wall = wall
        self._error: Exception | None = error
        self.held = threading.Event()

    def __getattr__(self, name: str) -> Any:
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        if name == "repair":
            self.held.set()
        return getattr(self._wall, name)


def beside(world: World) -> Wall:
    return Wall.open(root=world.lab.root, settings=lambda: world.wall.settings, reading=True)


def test_the_watch_begins_anew_after_a_defect(node_lab: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AGAIN", 0.01)
    told: list[Exception] = []
    wall = Once(node_lab.wall, RuntimeError("a defect"))
    with beside(node_lab) as closer, watched(wall, node_lab.wall, closer) as start:  # type: ignore[arg-type]
        start(told.append)
        assert wall.held.wait(30), "it looked at nothing again"
    assert told == []


def test_that_there_is_no_wall_any_more_is_told(node_lab: World) -> None:
    told, ended = list[Exception](), threading.Event()
    gone = Dismissed("cellwall was uninstalled meanwhile")
    with beside(node_lab) as closer, watched(Once(node_lab.wall, gone), node_lab.wall, closer) as start:  # type: ignore[arg-type]
        start(lambda error: (told.append(error), ended.set())[0])
        assert ended.wait(30)
    assert told == [gone]


def test_a_watch_that_waits_to_begin_anew_ends_at_once(node_lab: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AGAIN", 3600.0)
    wall = Once(node_lab.wall, RuntimeError("a defect"))
    with beside(node_lab) as closer, watched(wall, node_lab.wall, closer) as start:  # type: ignore[arg-type]
        start(lambda _: None)
