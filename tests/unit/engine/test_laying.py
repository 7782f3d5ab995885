"""How rules that are live give way to others: in one transaction where that shows no chain before it is filled."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from typing import get_args

import msgspec
import pytest

from cellwall.compile.policy_forms import policy_usage
from cellwall.compile.usage import PolicyUsage, Usage
from cellwall.engine.backend import Laid, Wanted
from cellwall.engine.nftables.contracts import LiveChain
from cellwall.engine.nftables.desired import desired_ruleset, digests
from cellwall.engine.nftables.laying import plan, remove
from cellwall.lower.nft.sets import schema_of
from cellwall.model.policy import Policy, Rule, Tiers
from cellwall.model.settings import Audit, Bound, Settings
from cellwall.names import SPARE_TABLE, TABLE
from cellwall.ruleset.edits import Edit, Flush, Refresh, Remove, Replace
from cellwall.ruleset.types import ElementChange, NamedSet, Ruleset, TableFamily
from scene import FACTS, WEB

BARE = msgspec.structs.replace(WEB, bindings=())
SILENT = Settings(audit=Audit(log=False))


def narrow(prefix: str) -> Policy:
    return Policy(rules=(Rule("deny", ip_network(prefix)),))


def of(**tiers: Policy) -> Usage:
    return Usage(policies=policy_usage({Tiers(**tiers)}))


class Live:
    """A kernel with these rules."""

    def __init__(self, ruleset: Ruleset) -> None:
        self.tables = {
            (table.family, table.name): {chain.name: LiveChain(len(chain.rules)) for chain in table.chains}
            for table in ruleset.tables
        }
        self.loads: list[Sequence[Edit]] = []
        self.schema: Mapping[tuple[TableFamily, str, str], NamedSet] = schema_of(Usage())
        self.filled: dict[int, str] = {}

    def shape(self) -> str:
        return "s"

    def is_kept(self) -> bool:
        return True

    def generation(self) -> int:
        return len(self.loads) + len(self.filled)

    def chains(self, family: str, table: str) -> dict[str, LiveChain]:
        return self.tables.get((family, table), {})

    def lay(self, edits: Sequence[Edit]) -> None:
        self.loads.append(edits)

    def apply(self, changes: Sequence[ElementChange]) -> None:
        (self.filled[len(self.loads)],) = {change.table for change in changes}
        assert all((change.family, change.table, change.set) in self.schema for change in changes)


def steps(
    before: Usage, after: Usage, *, formerly: Settings = SILENT, drained: str = "", alone: bool = False
) -> list[str]:
    """What is done to which table, transaction by transaction."""
    wanted = Wanted(SILENT, FACTS, after, "eth0")
    former = desired_ruleset(formerly, FACTS, before, "eth0")
    live = Live(former)
    if drained:
        live.tables["inet", TABLE][drained] = LiveChain(0)
    laying = plan(live, wanted, () if alone else (BARE,), Laid(*digests(former), "s", before))  # type: ignore[arg-type]
    assert laying is not None
    assert laying.keeps_sets
    assert laying.lay() == "s"
    assert laying.keeps == (len(live.loads) == 1)
    assert laying.keeps == (not live.filled)
    return [f"{type(one).__name__} {one.ruleset.tables[0].name}" for edits in live.loads for one in edits]


AT_ONCE = [f"Refresh {TABLE}"]
UNDER_A_COPY = [
    f"Replace {SPARE_TABLE}",
    f"Refresh {SPARE_TABLE}",
    f"Refresh {TABLE}",
    f"Flush {SPARE_TABLE}",
    f"Remove {SPARE_TABLE}",
]
ENDPOINTS = of(endpoint=narrow("93.0.0.0/8"))
BOTH = of(endpoint=narrow("93.0.0.0/8"), tenant=narrow("93.0.0.0/8"))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Usage(), ENDPOINTS),
        (ENDPOINTS, ENDPOINTS.union(BOTH)),
        (Usage(), Usage(policies=PolicyUsage(links=True))),
    ],
    ids=["first policy", "first policy of a tenant", "first link"],
)
def test_a_refresh_that_adds_chains_is_done_under_a_copy(before: Usage, after: Usage) -> None:
    assert steps(before, after) == UNDER_A_COPY
    assert steps(before, after, alone=True) == AT_ONCE  # nobody is judged


def test_what_adds_no_chain_is_one_transaction() -> None:
    assert steps(ENDPOINTS, ENDPOINTS.union(of(endpoint=narrow("93.0.0.0/9")))) == AT_ONCE
    assert steps(Usage(), Usage(ranges=True)) == AT_ONCE


def test_settings_that_add_chains_are_laid_under_a_copy() -> None:
    """Those that close mail have a chain for it where flows are stamped first."""
    lets_mail_out = msgspec.structs.replace(SILENT, smtp="open")
    assert steps(ENDPOINTS, ENDPOINTS, formerly=lets_mail_out) == UNDER_A_COPY
    assert steps(Usage(), Usage(), formerly=lets_mail_out) == AT_ONCE


@pytest.mark.parametrize("usage", [Usage(), BOTH], ids=["no policy", "policies"])
@pytest.mark.parametrize(
    "changed",
    [
        *({name: 7} for name in get_args(Bound)),
        *({"audit": Audit(**{name: 7})} for name in ("rate", "burst")),
    ],
    ids=str,
)
def test_sets_are_not_kept_under_another_bound(changed: dict[str, object], usage: Usage) -> None:
    """An element has the bound of the packet that made it, and keeps it for as long as packets come."""
    before = desired_ruleset(msgspec.structs.replace(Settings(), **changed), FACTS, usage, "eth0")
    wanted = Wanted(Settings(), FACTS, usage, "eth0")
    laying = plan(Live(before), wanted, (BARE,), Laid(*digests(before), "s", usage))  # type: ignore[arg-type]
    assert laying is not None and not (laying.keeps or laying.keeps_sets)


def test_a_chain_that_was_left_empty_counts_as_new() -> None:
    more = ENDPOINTS.union(of(endpoint=narrow("93.0.0.0/9")))
    left = max(chain.name for chain in desired_ruleset(SILENT, FACTS, more, "eth0").tables[2].chains)
    assert steps(ENDPOINTS, more, drained=left) == UNDER_A_COPY


def test_the_copy_is_of_the_rules_to_come() -> None:
    live = Live(desired_ruleset(SILENT, FACTS, Usage(), "eth0"))
    wanted = Wanted(SILENT, FACTS, ENDPOINTS, "eth0")
    before = Laid(*digests(desired_ruleset(SILENT, FACTS, Usage(), "eth0")), "s", Usage())
    laying = plan(live, wanted, (BARE,), before)  # type: ignore[arg-type]
    assert laying is not None
    laying.lay()
    sets, copy, own, emptied, gone = (edits[0] for edits in live.loads)
    assert isinstance(sets, Replace)
    assert isinstance(emptied, Flush)
    assert isinstance(gone, Remove)
    assert isinstance(copy, Refresh)
    assert isinstance(own, Refresh)
    assert [table.chains for table in copy.ruleset.tables] == [table.chains for table in own.ruleset.tables]
    assert [table.sets for table in sets.ruleset.tables] == [table.sets for table in own.ruleset.tables]
    assert live.filled == {1: SPARE_TABLE}  # before a rule of it looks anything up
    assert {table for _, table, _ in live.schema} == {TABLE}


@pytest.mark.parametrize("beside", [False, True])
def test_no_rule_is_left_when_tables_go_beside_another_wall(beside: bool) -> None:
    """What they look up is gone before they are, and who is not found is dropped: as it should be where nothing else
    stands."""
    live = Live(desired_ruleset(SILENT, FACTS, Usage(), "eth0"))
    remove(live, Wanted(SILENT, FACTS, Usage(), "eth0"), beside=beside)  # type: ignore[arg-type]
    kinds = [{type(edit) for edit in edits} for edits in live.loads]
    assert kinds == ([{Flush}, {Remove}] if beside else [{Remove}])
    for edits in live.loads:
        for edit in edits:
            families = [table.family for table in edit.ruleset.tables]
            assert sorted(families) == ["arp", "bridge", "inet"]
            assert families.index("bridge") < families.index("inet")
