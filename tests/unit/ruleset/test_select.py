"""What is left of a ruleset without some of its layers, and what is in it after a batch of elements."""

import pytest
from batches import apply_changes
from rulesets import WALL

from cellwall.errors import AlreadyExists, NotFound
from cellwall.ruleset.select import layers, without_layers
from cellwall.ruleset.types import Element, ElementChange


def test_changes_are_applied_as_the_kernel_would() -> None:
    def change(op: str, *data: int) -> ElementChange:
        return ElementChange(op, "inet", "cw", "gen4", Element((1,), data))  # type: ignore[arg-type]

    once = apply_changes(WALL, (change("add", 5),))
    assert apply_changes(once, (change("add", 5),)) == once
    with pytest.raises(AlreadyExists):
        apply_changes(once, (change("add", 6),))
    assert apply_changes(once, (change("delete", 5),)) == WALL
    with pytest.raises(NotFound):
        apply_changes(WALL, (change("delete", 5),))
    with pytest.raises(NotFound):
        apply_changes(WALL, (ElementChange("add", "inet", "cw", "nosuch", Element((1,))),))


def test_layers_are_removed_and_plumbing_stays() -> None:
    assert layers(WALL) == {"pin", "raw"}
    assert without_layers(WALL, frozenset()) == WALL
    bare = without_layers(WALL, frozenset(("pin",)))
    assert layers(bare) == {"raw"}
    gone = [
        (chain.name, rule.layer)
        for before, after in zip(WALL.tables, bare.tables, strict=True)
        for chain, left in zip(before.chains, after.chains, strict=True)
        for rule in chain.rules
        if rule not in left.rules
    ]
    assert gone == [("port", "pin")] * 4
    assert [table.sets for table in bare.tables] == [table.sets for table in WALL.tables]
