"""The same where iptables holds the wall: legacy tables and ipsets make no event, and are noticed all the same."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import pytest

from cellwall.lab import connect
from cellwall.model.settings import Settings
from watch.watchman import Watchman, watched
from world import World, assert_connection, open_world, public

pytestmark = pytest.mark.root

VARIANTS: tuple[Literal["nft", "legacy"], ...] = ("nft", "legacy")


class Node(NamedTuple):
    world: World
    man: Watchman
    variant: str


@pytest.fixture(scope="module", params=VARIANTS)
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    with open_world(settings=Settings(backend="iptables", iptables=request.param)) as world:
        world.lab.internet.serve(tcp=[80])
        with watched(world) as man:
            yield Node(world, man, request.param)


@pytest.mark.parametrize(
    "command",
    [
        "iptables-{} -F",
        "iptables-{} -t nat -F",
        "iptables-{} -t mangle -F",
        "ip6tables-{} -t raw -F",
        "iptables-{} -I FORWARD -j ACCEPT",
        "ipset flush",
    ],
)
def test_what_somebody_flushed_is_back(node: Node, command: str) -> None:
    tenant = node.world.attach("tenant")
    program, *rest = command.format(node.variant).split()
    waiting = ["-w", "10"] if "legacy" in program else []  # the lock of the legacy tables is the machine's
    node.world.lab.node.run([program, *waiting, *rest])
    assert "our rules were" in node.man.heard("repaired in")
    assert node.world.wall.status().drift == ()
    for family in (4, 6):
        assert_connection(tenant.host, public(family), 80)
    assert connect(tenant.host, "169.254.169.254", 80, timeout=0.5).kind != "answer"
    node.world.detach(tenant)


def test_what_judges_is_closed_at_once_and_back_where_every_table_is_emptied(node: Node) -> None:
    tenant = node.world.attach("tenant")
    empty = "".join(f"*{table}\nCOMMIT\n" for table in ("filter", "nat", "mangle", "raw", "security"))
    for _ in range(3):
        node.world.lab.node.run([f"iptables-{node.variant}-restore", "-w", "10"], input=empty.encode())
        assert any("closed" in line for line in node.man.heard_until("repaired in"))
        assert node.world.wall.status().drift == ()
        for family in (4, 6):
            assert_connection(tenant.host, public(family), 80)
        assert connect(tenant.host, "169.254.169.254", 80, timeout=0.5).kind != "answer"
    node.world.detach(tenant)


def test_a_rule_of_others_behind_ours_is_no_damage(node: Node) -> None:
    node.world.lab.node.run([f"iptables-{node.variant}", "-w", "10", "-A", "INPUT", "-i", "eth1", "-j", "ACCEPT"])
    assert node.world.wall.status().drift == ()
    tenant = node.world.attach("tenant")
    node.world.detach(tenant)
    node.man.heard("nothing to repair")
