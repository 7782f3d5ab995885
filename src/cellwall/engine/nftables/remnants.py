"""What is left of our tables where somebody took away those that judge: pins that vouch for frames nobody judges.

The mark that they set is all that the latch asks for, so the wall is open then, unlike where everything is flushed.
Closing is one transaction by which the pins vouch for nobody any more: milliseconds, where to compile and to lay the
wall takes some hundred.
"""

from collections.abc import Mapping

from cellwall.engine.contracts import Rules
from cellwall.names import SPARE_TABLE, TABLE

_VOUCHING = "port"  # the chain of the bridge family through which every frame of a sandbox goes (`compile/pins.py`)
_CLOSED = 1
"""How many rules a chain has that drops everything."""


def close_unjudged(rules: Rules) -> bool:
    """See `Backend.close_unjudged`. Idempotent."""
    if any(judges(rules.rule_counts("inet", table)) for table in (TABLE, SPARE_TABLE)):
        return False
    closed = [
        rules.drop_all("bridge", table, _VOUCHING)
        for table in (TABLE, SPARE_TABLE)
        if vouches(rules.rule_counts("bridge", table))
    ]
    return any(closed)


def judges(chains: Mapping[str, int]) -> bool:
    """Whether a table of packets is whole, by its chains: none of ours is without a rule."""
    return bool(chains) and all(chains.values())


def vouches(chains: Mapping[str, int]) -> bool:
    """Whether a table of frames lets anything past the latch, by its chains."""
    return chains.get(_VOUCHING, 0) > _CLOSED
