"""What somebody left of our tables in nftables: whether it judges, and whether it vouches."""

import pytest

from cellwall.engine.nftables.remnants import close_unjudged, judges, vouches
from cellwall.names import SPARE_TABLE, TABLE

WHOLE, EMPTIED = {"B9-FORWARD": 7, "deny": 2}, {"B9-FORWARD": 0, "deny": 2}
PINS, CLOSED = {"prerouting": 3, "port": 9}, {"prerouting": 3, "port": 1}


class Tables:
    """Chains by family and table, as the kernel would count them."""

    def __init__(self, chains: dict[tuple[str, str], dict[str, int]]) -> None:
        self.chains = {place: dict(counts) for place, counts in chains.items()}

    def rule_counts(self, family: str, table: str) -> dict[str, int]:
        return self.chains.get((family, table), {})

    def drop_all(self, family: str, table: str, chain: str) -> bool:
        if chain not in self.rule_counts(family, table):
            return False
        self.chains[family, table][chain] = 1
        return True


@pytest.mark.parametrize(
    ("chains", "closed"),
    [
        ({("inet", TABLE): WHOLE, ("bridge", TABLE): PINS}, False),
        ({("bridge", TABLE): PINS}, True),
        ({("inet", TABLE): EMPTIED, ("bridge", TABLE): PINS}, True),
        ({("inet", TABLE): EMPTIED, ("inet", SPARE_TABLE): WHOLE, ("bridge", TABLE): PINS}, False),
        ({("inet", TABLE): EMPTIED, ("bridge", SPARE_TABLE): PINS}, True),
        ({("bridge", TABLE): CLOSED}, False),
        ({}, False),
    ],
)
def test_what_nobody_judges_is_closed_once(chains: dict[tuple[str, str], dict[str, int]], closed: bool) -> None:
    tables = Tables(chains)
    assert close_unjudged(tables) == closed  # type: ignore[arg-type]
    judged = any(judges(tables.rule_counts("inet", table)) for table in (TABLE, SPARE_TABLE))
    assert judged or not any(vouches(tables.rule_counts("bridge", table)) for table in (TABLE, SPARE_TABLE))
    assert not close_unjudged(tables)  # type: ignore[arg-type]
