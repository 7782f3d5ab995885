"""What `down` puts back of the node's own settings, and what it leaves because somebody else needs it by now."""

from collections.abc import Iterator

import pytest

from world import World, open_world

pytestmark = pytest.mark.root

UPLINK4, ALL4 = "net/ipv4/conf/eth0/forwarding", "net/ipv4/conf/all/forwarding"
UPLINK6, ALL6 = "net/ipv6/conf/eth0/force_forwarding", "net/ipv6/conf/all/force_forwarding"
BRIDGED = ("net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables")


@pytest.fixture
def node() -> Iterator[World]:
    """A node that is no router, and whose bridges are not filtered."""
    with open_world(up=False) as world:
        write(world, "0", *present(world, ALL4, "net/ipv6/conf/all/forwarding", *BRIDGED))
        yield world


def read(world: World, name: str) -> str | None:
    return world.wall._site.sysctls.read(name)


def present(world: World, *names: str) -> list[str]:
    """Those that this kernel has."""
    return [name for name in names if read(world, name) is not None]


def write(world: World, value: str, *names: str) -> None:
    for name in names:
        world.lab.node.run(["sysctl", "-qw", f"{name.replace('/', '.')}={value}"])


def changed(world: World) -> dict[str, str | None]:
    """What `up` changes of the node's, as it is now."""
    return {name: read(world, name) for name in present(world, UPLINK4, UPLINK6, *BRIDGED)}


def test_a_node_that_was_no_router_is_none_again(node: World) -> None:
    before = changed(node)
    assert set(before.values()) == {"0"}
    node.wall.up()
    assert set(changed(node).values()) == {"1"}
    assert read(node, ALL4) == "0"
    node.wall.down()
    assert changed(node) == before


def test_who_made_the_node_a_router_since_is_not_cut_off(node: World) -> None:
    """Docker and kubelet write what is so already: of the interface's own setting nobody could tell."""
    node.wall.up()
    write(node, "1", ALL4, *present(node, *BRIDGED))
    node.wall.down()
    kept = present(node, UPLINK4, *BRIDGED)
    assert [read(node, name) for name in kept] == ["1"] * len(kept)
    assert [read(node, name) for name in present(node, UPLINK6)] == ["0"] * len(present(node, UPLINK6))


def test_what_counts_is_how_it_was_before_the_first_change(node: World) -> None:
    node.wall.up()
    write(node, "1", ALL4)
    write(node, "0", *present(node, UPLINK4, *BRIDGED))  # drift, which a second `up` mends
    node.wall.up()
    node.wall.down()
    kept = present(node, UPLINK4, *BRIDGED)
    assert [read(node, name) for name in kept] == ["1"] * len(kept)


def test_who_forwards_ipv6_by_force_since_is_not_cut_off(node: World) -> None:
    if not present(node, ALL6):
        pytest.skip("no force_forwarding before Linux 6.17")
    node.wall.up()
    write(node, "1", ALL6)
    node.wall.down()
    assert (read(node, UPLINK6), read(node, UPLINK4)) == ("1", "0")


def test_an_interface_that_a_router_does_not_forward_by_is_put_back(node: World) -> None:
    write(node, "1", ALL4)
    write(node, "0", UPLINK4)
    node.wall.up()
    assert read(node, UPLINK4) == "1"
    node.wall.down()
    assert (read(node, UPLINK4), read(node, ALL4)) == ("0", "1")


def test_how_it_was_before_the_wall_is_asked_anew_by_the_next_one(node: World) -> None:
    node.wall.up()
    write(node, "1", ALL4)
    node.wall.down()
    write(node, "0", UPLINK4)
    node.wall.up()
    node.wall.down()
    assert read(node, UPLINK4) == "0"


def test_a_value_that_somebody_else_wrote_since_stays(node: World) -> None:
    node.wall.up()
    write(node, "2", UPLINK4)  # which is as good as 1
    assert node.wall.status().drift == (f"kernel setting {UPLINK4} is 2, not 1",)
    node.wall.down()
    assert read(node, UPLINK4) == "2"
