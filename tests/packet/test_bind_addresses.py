"""A port is published at an address of the node, or nobody could come by it."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cellwall.errors import Conflict
from cellwall.lab.addresses import NODE_INFRA
from packet.test_exposure import SECOND
from world import World, assert_connection, open_world, write_setting

pytestmark = pytest.mark.root
BOTH = pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
OTHERS = {4: "93.184.216.99", 6: "2606:2800:220:1::99"}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with open_world() as world:
        yield world


def at(address: str, port: int = 8090) -> str:
    return f"[{address}]:{port}:80" if ":" in address else f"{address}:{port}:80"


@contextmanager
def added(world: World, *address: str) -> Iterator[str]:
    world.lab.node.run(["ip", "address", "add", *address, "dev", "eth0"])
    try:
        yield address[0].partition("/")[0]
    finally:
        world.lab.node.run(["ip", "address", "del", address[0], "dev", "eth0"])


@pytest.mark.parametrize("bind", [*OTHERS.values(), "10.9.9.9", "224.0.0.1", "255.255.255.255", "ff02::1", "fe80::99"])
def test_an_address_that_the_node_lacks_is_refused_and_nothing_is_published(world: World, bind: str) -> None:
    web = world.attach("web")
    with pytest.raises(Conflict, match=r"expose\.bind"):
        world.wall.expose(web.name, at(bind))
    assert world.wall.endpoint(web.name).bindings == ()
    box = world.host("box")
    with pytest.raises(Conflict, match=r"expose\.bind"):
        world.wall.attach(box.name, netns=box.netns, expose=[at(bind)])
    assert box.name not in {one.key.container_id for one in world.wall.endpoints()}
    assert world.wall.status().drift == ()


@BOTH
def test_an_address_of_any_interface_is_the_nodes_and_so_is_one_that_a_route_says_is_local(
    world: World, family: int
) -> None:
    web, routed = world.attach("web"), OTHERS[family]
    route = ["ip", f"-{family}", "route", "add", "local", f"{routed}/{32 if family == 4 else 128}", "dev", "lo"]
    world.lab.node.run(route)
    try:
        with web.host.serve(tcp=[80]):
            for number, address in enumerate((NODE_INFRA[family], routed)):
                world.wall.expose(web.name, at(address, 8090 + number))
                assert_connection(world.lab.node, address, 8090 + number)
        assert world.wall.status().warnings == ()
    finally:
        world.detach(web)
        route[3] = "del"
        world.lab.node.run(route)


@pytest.mark.parametrize("bind", ["224.0.0.1", "255.255.255.255", "ff02::1"])
def test_an_address_that_can_be_no_nodes_is_refused_also_where_programs_may_bind_any(world: World, bind: str) -> None:
    web, setting = world.attach("web"), f"net/ipv{6 if ':' in bind else 4}/ip_nonlocal_bind"
    write_setting(world.lab.node, setting, "1")
    try:
        with pytest.raises(Conflict, match=r"expose\.bind"):
            world.wall.expose(web.name, at(bind))
    finally:
        write_setting(world.lab.node, setting, "0")
        world.detach(web)


@BOTH
def test_a_node_whose_programs_may_bind_any_address_publishes_at_one_that_is_still_to_come(
    world: World, family: int
) -> None:
    web, later = world.attach("web"), SECOND[family][0].partition("/")[0]
    setting = f"net/ipv{family}/ip_nonlocal_bind"
    write_setting(world.lab.node, setting, "1")
    try:
        world.wall.expose(web.name, at(later))
    finally:
        write_setting(world.lab.node, setting, "0")
    (warning,) = world.wall.status().warnings
    assert later in warning and web.name in warning
    with added(world, *SECOND[family]), web.host.serve(tcp=[80]):
        assert_connection(world.lab.lan, later, 8090)
        world.wall.up()
        assert world.wall.status().warnings == ()
    world.wall.up()
    assert len(world.wall.status().warnings) == 1
    assert world.wall.status().drift == ()
    world.detach(web)
