"""kill -9 at every step of up, down and uninstall, on a node of the test's own."""

import pytest

from cellwall.api import Wall
from cellwall.lab import connect
from engine.snapshots import node_snapshot
from engine.steps import assert_converged, every_step, reopened
from world import World

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


def test_up_killed_at_every_step_on_a_bare_node(fresh_node: World) -> None:
    bare = node_snapshot(fresh_node)
    for step in every_step(fresh_node, lambda wall: wall.up()):
        assert_pinned_where_bridged(fresh_node)
        with reopened(fresh_node) as wall:
            wall.reconcile()
            assert_converged(wall)
            if step % 4 == 0:
                tenant = fresh_node.host("t")
                wall.attach(tenant.name, netns=tenant.netns)
                assert connect(tenant, "1.1.1.1", 53, udp=True, payload=bytes(30)).kind == "answer"
                wall.detach(tenant.name)
            wall.down()
        assert node_snapshot(fresh_node) == bare


def assert_pinned_where_bridged(world: World) -> None:
    """Nothing is forwarded for the bridge that the rules do not stand for already."""
    shown = world.lab.node.run(["nft", "list", "tables"]).text
    links = world.lab.node.run(["ip", "-br", "link"]).text
    if "b9_br0" in links:
        assert {"table bridge cellwall", "table inet cellwall"} <= set(shown.splitlines())


def test_down_killed_at_every_step(fresh_node: World) -> None:
    bare = node_snapshot(fresh_node)
    fresh_node.wall.up()
    for _ in every_step(fresh_node, lambda wall: wall.down(force=True)):
        with reopened(fresh_node) as wall:
            wall.down(force=True)  # done again, it gets through
            assert node_snapshot(fresh_node) == bare
            wall.up()
            attach_some(fresh_node, wall)


def test_down_after_a_half_made_attachment_leaves_nothing(fresh_node: World) -> None:
    bare = node_snapshot(fresh_node)
    fresh_node.wall.up()
    host = fresh_node.host("half")
    for _ in every_step(fresh_node, lambda wall: wall.attach("half", netns=host.netns)):
        with reopened(fresh_node) as wall:
            wall.down(force=True)
            assert node_snapshot(fresh_node) == bare
            wall.up()


def test_uninstall_killed_at_every_step(fresh_node: World) -> None:
    bare = node_snapshot(fresh_node)
    paths = fresh_node.wall.paths
    with reopened(fresh_node) as wall:
        attach_some(fresh_node, wall)
    for _ in every_step(fresh_node, lambda wall: wall.uninstall(force=True)):
        with reopened(fresh_node) as wall:
            wall.uninstall(force=True)
        assert node_snapshot(fresh_node) == bare
        assert not paths.run.exists()
        with reopened(fresh_node) as wall:
            attach_some(fresh_node, wall)


def attach_some(world: World, wall: Wall) -> None:
    """A namespace of the runtime's, one of ours, a published port."""
    host = world.host("some")
    wall.attach("theirs", netns=host.netns, expose=["8200:80"])
    wall.attach("ours")
