"""Whether the built-in chains lead to ours, those of frames too, and the floor is filled, in both variants and
families."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import pytest

from cellwall.adapters.glance import Glances
from cellwall.engine.iptables.contracts import Variant
from cellwall.engine.iptables.remnants import JUDGING
from cellwall.model.settings import Settings
from world import World, open_world

pytestmark = pytest.mark.root

FAMILIES: tuple[Literal[4, 6], ...] = (4, 6)


class Node(NamedTuple):
    world: World
    glances: Glances
    variant: Variant

    def run(self, family: int, *words: str) -> None:
        program = f"{'iptables' if family == 4 else 'ip6tables'}-{self.variant}"
        self.world.lab.node.run([program, "-w", "10", *words])

    def leads(self) -> set[tuple[int, str]]:
        return {(v, table) for v in FAMILIES for table in JUDGING if self.glances.leads(self.variant, v, table)}


EVERYWHERE = {(version, table) for version in FAMILIES for table in JUDGING}


@pytest.fixture(scope="module", params=["nft", "legacy"])
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    settings = Settings(backend="iptables", iptables=request.param)
    with open_world(settings=settings) as world, Glances() as glances:
        yield Node(world, glances, request.param)


@pytest.mark.parametrize("hook", ["INPUT", "FORWARD"])
@pytest.mark.parametrize("table", JUDGING)
@pytest.mark.parametrize("version", FAMILIES)
def test_a_chain_without_our_jump_is_seen_alone(node: Node, version: int, table: str, hook: str) -> None:
    assert node.leads() == EVERYWHERE
    node.run(version, "-t", table, "-F", hook)
    assert node.leads() == EVERYWHERE - {(version, table)}
    node.run(version, "-t", table, "-A", hook, "-j", "ACCEPT")
    assert node.leads() == EVERYWHERE - {(version, table)}
    node.run(version, "-t", table, "-F", hook)
    node.world.wall.reconcile()
    assert node.leads() == EVERYWHERE


def test_frames_that_nobody_vouches_for_are_seen(node: Node) -> None:
    assert node.glances.vouches()
    node.world.lab.node.run(["ebtables-nft", "-t", "nat", "-F", "PREROUTING"])
    assert not node.glances.vouches()
    node.world.wall.reconcile()
    assert node.glances.vouches()


def test_rules_of_others_around_our_jump_hide_nothing(node: Node) -> None:
    for version in FAMILIES:
        for flag in ("-I", "-A"):
            node.run(version, flag, "FORWARD", "-i", "lo", "-m", "comment", "--comment", "theirs", "-j", "ACCEPT")
    assert node.leads() == EVERYWHERE
    for version in FAMILIES:
        for _ in range(2):
            node.run(version, "-D", "FORWARD", "-i", "lo", "-m", "comment", "--comment", "theirs", "-j", "ACCEPT")
    node.world.wall.reconcile()


@pytest.mark.parametrize("version", FAMILIES)
def test_an_empty_floor_denies_nothing(node: Node, version: Literal[4, 6]) -> None:
    assert all(node.glances.denies(one) for one in FAMILIES)
    node.world.lab.node.run(["ipset", "flush", f"b9floor{version}"])
    assert [one for one in FAMILIES if node.glances.denies(one)] == [one for one in FAMILIES if one != version]
    node.world.wall.reconcile()
    assert node.glances.denies(version)
