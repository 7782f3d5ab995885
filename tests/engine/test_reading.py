"""Who only asks changes nothing: neither is a node brought up, nor is what others left finished."""

import re
from collections.abc import Callable

import pytest

from cellwall.api import Wall
from cellwall.errors import Conflict, NotFound
from cellwall.wire.calls import CALLS, path_of
from served import open_served
from world import World, ruleset

pytestmark = pytest.mark.root


def bare(world: World) -> None:
    """The wall says that the node is down, and nothing of ours is there."""
    assert not world.wall.status().up
    assert "cellwall" not in ruleset(world)
    assert world.wall.settings.network.bridge not in world.lab.node.run(["ip", "link"]).text


def test_a_node_that_is_down_stays_down_whoever_asks_it(fresh_node: World) -> None:
    with pytest.raises(Conflict, match="not up"):
        fresh_node.wall.dns()
    with pytest.raises(NotFound):
        fresh_node.wall.verify("nobody")
    bare(fresh_node)


def test_a_daemon_of_a_node_that_is_down_leaves_it_so() -> None:
    with open_served(up=False) as served, served.connect() as plain:
        refused = plain.ask("GET", "/v1/dns")
        assert (refused.status, refused.document["title"]) == (409, "the present state forbids it")
        for call in CALLS:
            if call.method == "GET":
                path = path_of(call, **dict.fromkeys(re.findall("{(.*?)}", call.path), "nobody"))
                assert plain.ask("GET", path).status in (200, 404, 409), path
                bare(served.world)


def test_an_endpoint_without_a_wall_is_not_judged_and_gets_none(fresh_node: World) -> None:
    fresh_node.wall.attach("web")
    journal = fresh_node.wall._site.journal
    with journal.transaction():
        journal.drop("foundation")  # as where an `up` died
    with pytest.raises(Conflict, match="not up"):
        fresh_node.wall.verify("web")
    assert fresh_node.wall._site.foundation() is None


@pytest.mark.parametrize("ask", [Wall.dns, lambda wall: wall.verify("web")], ids=["dns", "verify"])
def test_a_node_that_changed_is_followed_by_who_changes_something(
    fresh_node: World, ask: Callable[[Wall], object]
) -> None:
    wall = fresh_node.wall
    wall.attach("web")
    before, rules = wall._site.foundation(), ruleset(fresh_node)
    fresh_node.lab.node.ip(["addr add 198.51.100.77/32 dev eth0"])
    assert ask(wall) is not None
    assert (wall._site.foundation(), ruleset(fresh_node)) == (before, rules)
    wall.enable_bridge_netfilter()
    assert wall._site.foundation() != before
