"""Whether the built-in chains lead to ours, which have rules, those of frames too, and the floor is filled, in both
variants and families."""

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import pytest

from cellwall.adapters.iptables.glance import Glances
from cellwall.engine.iptables.contracts import Variant
from cellwall.engine.iptables.remnants import JUDGING, LED
from cellwall.errors import KernelError
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


def test_each_built_in_chain_that_does_not_begin_with_our_jump_is_seen(node: Node) -> None:
    places = [(version, table, hook) for version in FAMILIES for table, hooks in LED.items() for hook in hooks]

    def beginning() -> list[tuple[int, str, str]]:
        return [place for place in places if node.glances.begin(node.variant, *place[:2], [place[2]])]

    assert beginning() == places
    assert all(node.glances.begin(node.variant, v, table, hooks) for v in FAMILIES for table, hooks in LED.items())
    for at, (version, table, hook) in enumerate(places):
        flag = ["-F", hook] if at % 2 else ["-I", hook, "-j", "ACCEPT"]
        node.run(version, "-t", table, *flag)
        assert beginning() == places[at + 1 :]
    for version, table, hook in places[::2]:
        node.run(version, "-t", table, "-D", hook, "-j", "ACCEPT")
    node.world.wall.reconcile()
    assert beginning() == places


def test_frames_that_nobody_vouches_for_are_seen(node: Node) -> None:
    assert node.glances.vouches()
    node.world.lab.node.run(["ebtables-nft", "-t", "nat", "-F", "PREROUTING"])
    assert not node.glances.vouches()
    chain = ["bridge", "nat", "PREROUTING"]
    node.world.lab.node.run(["nft", "add", "rule", *chain, "counter", "comment", "B9-PREROUTING"])
    assert not node.glances.vouches()  # it only speaks of it
    node.world.lab.node.run(["nft", "flush", "chain", *chain])
    node.world.wall.reconcile()
    assert node.glances.vouches()


def test_frames_are_closed_as_they_were_seen_or_not_at_all(node: Node) -> None:
    """And it is ebtables' own rule that does it."""
    seen = node.glances.generation()
    assert node.glances.opens()
    node.world.lab.node.run(["nft", "add", "table", "inet", "somebody"])
    assert not node.glances.close_frames(seen)
    assert node.glances.opens()
    assert node.glances.close_frames(node.glances.generation())
    assert not node.glances.opens()
    listed = node.world.lab.node.run(["ebtables-nft-save"]).text.splitlines()
    assert [line for line in listed if line.startswith("-A B9-PORT")] == ["-A B9-PORT -j DROP"]
    node.world.lab.node.run(["nft", "delete", "table", "inet", "somebody"])
    node.world.wall.reconcile()
    assert node.glances.opens()


def test_which_tables_there_are_is_asked_without_making_one(node: Node) -> None:
    made = {table for table in JUDGING for version in FAMILIES if node.glances.is_made("legacy", version, table)}
    assert made == (set(JUDGING) if node.variant == "legacy" else set())
    assert all(node.glances.is_made("nft", version, table) for version in FAMILIES for table in JUDGING)


def theirs(node: Node, flag: str, hook: str, *words: str) -> None:
    for version in FAMILIES:
        node.run(version, flag, hook, "-i", "lo", "-m", "comment", "--comment", "theirs", *words)


def test_rules_of_others_behind_our_jump_hide_nothing(node: Node) -> None:
    theirs(node, "-A", "FORWARD", "-j", "ACCEPT")
    assert node.leads() == EVERYWHERE
    theirs(node, "-D", "FORWARD", "-j", "ACCEPT")


@pytest.mark.parametrize("hook", ["INPUT", "FORWARD"])
def test_a_table_judges_nothing_for_certain_where_others_are_asked_before_it(node: Node, hook: str) -> None:
    theirs(node, "-I", hook, "-j", "ACCEPT")
    assert node.leads() == {(version, "security") for version in FAMILIES}
    theirs(node, "-D", hook, "-j", "ACCEPT")
    assert node.leads() == EVERYWHERE


@pytest.mark.parametrize("words", [("-j", "ACCEPT"), ("-j", "B9-GUARD"), ("-i", "eth1", "-j", "{chain}")])
def test_what_only_speaks_of_our_chain_or_leads_few_there_is_no_jump(node: Node, words: tuple[str, ...]) -> None:
    for hook in ("INPUT", "FORWARD"):
        said = ["-m", "comment", "--comment", f"B9-{hook}"] if "B9-" not in words[-1] else []
        for version in FAMILIES:
            node.run(version, "-F", hook)
        assert node.leads() == {(version, "security") for version in FAMILIES}
        for version in FAMILIES:
            node.run(version, "-A", hook, *said, *(word.format(chain=f"B9-{hook}") for word in words))
    assert node.leads() == {(version, "security") for version in FAMILIES}
    for version in FAMILIES:
        node.run(version, "-F", "INPUT")
        node.run(version, "-F", "FORWARD")
    node.world.wall.reconcile()
    assert node.leads() == EVERYWHERE


@pytest.mark.parametrize("chain", ["B9-INPUT", "B9-FORWARD", "B9-GUARD", "B9-DENY"])
@pytest.mark.parametrize("table", JUDGING)
@pytest.mark.parametrize("version", FAMILIES)
def test_a_chain_of_ours_without_a_rule_judges_nothing(node: Node, version: int, table: str, chain: str) -> None:
    assert node.leads() == EVERYWHERE
    node.run(version, "-t", table, "-F", chain)
    assert node.leads() == EVERYWHERE - {(version, table)}
    node.world.wall.reconcile()
    assert node.leads() == EVERYWHERE


class Disturbed(Glances):
    """Somebody adds a rule between the first questions and what follows them."""

    def __init__(self, times: int, add: Callable[[], None]) -> None:
        super().__init__()
        self._times, self._add = times, add

    def _ask(self, version: int, what: int, question: bytes) -> bytes:
        answer = super()._ask(version, what, question)
        if self._times:
            self._times -= 1
            self._add()
        return answer


@pytest.mark.parametrize("node", ["legacy"], indirect=True)
def test_a_legacy_table_that_others_change_amid_it_is_read_again(node: Node) -> None:
    def add() -> None:
        node.run(4, "-A", "INPUT", "-i", "lo", "-j", "ACCEPT")

    for times, led in ((3, True), (100, False)):
        with Disturbed(times, add) as glances:
            if led:
                assert glances.leads("legacy", 4, "filter")
            else:
                with pytest.raises(KernelError, match="EAGAIN"):
                    glances.leads("legacy", 4, "filter")
    node.run(4, "-F", "INPUT")
    node.world.wall.reconcile()


@pytest.mark.parametrize("version", FAMILIES)
def test_an_empty_floor_denies_nothing(node: Node, version: Literal[4, 6]) -> None:
    assert all(node.glances.denies(one) for one in FAMILIES)
    node.world.lab.node.run(["ipset", "flush", f"b9floor{version}"])
    assert [one for one in FAMILIES if node.glances.denies(one)] == [one for one in FAMILIES if one != version]
    node.world.wall.reconcile()
    assert node.glances.denies(version)
