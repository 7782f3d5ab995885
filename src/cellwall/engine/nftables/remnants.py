"""What is left of our tables where somebody took away those that judge: pins that vouch for frames nobody judges.

The mark that they set is all that the latch asks for, so the wall is open then, unlike where everything is flushed.
Closing is one transaction by which the pins vouch for nobody any more: milliseconds, where to compile and to lay the
wall takes some hundred.
"""

from collections.abc import Mapping

from cellwall.engine.backend import Settled, Shut
from cellwall.engine.nftables.contracts import LiveChain, Rules
from cellwall.lower.nft.hooks import HOOKS
from cellwall.names import SPARE_TABLE, TABLE, VOUCHING
from cellwall.ruleset.types import TableFamily

_TABLES = (TABLE, SPARE_TABLE)
_VOUCHING: tuple[tuple[TableFamily, str, str], ...] = tuple(("bridge", table, VOUCHING) for table in _TABLES)
_ATTEMPTS = 100
_CLOSED = 1
"""How many rules a chain has that drops everything."""
_JUDGING = {name: hook for name, (family, hook) in HOOKS.items() if family == "inet"}


def close_unjudged(rules: Rules, *, ours: bool, settled: Settled | None = None, shut: Shut | None = None) -> bool:
    """See `Backend.close_unjudged`. Idempotent; False, too, where others' changes never let it be.

    What is closed is what was seen, or nothing: the kernel refuses it where anybody changed anything since, and then it
    is looked at again. With `settled` nobody needs the writer lock for it."""
    for _ in range(_ATTEMPTS):
        seen = rules.generation()
        if settled is not None and not settled():
            return False
        if any(judges(rules.chains("inet", table), ours=ours) for table in _TABLES):
            return False
        places = vouching(rules)
        if not places:
            return False
        if shut is not None:
            shut()
        if rules.drop_all(places, seen):
            return True
    return False


def vouching(rules: Rules) -> list[tuple[TableFamily, str, str]]:
    """The chains (family, table, chain) that let anything past the latch."""
    return [place for place in _VOUCHING if vouches(rules.chains(*place[:2]))]


def judges(chains: Mapping[str, LiveChain], *, ours: bool = True) -> bool:
    """Whether a table of packets is whole, by its chains: none is without a rule, and packets meet those that we know.
    What another version laid may have others."""
    if not all(chain.rules for chain in chains.values()):
        return False
    hooks = {name: chain.hook for name, chain in chains.items() if chain.hook is not None}
    return all(hooks.get(name) == hook for name, hook in _JUDGING.items()) if ours else bool(hooks)


def vouches(chains: Mapping[str, LiveChain]) -> bool:
    """Whether a table of frames lets anything past the latch, by its chains."""
    return VOUCHING in chains and chains[VOUCHING].rules > _CLOSED
