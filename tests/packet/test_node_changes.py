"""What changes on the node while a wall is open: the next operation has it, whatever came before."""

from ipaddress import ip_address

import pytest

from cellwall.api import check_policy
from cellwall.errors import InvalidSpec
from cellwall.lab import connect
from cellwall.lab.addresses import GATEWAY4, GATEWAY6, LAN4, LAN6, NODE4, NODE6
from world import PUBLIC4, PUBLIC6, World, assert_connection, open_world

pytestmark = pytest.mark.root
OTHER = ["ip link add other type bridge", "ip link set other addrgenmode none", "ip link set other up"]


def next_operation(world: World) -> None:
    world.detach(world.attach("passing"))


def floor(world: World, family: int) -> str:
    return world.lab.node.run(["nft", "list", "set", "inet", "cellwall", f"floor{family}"]).text


@pytest.mark.parametrize(
    ("family", "target", "changes"),
    [
        (4, PUBLIC4, [f"ip address add {PUBLIC4}/32 dev eth1"]),
        (6, PUBLIC6, [f"ip address add {PUBLIC6}/128 dev eth1 nodad"]),
        (4, PUBLIC4, [f"ip route add {PUBLIC4} dev eth0"]),
        (6, PUBLIC6, [f"ip route add {PUBLIC6} dev eth0"]),
        (
            4,
            PUBLIC4,
            [*OTHER, f"ip address add {PUBLIC4}/24 dev other"],
        ),
        (6, PUBLIC6, [*OTHER, f"ip route add {PUBLIC6} dev other"]),
        (4, PUBLIC4, [f"ip route add {PUBLIC4} via {LAN4}"]),
        (6, PUBLIC6, [f"ip route add {PUBLIC6} via {LAN6}"]),
        (4, PUBLIC4, [f"ip route add {PUBLIC4} via {LAN4}", f"ip route add default via {LAN4} metric 900"]),
        (6, PUBLIC6, [f"ip route add {PUBLIC6} via {LAN6}", f"ip route add fc00::/7 via {LAN6}"]),
        (4, PUBLIC4, [f"ip route add {PUBLIC4} dev eth0 table 100", f"ip rule add to {PUBLIC4} lookup 100"]),
        (6, PUBLIC6, [f"ip route add {PUBLIC6} dev eth0 table 100", f"ip -6 rule add to {PUBLIC6} lookup 100"]),
    ],
)
def test_what_becomes_the_nodes_own_is_denied_from_the_next_operation_on(
    family: int, target: str, changes: list[str]
) -> None:
    with open_world() as world:
        world.lab.internet.serve(tcp=[80])
        tenant = world.attach("tenant")
        for _ in range(3):
            next_operation(world)
        assert_connection(tenant.host, target, 80)
        assert target not in floor(world, family)
        for change in changes:
            world.lab.node.run(change.split())
        next_operation(world)
        assert target.rsplit(".", 1)[0] in floor(world, family)
        assert connect(tenant.host, target, 80, timeout=10.0).kind == "refused"
        assert world.wall.status().drift == ()


def test_a_link_that_goes_down_takes_what_was_behind_it_off_the_floor() -> None:
    with open_world() as world:
        node = world.lab.node
        for change in (*OTHER, f"ip route add {PUBLIC4} dev other"):
            node.run(change.split())
        for _ in range(3):
            next_operation(world)
        assert PUBLIC4 in floor(world, 4)
        node.run(["ip", "link", "set", "other", "down"])  # the kernel takes the route and says nothing of it
        next_operation(world)
        assert PUBLIC4 not in floor(world, 4)
        assert world.wall.status().drift == ()


def test_the_router_of_a_node_with_one_address_and_no_network_is_denied() -> None:
    """As clouds have it: the default route leads through an address that nothing else says is a neighbour's."""
    with open_world() as world:
        world.lab.internet.serve(tcp=[80])
        for change in (
            "ip address flush dev eth0 scope global",
            f"ip address add {NODE4}/32 dev eth0",
            f"ip -6 address add {NODE6}/128 dev eth0 nodad",
            f"ip route replace default via {GATEWAY4} dev eth0 onlink",
            f"ip -6 route replace default via {GATEWAY6} dev eth0 onlink",
        ):
            world.lab.node.run(change.split())
        lonely = [line for line in world.wall.up().warnings if "node.protect" in line]
        assert [line.split()[0] for line in lonely] == [NODE6, NODE4]
        tenant = world.attach("tenant")
        for public, router in ((PUBLIC4, GATEWAY4), (PUBLIC6, GATEWAY6)):
            assert_connection(tenant.host, public, 80)
            assert connect(tenant.host, router, 80, timeout=10.0).kind == "refused"


def test_what_is_behind_another_router_is_no_resolver_and_nothing_to_allow() -> None:
    with open_world() as world:
        for address in ("1.1.1.1", PUBLIC4):
            world.lab.node.run(f"ip route add {address} via {LAN4}".split())
        next_operation(world)
        assert ip_address("1.1.1.1") not in world.wall.dns()
        policy = {"mode": "allow", "rules": [{"action": "allow", "prefix": PUBLIC4}]}
        with pytest.raises(InvalidSpec, match="the node's own network"):
            world.wall.set_policy(policy, tenant="tenant")
        with pytest.raises(InvalidSpec, match="the node's own network"):
            check_policy(policy, world.wall.settings)
