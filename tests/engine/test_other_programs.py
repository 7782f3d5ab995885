"""What another version of the program left: its record, its sets, and endpoints that are closed in spite of both."""

import os
from collections.abc import Iterator

import msgspec
import pytest

from cellwall import __version__
from cellwall.api import Wall
from cellwall.errors import Conflict
from cellwall.lab.addresses import NODE4
from cellwall.model.network import Network
from cellwall.model.settings import Settings
from world import Stream, World, open_world, public, rewired, ruleset

pytestmark = pytest.mark.root


@pytest.fixture
def world() -> Iterator[World]:
    with open_world() as world:
        world.lab.internet.serve(udp=[80])
        yield world


def record(world: World, **changes: object) -> None:
    """The foundation as another program would have it on record."""
    found = world.wall._site.foundation()
    assert found is not None
    with world.wall._site.journal.transaction():
        world.wall._site.journal.put("foundation", msgspec.json.encode(msgspec.structs.replace(found, **changes)))


def test_fields_of_the_network_that_only_one_program_knows_are_no_change_of_it(world: World) -> None:
    world.attach("tenant")
    fields = Network().fields()
    for others in ({}, {**fields, "later": "x"}, {name: fields[name] for name in ("bridge", "subnet4")}):
        record(world, program="0.0.0", network_fields=others)
        assert world.wall.up().changed
        assert world.wall.status().drift == ()
    with pytest.raises(Conflict, match="network: its configuration changed"):
        rewired(world.wall, settings=Settings(network=Network(bridge="b9_new"))).up()


OLDER = """
delete table bridge cellwall
table bridge cellwall {
    set ports { type ifname; }
    set pin4 { type ether_addr . ipv4_addr; elements = { 0a:58:c0:a8:00:02 . 192.168.0.2 } }
    set pin6 { type ether_addr . ipv6_addr; }
    set arps { type ifname; size 100; flags dynamic; }
    set solicitations { type ifname; size 100; flags dynamic; }
    chain other { type filter hook forward priority 0; policy accept; }
}
"""


def lay_older_sets(world: World, program: str) -> None:
    """Sets whose elements have other keys, and the record of them."""
    rules = world.wall._site.rules
    rules.load(OLDER)
    record(world, program=program, rules="older", sets="older", shape=rules.shape())


PROGRAMS = pytest.mark.parametrize("program", ["0.0.0", __version__], ids=["another version", "the same version"])


@PROGRAMS
def test_what_is_closed_on_sets_of_another_program_is_closed(world: World, program: str) -> None:
    one, two = world.attach("one", expose=["8080:80/udp"]), world.attach("two")
    one.host.serve(udp=[80])
    with (
        Stream(world.lab.lan, NODE4, 8080, udp=True) as published,
        Stream(two.host, public(4), 80, udp=True) as out,
        Stream(one.host, public(4), 80, udp=True) as staying,
    ):
        for stream in (published, out, staying):
            assert stream.ask(world.token())
        lay_older_sets(world, program)
        world.wall.unexpose(one.name, "8080:80/udp")
        assert not published.ask(world.token(), timeout=0.2)
        lay_older_sets(world, program)
        assert world.detach(two)
        assert not out.ask(world.token(), timeout=0.2)
        assert staying.ask(world.token())
    assert world.wall.status().drift == ()


def test_settings_that_nobody_can_read_now_keep_nobody_from_closing(world: World) -> None:
    tenant, other = world.attach("tenant"), world.attach("other")
    with (
        Stream(tenant.host, public(4), 80, udp=True) as closed,
        Stream(other.host, public(4), 80, udp=True) as staying,
        Wall.open(root=world.lab.root, settings=lambda: world.wall.settings) as wall,
    ):
        assert closed.ask(world.token())
        assert staying.ask(world.token())
        lay_older_sets(world, "0.0.0")
        record(world, settings="older")
        assert wall.detach(tenant.name)
        assert not closed.ask(world.token(), timeout=0.2)
        assert staying.ask(world.token())
        assert wall.status().drift == ()


@pytest.fixture
def upgraded(world: World) -> World:
    """A node with a tenant that an older program attached, which wrote its settings as nobody can read them now."""
    world.attach("tenant")
    lay_older_sets(world, "0.0.0")
    record(world, settings="older")
    return world


def test_down_by_force_removes_sets_of_another_program(upgraded: World) -> None:
    world, host = upgraded, upgraded.host()
    with pytest.raises(Conflict, match="attached"):
        world.wall.down()
    world.wall.down(force=True)
    assert "cellwall" not in ruleset(world)
    assert "b9" not in world.lab.node.run(["ip", "-br", "link"]).text
    assert world.wall.endpoints() == ()
    world.wall.up()
    world.wall.attach("again", netns=host.netns)
    assert world.wall.status().drift == ()


def test_uninstall_by_force_removes_sets_of_another_program(upgraded: World) -> None:
    upgraded.wall.uninstall(force=True)
    assert "cellwall" not in ruleset(upgraded)
    assert not os.path.exists(upgraded.wall.paths.run)
