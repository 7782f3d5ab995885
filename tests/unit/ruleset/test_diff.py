"""Differences of rulesets, and the element batches that undo them."""

import msgspec
import pytest
from batches import apply_changes
from hypothesis import given
from hypothesis import strategies as st
from rulesets import ACCEPT, COUNT, DROP, WALL, eq, jump, one_chain, rule

from cellwall.errors import AlreadyExists, NotFound
from cellwall.ruleset.diff import Change, diff, element_changes
from cellwall.ruleset.render import render_ruleset
from cellwall.ruleset.select import layers, without_layers
from cellwall.ruleset.types import Chain, Element, ElementChange, NamedSet, Ruleset, Table

_RULES = st.lists(
    st.sampled_from([rule(DROP), rule(ACCEPT), rule(COUNT, DROP), rule(jump("sub")), rule(eq("iif", 3), DROP)]),
    max_size=5,
)
_KEYS = st.lists(st.integers(0, 9), unique=True, max_size=6)


@st.composite
def contents(draw: st.DrawFn) -> tuple[NamedSet, ...]:
    """A set and a map of fixed type with any content."""
    live = NamedSet("live", ("mark",), elements=tuple(Element((key,)) for key in draw(_KEYS)))
    data = st.integers(0, 2)
    elements = tuple(Element((key,), (draw(data),)) for key in draw(_KEYS))
    return live, NamedSet("gen", ("ipv4_addr",), ("mark",), elements=elements)


@st.composite
def rulesets(draw: st.DrawFn) -> Ruleset:
    tables = []
    for name in draw(st.lists(st.sampled_from(["a", "b"]), unique=True)):
        chains = draw(st.lists(st.sampled_from(["sub", "top"]), unique=True))
        tables.append(
            Table("inet", name, draw(contents()), tuple(Chain(chain, tuple(draw(_RULES))) for chain in chains))
        )
    return Ruleset(tuple(tables))


@given(rulesets())
def test_nothing_differs_from_itself(ruleset: Ruleset) -> None:
    assert diff(ruleset, ruleset).empty
    assert not diff(ruleset, ruleset).structural


@given(rulesets(), rulesets())
def test_difference_is_empty_exactly_for_equal_text(left: Ruleset, right: Ruleset) -> None:
    assert diff(left, right).empty == (_canonical(left) == _canonical(right))
    assert diff(left, right).empty == diff(right, left).empty


def _canonical(ruleset: Ruleset) -> str:
    tables = []
    for table in sorted(ruleset.tables, key=lambda each: each.name):
        sets = tuple(
            msgspec.structs.replace(named, elements=tuple(sorted(named.elements, key=str))) for named in table.sets
        )
        chains = tuple(sorted(table.chains, key=lambda chain: chain.name))
        tables.append(msgspec.structs.replace(table, sets=sets, chains=chains))
    return render_ruleset(Ruleset(tuple(tables)))


@given(contents(), contents())
def test_element_changes_lead_from_the_old_content_to_the_new(
    old: tuple[NamedSet, ...], new: tuple[NamedSet, ...]
) -> None:
    before, after = (Ruleset((Table("inet", "t", sets, ()),)) for sets in (old, new))
    difference = diff(before, after)
    assert not difference.structural
    changes = element_changes(difference)
    assert diff(apply_changes(before, changes), after).empty
    kinds = [change.op for change in changes if change.set == "live"]
    assert kinds == sorted(kinds)  # adds before deletes


def test_every_kind_of_change_is_named() -> None:
    old = Ruleset(
        (
            Table(
                "inet",
                "t",
                (NamedSet("s", ("mark",)), NamedSet("gone", ("mark",))),
                (Chain("c", (rule(DROP), rule(COUNT, DROP), rule(ACCEPT))), Chain("left", ())),
            ),
            Table("arp", "t", (), ()),
        )
    )
    new = Ruleset(
        (
            Table(
                "inet",
                "t",
                (NamedSet("s", ("mark",), size=5),),
                (Chain("c", (rule(DROP), rule(eq("iif", 1), DROP), rule(COUNT), rule(ACCEPT))),),
            ),
            Table("bridge", "t", (), ()),
        )
    )
    assert diff(old, new).changes == (
        Change("table", "removed", "arp", "t"),
        Change("table", "added", "bridge", "t"),
        Change("chain", "removed", "inet", "t", "left"),
        Change("rule", "changed", "inet", "t", "c", 1),
        Change("rule", "added", "inet", "t", "c", 2),
        Change("set", "removed", "inet", "t", "gone"),
        Change("set", "changed", "inet", "t", "s"),
    )


def test_a_changed_comment_is_a_changed_rule() -> None:
    assert diff(one_chain(rule(DROP)), one_chain(rule(DROP, comment="x"))).structural


def test_changes_are_applied_as_the_kernel_would() -> None:
    def change(op: str, *data: int) -> ElementChange:
        return ElementChange(op, "inet", "cw", "gen4", Element((1,), data))  # type: ignore[arg-type]

    once = apply_changes(WALL, (change("add", 5),))
    assert apply_changes(once, (change("add", 5),)) == once
    with pytest.raises(AlreadyExists):
        apply_changes(once, (change("add", 6),))
    assert diff(apply_changes(once, (change("delete", 5),)), WALL).empty
    with pytest.raises(NotFound):
        apply_changes(WALL, (change("delete", 5),))
    with pytest.raises(NotFound):
        apply_changes(WALL, (ElementChange("add", "inet", "cw", "nosuch", Element((1,))),))


def test_layers_are_removed_and_plumbing_stays() -> None:
    assert layers(WALL) == {"pin", "raw"}
    assert without_layers(WALL, frozenset()) == WALL
    bare = without_layers(WALL, frozenset(("pin",)))
    assert layers(bare) == {"raw"}
    difference = diff(WALL, bare)
    assert {(change.what, change.how, change.name) for change in difference.changes} == {("rule", "removed", "port")}
    assert len(difference.changes) == 4
