"""What somebody else changes in the node's own sets is drift, and is repaired: an emptied floor is an open door."""

from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from cellwall.lab import connect
from cellwall.model.settings import Settings, parse_openings
from world import Stream, World, assert_connection, open_world, rewired

pytestmark = pytest.mark.root
HOLES = {
    "emptied floor": ("flush set inet cellwall floor4", "10.0.0.5"),
    "a network less": ("delete element inet cellwall floor4 { 10.0.0.0/8 }", "10.0.0.5"),
    "emptied IPv6 floor": ("flush set inet cellwall floor6", "2002::9"),
    "an exception more": ("add element inet cellwall opened4 { 169.254.169.254 . tcp . 80 }", "169.254.169.254"),
    "a service more": ("add element inet cellwall services4 { 93.184.216.10 . tcp . 80 }", "93.184.216.10"),
}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with open_world() as world:
        for host in (world.lab.internet, world.lab.node):
            host.serve(tcp=[53, 80])
        yield world


@pytest.mark.parametrize("name", HOLES)
def test_a_hole_in_the_nodes_sets_is_found_and_closed(world: World, name: str) -> None:
    command, address = HOLES[name]
    tenant = world.attach("tenant")
    assert world.wall.status().drift == ()
    world.lab.node.run(["nft", *command.split()])
    assert_connection(tenant.host, address, 80)
    with Stream(tenant.host, address, 80) as through:
        assert through.ask(world.token())
        assert world.wall.status().drift != ()
        assert world.wall.reconcile().repaired != ()
        assert not through.ask(world.token(), 0.2)  # what came through the hole ends with it
    assert connect(tenant.host, address, 80, timeout=10.0).kind == "refused"
    assert world.wall.status().drift == ()
    assert world.wall.reconcile().repaired == ()
    world.detach(tenant)


def test_openings_and_floor_follow_the_configuration_under_endpoints(world: World) -> None:
    tenant = world.attach("tenant")
    opened = Settings(
        exceptions=parse_openings("db 10.0.0.5 tcp/80", "x") + parse_openings("db fc00:9::9 tcp/80", "x"),
        services=parse_openings("names 192.168.0.1 tcp/53", "x"),
        protect=(ip_network("151.101.1.69"),),
    )
    before = {"10.0.0.5": "refused", "fc00:9::9": "refused", "151.101.1.69": "answer"}
    after = {"10.0.0.5": "answer", "fc00:9::9": "answer", "151.101.1.69": "refused"}
    for settings, expected, gateway in ((Settings(), before, "refused"), (opened, after, "answer")) * 2:
        rewired(world.wall, settings=settings).up()
        for address, kind in expected.items():
            assert connect(tenant.host, address, 80, timeout=10.0).kind == kind
        assert connect(tenant.host, "192.168.0.1", 53, timeout=10.0).kind == gateway
    world.wall.up()
    world.detach(tenant)
