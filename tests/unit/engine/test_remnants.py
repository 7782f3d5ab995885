"""What somebody left of our tables in nftables: whether it judges, and whether it vouches."""

import pytest

from cellwall.engine.nftables.contracts import LiveChain
from cellwall.engine.nftables.remnants import close_unjudged, judges, vouches
from cellwall.lower.nft.hooks import HOOKS
from cellwall.names import SPARE_TABLE, TABLE

Chains = dict[str, LiveChain]
BASES = {name: LiveChain(3, hook) for name, (family, hook) in HOOKS.items() if family == "inet"}
WHOLE: Chains = {**BASES, "B9-FORWARD": LiveChain(7), "deny": LiveChain(2)}
EMPTIED: Chains = {**WHOLE, "B9-FORWARD": LiveChain(0)}
UNHOOKED = [{**WHOLE, name: LiveChain(3)} for name in BASES]
DELETED = [{key: chain for key, chain in WHOLE.items() if key != name} for name in BASES]
PINS: Chains = {"frame": LiveChain(3), "port": LiveChain(9)}
CLOSED: Chains = {"frame": LiveChain(3), "port": LiveChain(1)}


class Tables:
    """Chains by family and table, as the kernel would count them, and their generation."""

    def __init__(self, held: dict[tuple[str, str], Chains]) -> None:
        self.held = {place: dict(counts) for place, counts in held.items()}
        self.number = 7

    def generation(self) -> int:
        return self.number

    def chains(self, family: str, table: str) -> Chains:
        return self.held.get((family, table), {})

    def drop_all(self, places: list[tuple[str, str, str]], seen: int) -> bool:
        if seen != self.number:
            return False
        for family, table, chain in places:
            self.held[family, table][chain] = LiveChain(1)
        self.number += 1
        return True


class Busy(Tables):
    """Tables that somebody changes while they are looked at, so often: each look is at what was there before."""

    def __init__(self, held: dict[tuple[str, str], Chains], then: dict[tuple[str, str], Chains], times: int) -> None:
        super().__init__(held)
        self.then, self.times = then, times

    def chains(self, family: str, table: str) -> Chains:
        found = super().chains(family, table)
        if family == "bridge" and self.times:
            self.number, self.times = self.number + 1, self.times - 1
            if not self.times:
                self.held = {place: dict(counts) for place, counts in self.then.items()}
        return found


@pytest.mark.parametrize(
    ("held", "closed"),
    [
        ({("inet", TABLE): WHOLE, ("bridge", TABLE): PINS}, False),
        ({("bridge", TABLE): PINS}, True),
        ({("inet", TABLE): EMPTIED, ("bridge", TABLE): PINS}, True),
        ({("inet", TABLE): EMPTIED, ("inet", SPARE_TABLE): WHOLE, ("bridge", TABLE): PINS}, False),
        ({("inet", TABLE): EMPTIED, ("bridge", SPARE_TABLE): PINS}, True),
        ({("bridge", TABLE): CLOSED}, False),
        ({}, False),
        *(({("inet", TABLE): less, ("bridge", TABLE): PINS}, True) for less in (*UNHOOKED, *DELETED)),
    ],
)
def test_what_nobody_judges_is_closed_once(held: dict[tuple[str, str], Chains], closed: bool) -> None:
    tables = Tables(held)
    assert close_unjudged(tables, ours=True) == closed  # type: ignore[arg-type]
    judged = any(judges(tables.chains("inet", table)) for table in (TABLE, SPARE_TABLE))
    assert judged or not any(vouches(tables.chains("bridge", table)) for table in (TABLE, SPARE_TABLE))
    assert not close_unjudged(tables, ours=True)  # type: ignore[arg-type]


def test_the_copy_is_closed_with_the_table_beside_it() -> None:
    tables = Tables({("bridge", TABLE): PINS, ("bridge", SPARE_TABLE): PINS})
    assert close_unjudged(tables, ours=True)  # type: ignore[arg-type]
    assert not any(vouches(tables.chains("bridge", table)) for table in (TABLE, SPARE_TABLE))


def test_what_another_version_laid_is_not_taken_for_flushed_because_its_chains_are_others() -> None:
    theirs: Chains = {"guard": LiveChain(3, HOOKS["input"][1]), "B9-FORWARD": LiveChain(7)}
    assert judges(theirs, ours=False)
    assert not judges({**theirs, "guard": LiveChain(0, HOOKS["input"][1])}, ours=False)
    assert not judges({"B9-FORWARD": LiveChain(7)}, ours=False)
    assert not judges({}, ours=False)


def test_what_somebody_lays_meanwhile_is_not_closed() -> None:
    whole = {("inet", TABLE): WHOLE, ("bridge", TABLE): PINS}
    tables = Busy({("bridge", TABLE): PINS}, whole, 1)
    assert not close_unjudged(tables, ours=True)  # type: ignore[arg-type]
    assert tables.held == whole


def test_what_is_open_is_closed_however_often_something_else_changes_meanwhile() -> None:
    opened = {("bridge", TABLE): PINS}
    tables = Busy(opened, opened, 20)
    assert close_unjudged(tables, ours=True)  # type: ignore[arg-type]
    assert tables.held == {("bridge", TABLE): CLOSED}


def test_rules_that_never_stand_still_are_left_to_who_lays_them() -> None:
    opened = {("bridge", TABLE): PINS}
    assert not close_unjudged(Busy(opened, opened, 1 << 20), ours=True)  # type: ignore[arg-type]


def test_a_wall_that_somebody_began_to_lay_is_left_to_them() -> None:
    tables = Tables({("bridge", TABLE): PINS})
    assert not close_unjudged(tables, ours=True, settled=lambda: False)  # type: ignore[arg-type]
    assert vouches(tables.chains("bridge", TABLE))
    assert close_unjudged(tables, ours=True, settled=lambda: True)  # type: ignore[arg-type]


def test_whether_somebody_lays_is_asked_after_the_generation_was() -> None:
    """A laying that begins before the question is told, and one that begins after it gives another generation."""
    tables = Tables({("bridge", TABLE): PINS})

    def lays() -> bool:
        tables.number += 1
        return tables.number == 8

    assert not close_unjudged(tables, ours=True, settled=lays)  # type: ignore[arg-type]


def test_what_is_open_is_shut_before_its_rules_are_and_nothing_else_is() -> None:
    whole, opened = {("inet", TABLE): WHOLE, ("bridge", TABLE): PINS}, {("bridge", TABLE): PINS}
    for held, closes in ((whole, False), (opened, True), ({}, False)):
        tables, shut = Tables(held), list[bool]()
        assert close_unjudged(tables, ours=True, shut=lambda s=shut, t=tables: s.append(t.held == opened)) == closes  # type: ignore[arg-type, misc]
        assert shut == [True] * closes
