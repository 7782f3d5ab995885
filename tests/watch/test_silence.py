"""What makes no event is noticed by its size, or counts as changed after a while."""

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from cellwall.adapters.news.alarms import Alarm
from cellwall.engine.backend import Holder
from cellwall.model.settings import Settings
from cellwall.watch import silence
from cellwall.watch.silence import Silence
from world import World, open_world

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with open_world(settings=Settings(backend="iptables", iptables="legacy")) as world:
        yield world


@pytest.fixture
def silent(world: World) -> Iterator[Silence]:
    world.wall.repair()
    with ExitStack() as opened:
        silent = Silence(opened)
        silent.attend(world.wall.holder, took=0.0)
        yield silent


@pytest.mark.parametrize(
    "command",
    ["iptables-legacy -w 10 -F", "ip6tables-legacy -w 10 -t mangle -F", "ipset flush", "ipset flush b9floor6"],
)
def test_what_became_smaller_is_damage(world: World, silent: Silence, command: str) -> None:
    assert silent.read() == Alarm.NOTHING
    world.lab.node.run(command.split())
    assert silent.read() == Alarm.DAMAGED


def test_what_was_exchanged_for_as_much_counts_as_changed_after_a_while(
    world: World, silent: Silence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "CONTENTS", 0.0)
    silent.attend(world.wall.holder, took=0.0)
    assert silent.read() == Alarm.CHANGED


def test_what_takes_long_to_compare_is_compared_less_often(world: World, silent: Silence) -> None:
    silent.attend(world.wall.holder, took=3600.0)
    assert silent.read() == Alarm.NOTHING
    assert silent.due() <= time.monotonic() + silence.SIZES


def test_nobody_asks_about_a_wall_that_tells_of_itself(silent: Silence) -> None:
    silent.attend(Holder("nftables"), took=0.0)
    assert silent.due() == float("inf")
    assert silent.read() == Alarm.NOTHING
