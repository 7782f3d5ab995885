"""A replacement of the rules that dies half way, and then dies again: something whole stands at every moment.

Under endpoints it takes five loads, and between two of them the copy is all that holds. A death is SIGKILL right after
a load.
"""

import errno
from collections.abc import Callable, Iterator, Sequence
from itertools import product

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from cellwall.api import Wall
from cellwall.attack.flood import Flood
from cellwall.errors import KernelError
from cellwall.lab.addresses import NODE4, NODE6
from cellwall.model.addresses import mac_text
from cellwall.names import SPARE_TABLE, TABLE
from cellwall.ruleset.edits import Edit
from engine.steps import child_killed_at
from packet.test_blink import to_the_floor
from world import (
    Sandbox,
    Stream,
    World,
    Wrapped,
    about_nftables,
    assert_no_connection,
    open_world,
    public,
    rewired,
    ruleset,
    unlatch,
)

pytestmark = [
    pytest.mark.root,
    pytest.mark.minutes,
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]
LOADS = range(1, 6)
EVERY = tuple(product(LOADS, LOADS))
SOME = tuple(tuple(deaths for deaths in EVERY if sum(deaths) % 3 == rest) for rest in range(3))
"""Two deaths, by the loads that they come after, in three parts: in each of them each place of the one is with some
place of the other, and together they are every two."""
PAUSE, SHORT_PAUSE = 0.002, 0.0003
"""Seconds between rounds of a flood: what a death leaves stands until somebody comes, and loads are further apart. The
short one, with `--full`, also meets what stands for less."""


@pytest.fixture
def full(pytestconfig: pytest.Config) -> bool:
    """Time is no matter."""
    return bool(pytestconfig.getoption("--full"))


@pytest.fixture
def world() -> Iterator[World]:
    about_nftables("the copy of our tables")
    with open_world() as world:
        yield world


def up_killed_after(world: World, loads: int, *, owning: bool = False) -> bool:
    """Killed after its n-th load; False where it needed fewer and got through. `owning`: it is a process that owns our
    tables, as long as it lives."""

    def up(doom: Callable[[], None]) -> None:
        wall = Wall.open(root=world.lab.root, settings=world.wall.settings)
        real = wall._site.rules

        def lay(edits: Sequence[Edit]) -> None:
            real.lay(edits)
            doom()

        if owning:
            assert wall.own() == ""
        rewired(wall, rules=Wrapped(real, lay=lay)).up()

    return child_killed_at(loads, up)


def change_rules(world: World) -> None:
    """What makes the next `up` replace them whole."""
    world.lab.node.run(["nft", "add", "rule", "inet", TABLE, "forward", "counter"])


def only_the_rules_hold(world: World) -> None:
    """Without the latch, which stops what no rule judged, if whoever died laid it again: `up` puts it back."""
    bridge = world.wall.settings.network.bridge
    for side in ("ingress", "egress"):
        world.lab.node.run(["tc", "filter", "del", "dev", bridge, side, "pref", "2"], check=False)


def to_the_node(sandbox: Sandbox, gateway_mac: str) -> list[bytes]:
    """Frames to a service of the node."""
    ether = Ether(src=mac_text(sandbox.endpoint.mac), dst=gateway_mac)
    heads = [IP(src=sandbox.address(4), dst=NODE4), IPv6(src=sandbox.address(6), dst=NODE6)]
    return [bytes(ether / head / UDP(sport=6, dport=80) / Raw(b"<flood>")) for head in heads]


@pytest.mark.parametrize(
    ("owners", "deaths"),
    [
        pytest.param((False, False), SOME[0], id="nobody"),
        pytest.param((True, True), SOME[1], id="both"),
        pytest.param((True, False), SOME[2], id="the first", marks=pytest.mark.slow),
        pytest.param((False, True), SOME[0], id="the second", marks=pytest.mark.slow),
        pytest.param((False, False), EVERY, id="nobody, everywhere", marks=pytest.mark.full),
        pytest.param((True, True), EVERY, id="both, everywhere", marks=pytest.mark.full),
        pytest.param((True, False), EVERY, id="the first, everywhere", marks=pytest.mark.full),
        pytest.param((False, True), EVERY, id="the second, everywhere", marks=pytest.mark.full),
    ],
)
def test_no_order_of_two_deaths_opens_the_node(
    world: World, owners: tuple[bool, bool], deaths: tuple[tuple[int, int], ...], full: bool
) -> None:
    attacker = world.attach("attacker")
    everywhere, at_node = world.lab.internet.serve(udp=[80]), world.lab.node.serve(udp=[80])
    gateway = mac_text(world.wall.settings.network.bridge_mac)
    frames = [*to_the_floor(attacker, gateway), *to_the_node(attacker, gateway)]
    with Flood(attacker.host, "eth0", frames, every=SHORT_PAUSE if full else PAUSE) as flood:
        for first, second in deaths:
            change_rules(world)
            assert up_killed_after(world, first, owning=owners[0])
            only_the_rules_hold(world)
            flood.wait()
            up_killed_after(world, second, owning=owners[1])
            only_the_rules_hold(world)
            flood.wait()
            world.wall.up()
            assert SPARE_TABLE not in ruleset(world)
            assert not everywhere.saw(b"<flood"), (first, second)
            assert not at_node.saw(b"<flood"), (first, second)
        with Stream(attacker.host, public(4), 80, udp=True) as honest:
            assert honest.ask(b"<after all of them>")
        unlatch(world)
        world.lab.node.run(["nft", "flush", "ruleset"])  # it is the rules that hold
        assert everywhere.wait_for(b"<flood")
        assert at_node.wait_for(b"<flood")


def test_a_closed_sandbox_whose_link_still_stands_passes_nothing_while_the_rules_are_replaced(
    world: World, full: bool
) -> None:
    """Nobody is attached then, but somebody sends."""
    closed = world.attach("closed")
    everywhere, at_node = world.lab.internet.serve(udp=[80]), world.lab.node.serve(udp=[80])
    gateway = mac_text(world.wall.settings.network.bridge_mac)
    world.detach(closed)
    frames = [*to_the_floor(closed, gateway), *to_the_node(closed, gateway)]
    with Flood(closed.host, "eth0", frames, every=0) as flood:
        for _ in range(20 if full else 10):
            change_rules(world)
            flood.wait()
            assert world.wall.up().changed
        assert not everywhere.saw(b"<flood")
        assert not at_node.saw(b"<flood")
        unlatch(world)
        world.lab.node.run(["nft", "flush", "ruleset"])  # it is the rules that hold
        assert everywhere.wait_for(b"<flood")


def mending(world: World) -> Wall:
    return rewired(world.wall)


def without_memory(world: World) -> Wall:
    """One that can load no rules."""

    def lay(_: Sequence[Edit]) -> None:
        raise KernelError(errno.ENOMEM, "load rules")

    return rewired(world.wall, rules=Wrapped(world.wall._site.rules, lay=lay))


@pytest.mark.parametrize("closing", [mending, without_memory])
def test_what_is_closed_after_a_death_passes_nothing(world: World, closing: Callable[[World], Wall]) -> None:
    lan = world.lab.lan
    world.lab.internet.serve(udp=[80])
    for loads in LOADS:
        port = 8000 + loads
        tenant, other = world.attach("tenant", expose=[f"{port}:80/udp"]), world.attach("other")
        tenant.host.serve(udp=[80])
        with (
            Stream(lan, NODE4, port, udp=True) as published,
            Stream(other.host, public(4), 80, udp=True) as out,
            Stream(tenant.host, public(4), 80, udp=True) as staying,
        ):
            for stream in (published, out, staying):
                assert stream.ask(world.token())
            change_rules(world)
            assert up_killed_after(world, loads)
            wall = closing(world)
            wall.unexpose(tenant.name, f"{port}:80/udp")
            assert wall.detach(other.name)
            assert not published.ask(world.token(), timeout=0.2)
            assert not out.ask(world.token(), timeout=0.2)
            assert_no_connection(lan, NODE4, port, udp=True)
            assert_no_connection(other.host, public(4), 80, udp=True)
            assert staying.ask(world.token())
            world.wall.up()
            assert staying.ask(world.token())
            assert SPARE_TABLE not in ruleset(world)
            assert world.wall.status().drift == ()
            assert world.detach(tenant)
