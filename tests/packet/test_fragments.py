"""The memory in which parts of datagrams wait for the rest: what sandboxes leave there, and what others still find."""

from collections.abc import Iterator

import pytest

from cellwall.adapters.node.sysctls import ProcSysctls
from cellwall.attack.frames import frame
from cellwall.lab import addresses as at
from cellwall.model.addresses import mac_text
from cellwall.model.settings import Settings
from packet.parts import first_parts
from world import Sandbox, Stream, World, about_nftables, open_world, public, write_setting

pytestmark = pytest.mark.root
FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
WAITS = ("net/ipv4/ipfrag_time", "net/netfilter/nf_conntrack_frag6_timeout")
LONG = b"x" * 4000
"""Three fragments, and three in answer."""
FILL = 4000
"""First parts that take all of the 4 MiB."""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with open_world() as world:
        world.lab.internet.serve(udp=[53])
        world.lab.node.serve(udp=[9999])
        yield world


def fill(world: World, sender: Sandbox, family: int) -> None:
    """Have the sandbox send as many parts as there is room for, of datagrams that never become whole."""
    macs = mac_text(sender.endpoint.mac), mac_text(world.wall.settings.network.bridge_mac)
    parts = first_parts(sender.address(family), public(family), range(1, FILL))
    sender.host.inject("eth0", [frame(*macs, part) for part in parts])


@FAMILIES
def test_who_fills_the_memory_of_fragments_leaves_room_for_neighbours_and_the_node(world: World, family: int) -> None:
    about_nftables("iptables has no table before fragments are put together")
    attacker, victim = world.attach(f"attacker{family}"), world.attach(f"victim{family}")
    with (
        Stream(victim.host, public(family), 53, udp=True) as neighbour,
        Stream(world.lab.internet, at.NODE[family], 9999, udp=True) as node,
    ):
        assert neighbour.ask(LONG)
        assert node.ask(LONG)
        for again in (b"1", b"2", b"3"):
            fill(world, attacker, family)
            assert neighbour.ask(LONG + again)
            assert node.ask(LONG + again)


@FAMILIES
def test_all_sandboxes_together_leave_room_for_what_comes_from_elsewhere(world: World, family: int) -> None:
    about_nftables("iptables has no table before fragments are put together")
    crowd = [world.attach(f"crowd{family}-{number}") for number in range(20)]
    with Stream(world.lab.internet, at.NODE[family], 9999, udp=True) as node:
        for one in crowd:
            fill(world, one, family)
        assert node.ask(LONG)


@pytest.mark.parametrize("backend", ["nftables", "iptables"])
def test_fragments_wait_for_seconds_while_there_is_a_wall(backend: str) -> None:
    sysctls = ProcSysctls()
    with open_world(settings=Settings(backend=backend)) as world:  # type: ignore[arg-type]
        assert [sysctls.read(name) for name in WAITS] == ["5", "5"]
        write_setting(world.lab.node, WAITS[0], "30")
        assert f"kernel setting {WAITS[0]} is 30, not 5" in world.wall.status().drift
        world.wall.reconcile()
        assert sysctls.read(WAITS[0]) == "5"
        world.wall.uninstall()
        assert [sysctls.read(name) for name in WAITS] == ["30", "60"]


def test_a_node_whose_fragments_wait_for_less_keeps_that() -> None:
    with open_world(up=False) as world:
        write_setting(world.lab.node, WAITS[0], "3")
        world.wall.up()
        assert ProcSysctls().read(WAITS[0]) == "3"
        assert world.wall.status().drift == ()
