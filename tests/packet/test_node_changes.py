"""What changes on the node while a wall is open: the next operation has it, whatever came before."""

import pytest

from cellwall.lab import connect
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
        assert connect(tenant.host, target, 80, timeout=0.5).kind == "refused"
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
