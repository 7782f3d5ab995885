"""What a lowering has no expression for is refused by name. Nothing is left out: a clause without one of its
predicates would say more than the wall."""

from typing import Any, get_args

import msgspec
import pytest

from cellwall.compile import predicates as when
from cellwall.compile import wall as w
from cellwall.compile.assemble import compile_wall
from cellwall.compile.usage import Usage
from cellwall.errors import InvalidSpec, Unsupported
from cellwall.lower.nft.wall import lower_wall
from cellwall.lower.xt.features import XtFeatures
from cellwall.lower.xt.tables import XtChain, XtRule, XtTable, render_table
from cellwall.lower.xt.wall import lower_wall as lower_to_iptables
from cellwall.model.settings import Settings
from cellwall.ruleset.select import layers, renamed, without_chains, without_layers
from cellwall.ruleset.types import Meter
from scene import FACTS, SCENE

WALL = compile_wall(Settings(), FACTS, Usage(), uplink="eth0")


class Horoscope(when.Predicate, frozen=True):
    """A predicate that no mechanism knows."""


class Bless(w.Outcome, frozen=True):
    """An outcome that no mechanism knows."""


def having(clause: w.Clause, stage: str = "related") -> w.Wall:
    stages = tuple(
        msgspec.structs.replace(row, clauses=(clause, *row.clauses)) if row.name == stage else row
        for row in WALL.stages
    )
    return msgspec.structs.replace(WALL, stages=stages)


BACKENDS: dict[str, Any] = {"nftables": lower_wall, "iptables": lambda wall: lower_to_iptables(wall, XtFeatures())}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "clause", [w.Clause((Horoscope(),), w.Drop(), "x", "FWD"), w.Clause((), Bless())], ids=["predicate", "outcome"]
)
def test_what_a_mechanism_cannot_say_is_refused_by_its_name(backend: str, clause: w.Clause) -> None:
    with pytest.raises(Unsupported) as refused:
        BACKENDS[backend](having(clause))
    named = type(clause.when[0] if clause.when else clause.then).__name__
    assert (refused.value.predicate, refused.value.backend) == (named, backend)


def test_a_stage_that_nothing_leads_to_is_refused() -> None:
    lost = msgspec.structs.replace(WALL, stages=(*WALL.stages, w.Stage("lost", (w.Clause((), w.Drop()),))))
    with pytest.raises(Unsupported, match="'lost' is reached from nowhere"):
        lower_wall(lost)


def test_a_negated_arp_claim_is_refused() -> None:
    with pytest.raises(Unsupported, match="negated ARP claim"):
        lower_wall(having(w.Clause((when.Pinned("arp", negate=True),), w.Drop(), "x", "PIN"), "port-arp"))


@pytest.mark.parametrize(
    ("comment", "name", "reason"),
    [
        ("x" * 256, "B9-OWN", "at most 255"),
        ("line\nbreak", "B9-OWN", "printable"),
        ('"', "B9-OWN", "quotes"),
        ("", "OWN", "not one of ours"),
        ("", "B9-USER", "not one of ours"),
    ],
)
def test_text_that_iptables_would_cut_or_misread_is_refused(comment: str, name: str, reason: str) -> None:
    table = XtTable("ipv4", "filter", (XtChain(name, (XtRule((), ("-j", "DROP"), comment),)),))
    with pytest.raises(InvalidSpec, match=reason):
        render_table(table)


def test_every_denial_belongs_to_a_layer_and_each_can_be_taken_away() -> None:
    """Control by removal needs it: a drop of no layer would hold whatever is removed."""
    known = set(get_args(w.Layer))
    for stage in WALL.stages:
        for clause in stage.clauses:
            final = isinstance(clause.then, w.Drop | w.Reject) and stage.name != "deny"
            assert not final or clause.layer in known, f"{stage.name}: {clause}"
    assert layers(SCENE.ruleset) <= known
    for layer in layers(SCENE.ruleset):
        left = without_layers(SCENE.ruleset, {layer})
        assert layers(left) == layers(SCENE.ruleset) - {layer}
    assert without_layers(SCENE.ruleset, set()) == SCENE.ruleset


def test_a_renamed_ruleset_and_its_sets_alone_are_the_same_otherwise() -> None:
    other = renamed(SCENE.ruleset, "other")
    assert {table.name for table in other.tables} == {"other"}
    assert renamed(other, SCENE.ruleset.tables[0].name) == SCENE.ruleset
    bare = without_chains(SCENE.ruleset)
    assert [table.sets for table in bare.tables] == [table.sets for table in SCENE.ruleset.tables]
    assert not [chain for table in bare.tables for chain in table.chains]


def test_a_bound_that_is_kept_per_address_is_a_rule_in_each_family() -> None:
    """Alone in its clause: no other predicate tells the lowering that the families differ."""
    rules = lower_wall(having(w.Clause((when.OverRate("ping", 10, 10),), w.Drop(), "x", "FWD"))).tables[-1]
    related = next(chain for chain in rules.chains if chain.name == "related").rules
    meters = [statement.set for rule in related for statement in rule.statements if isinstance(statement, Meter)]
    assert meters == ["pings4", "pings6"]
