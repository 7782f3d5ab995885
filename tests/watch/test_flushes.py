"""During what others do to all rules at once nothing denied arrives, watched or not; where it is watched all is back.
Denied packets are sent without a pause, from sandboxes and to them; that they would arrive without the latch,
`tests/neighbours/test_siege.py` shows."""

from collections.abc import Iterator

import pytest

from neighbours.beside import Tenants, tenants
from watch.watchman import Watchman, watched
from world import Stream, World, open_world, public

pytestmark = pytest.mark.root

EMPTY = b"*filter\nCOMMIT\n*nat\nCOMMIT\n*mangle\nCOMMIT\n*raw\nCOMMIT\n*security\nCOMMIT\n"
OURS_ARE_GONE = ("nft flush ruleset",)
IN_PART = (
    "nft flush ruleset inet",
    "nft flush table inet cellwall",
    "nft delete table inet cellwall",
)
"""What judges is gone, and what vouches is not: open until it is closed (`tests/packet/test_half_flushed.py`)."""
NOT_OURS = (
    "iptables-nft -F",
    "iptables-nft -t nat -F",
    "ip6tables-nft -F",
    "iptables-legacy -F",
    "iptables-legacy -t nat -F",
    "ebtables-nft -F",
    "iptables-nft-restore",
    "ip6tables-nft-restore",
    "iptables-legacy-restore",
)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with open_world() as world:
        yield world


@pytest.fixture(scope="module")
def ours(world: World) -> Iterator[Tenants]:
    with tenants(world) as ours:
        yield ours


def flush(world: World, command: str) -> None:
    program, *rest = command.split()
    waiting = ["-w", "10"] if "legacy" in program else []  # the lock of the legacy tables is the machine's
    world.lab.node.run([program, *waiting, *rest], input=EMPTY if program.endswith("restore") else None)


@pytest.mark.parametrize("command", [*OURS_ARE_GONE, *NOT_OURS])
def test_nothing_denied_arrives_where_nobody_watches(world: World, ours: Tenants, command: str) -> None:
    for _ in range(3):
        with ours.besieged(), Stream(ours.rogue.host, public(4), 80, udp=True) as stream:
            gone = command in OURS_ARE_GONE
            flush(world, command)
            assert bool(world.wall.status().drift) == gone
            assert stream.ask(world.token(), 0.2) != gone  # closed to everybody, that is
            world.wall.reconcile()
        ours.assert_work()


@pytest.mark.parametrize("command", IN_PART)
def test_what_is_taken_away_in_part_is_told_where_nobody_watches(world: World, ours: Tenants, command: str) -> None:
    flush(world, command)
    assert world.wall.status().drift[0] in ("our tables are missing", "our rules were changed")
    world.wall.reconcile()
    with ours.besieged():
        pass
    ours.assert_work()


@pytest.fixture(scope="module")
def man(world: World, ours: Tenants) -> Iterator[Watchman]:
    with watched(world) as man:
        yield man


@pytest.mark.parametrize("command", [*OURS_ARE_GONE, *NOT_OURS])
def test_nothing_denied_arrives_and_all_is_back_where_somebody_watches(
    world: World, ours: Tenants, man: Watchman, command: str
) -> None:
    for _ in range(3):
        with ours.besieged():
            flush(world, command)
            if command in OURS_ARE_GONE:
                man.heard("repaired in")
        ours.assert_work()
        assert world.wall.status().drift == ()


@pytest.mark.parametrize("command", IN_PART)
def test_what_is_taken_away_in_part_is_closed_and_back_where_somebody_watches(
    world: World, ours: Tenants, man: Watchman, command: str
) -> None:
    for _ in range(3):
        flush(world, command)
        man.heard("repaired in")
        with ours.besieged():
            pass
        ours.assert_work()
        assert world.wall.status().drift == ()
