"""Every link is as wide as the node interface, from the attach on, and follows it."""

from collections.abc import Iterator

import msgspec
import pytest

from cellwall.lab import Host
from cellwall.lab.transfer import echoed_bytes
from cellwall.model.network import Network
from cellwall.model.settings import Settings
from world import Sandbox, World, public, rewired

pytestmark = pytest.mark.root

ECHO = 7
SIZE = 1 << 18


@pytest.fixture
def node(fresh_node: World) -> Iterator[World]:
    with fresh_node.lab.internet.serve(tcp=[ECHO]):
        yield fresh_node


def mtu_of(host: Host, link: str) -> int:
    (shown,) = msgspec.json.decode(host.run(["ip", "-j", "link", "show", link]).stdout)
    return int(shown["mtu"])


def resize(world: World, mtu: int, link: str = "eth0") -> None:
    """The link as it is, and what is on the other side of it too: a path of that width."""
    world.lab.node.run(["ip", "link", "set", link, "mtu", str(mtu)])


def widths(world: World, *sandboxes: Sandbox) -> set[int]:
    """The MTUs of the bridge and of both ends of these pairs."""
    ends = {mtu_of(world.lab.node, sandbox.endpoint.host_link) for sandbox in sandboxes}
    return {mtu_of(world.lab.node, "b9_br0"), *ends, *(mtu_of(sandbox.host, "eth0") for sandbox in sandboxes)}


def test_links_are_as_wide_as_the_node_interface_at_attach(node: World) -> None:
    resize(node, 1420)
    node.wall.up()
    tenant = node.attach("tenant")
    assert widths(node, tenant) == {1420}
    assert node.wall.status().drift == ()


def test_a_configured_node_interface_gives_its_own_width(node: World) -> None:
    resize(node, 1440, "eth1")
    with rewired(node.wall, settings=Settings(interface="eth1")) as wall:
        wall.up()
    assert widths(node) == {1440}


@pytest.mark.parametrize("mtu", [1400, 9000])
def test_all_links_follow_the_node_interface_and_transfers_go_on(node: World, mtu: int) -> None:
    node.wall.up()
    first, second = node.attach("first"), node.attach("second")
    resize(node, mtu)
    assert widths(node, first, second) == {1500}
    assert node.wall.status().warnings
    third = node.attach("third")  # any operation follows
    assert widths(node, first, second, third) == {mtu}
    assert node.wall.status().drift == node.wall.status().warnings == ()
    assert node.wall.reconcile().repaired == ()
    if mtu < 1500:  # the wire itself is no wider than that
        for family in (4, 6):
            assert echoed_bytes(first.host, public(family), ECHO, SIZE) >= SIZE


def test_a_configured_width_is_followed_under_containers(node: World) -> None:
    node.wall.up()
    tenant = node.attach("tenant")
    with rewired(node.wall, settings=Settings(network=Network(mtu=1300))) as wall:
        assert wall.up().changed
        assert widths(node, tenant) == {1300}
        assert wall.reconcile().repaired == ()


def test_a_node_interface_too_narrow_for_ipv6_leaves_the_links_its_least(node: World) -> None:
    resize(node, 1000)
    node.wall.up()
    tenant = node.attach("tenant")
    assert widths(node, tenant) == {1280}
    assert echoed_bytes(tenant.host, public(4), ECHO, SIZE) >= SIZE  # by its segments, which fit the node interface


def test_a_node_interface_that_is_gone_leaves_the_links_as_they_are(node: World) -> None:
    resize(node, 1420)
    node.wall.up()
    tenant = node.attach("tenant")
    for family in ("-4", "-6"):
        node.lab.node.run(["ip", family, "route", "del", "default"])
    node.lab.node.run(["ip", "link", "set", "eth0", "name", "gone0"])
    node.wall.up()
    assert widths(node, tenant) == {1420}


def test_a_host_end_that_somebody_resized_is_named_and_repaired(node: World) -> None:
    node.wall.up()
    tenant = node.attach("tenant")
    link = tenant.endpoint.host_link
    resize(node, 1400, link)
    line = f"link {link} of {tenant.endpoint.key} has MTU 1400, not 1500"
    assert line in node.wall.status().drift
    assert line in node.wall.reconcile().repaired
    assert widths(node, tenant) == {1500}
    assert node.wall.status().drift == ()


def test_what_a_sandbox_does_to_its_own_end_is_no_drift(node: World) -> None:
    node.wall.up()
    tenant = node.attach("tenant")
    tenant.host.run(["ip", "link", "set", "eth0", "mtu", "1300"])
    assert node.wall.status().drift == ()
    assert node.wall.reconcile().repaired == ()
    assert mtu_of(tenant.host, "eth0") == 1300


def test_a_sandbox_without_its_interface_keeps_nobody_from_following(node: World) -> None:
    node.wall.up()
    first, second = node.attach("first"), node.attach("second")
    first.host.run(["ip", "link", "set", "eth0", "name", "renamed"])
    resize(node, 1400)
    node.wall.up()
    assert widths(node, second) == {1400}
