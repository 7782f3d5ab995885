"""What somebody changes by hand in rules of iptables is named, repaired, and then gone."""

from collections.abc import Iterator
from typing import Literal

import pytest

from cellwall.model.settings import Settings
from world import World, open_world

pytestmark = pytest.mark.root

CHANGES = {
    "a rule more": (
        "{program} --wait 10 -I B9-FORWARD 2 -j ACCEPT",
        "unknown rule: ipv4 filter -A B9-FORWARD -j ACCEPT",
    ),
    "a rule less": ("{program} --wait 10 -D B9-FORWARD 1", "missing rule: ipv4 filter -A B9-FORWARD "),
    "no jump": (
        "{program} --wait 10 -D FORWARD -j B9-FORWARD",
        "missing rule: ipv4 filter -A FORWARD -j B9-FORWARD at 1",
    ),
    "floor": ("ipset del b9floor4 10.0.0.0/8", "missing entry in b9floor4: 10.0.0.0/8"),
}


@pytest.fixture(scope="module", params=["nft", "legacy"])
def node(request: pytest.FixtureRequest) -> Iterator[tuple[World, str]]:
    variant: Literal["nft", "legacy"] = request.param
    with open_world(settings=Settings(backend="iptables", iptables=variant)) as world:
        world.attach("watched", expose=["8300:80"])
        yield world, f"iptables-{variant}"


@pytest.mark.parametrize("name", CHANGES)
def test_rules_of_iptables_changed_by_hand_are_named_one_by_one(node: tuple[World, str], name: str) -> None:
    world, program = node
    command, line = CHANGES[name]
    assert world.wall.status().drift == ()
    world.lab.node.run(command.format(program=program).split())
    drift = world.wall.status().drift
    assert drift[0] == "our rules were changed"
    assert [one for one in drift if one.startswith(line)], drift
    assert len(drift) == 2, drift
    assert world.wall.reconcile().repaired
    assert world.wall.status().drift == ()
