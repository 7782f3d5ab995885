"""Whose a bridge is: what a killed `up` left is taken over, somebody else's is refused before anything changes."""

import pytest

from cellwall.errors import Conflict
from cellwall.lab import connect
from engine.snapshots import node_snapshot
from engine.steps import assert_converged
from world import World

pytestmark = pytest.mark.root


def test_a_bridge_that_a_crash_left_without_its_alias_is_taken_over(fresh_node: World) -> None:
    bare = node_snapshot(fresh_node)
    fresh_node.lab.node.run(["ip", "link", "add", "b9_br0", "group", "184", "type", "bridge"])
    fresh_node.wall.up()
    tenant = fresh_node.attach("tenant")
    assert connect(tenant.host, "1.1.1.1", 53, udp=True, payload=bytes(30)).kind == "answer"
    assert_converged(fresh_node.wall)
    fresh_node.wall.down(force=True)
    assert node_snapshot(fresh_node) == bare


@pytest.mark.parametrize(
    "made",
    [
        ["ip link add b9_br0 type bridge"],
        ["ip link add b9_br0 group 7 type bridge"],
        ["ip link add b9_br0 group 184 type veth peer name other0"],
        ["ip link add b9_br0 group 184 type bridge", "ip link set b9_br0 alias theirs"],
    ],
    ids=["bridge", "bridge in a group", "other kind", "bridge with another alias"],
)
def test_what_somebody_else_made_is_refused_and_left_as_it_is(fresh_node: World, made: list[str]) -> None:
    for command in made:
        fresh_node.lab.node.run(command.split())
    before = node_snapshot(fresh_node)
    with pytest.raises(Conflict, match="b9_br0"):
        fresh_node.wall.up()
    assert node_snapshot(fresh_node) == before
