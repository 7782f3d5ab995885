"""Desired and live elements: their difference, and its repair."""

import errno
from collections.abc import Collection, Sequence

from cellwall.engine.contracts import Rules
from cellwall.errors import KernelError
from cellwall.lower.nft.elements import Owned, changes, endpoint_elements
from cellwall.model.endpoint import Endpoint
from cellwall.names import TABLE
from cellwall.ruleset.types import Element, Interval

_FEW = 128
"""As many elements as one exchange surely has room for: the receive buffer of a node that changed no setting just holds
the answers about 256."""


def drift(rules: Rules, attached: Sequence[Endpoint]) -> tuple[str, ...]:
    """Raises KernelError (ENOENT) where a whole set is missing."""
    desired, live = _desired(attached), _live(rules, TABLE)
    return _lines(desired - live, live - desired)


def missing(rules: Rules, endpoints: Sequence[Endpoint]) -> tuple[str, ...]:
    """Raises KernelError (ENOENT) where a whole set is missing. Of few endpoints each element is asked for: to read
    everything takes longer with each endpoint that the node has."""
    desired = _desired(endpoints)
    by_key = len(desired) <= _FEW and not any(isinstance(part, Interval) for *_, one in desired for part in one.key)
    if by_key and rules.holds(changes("add", desired, TABLE)):
        return ()
    return _lines(desired - _live(rules, TABLE), ())


def repair(rules: Rules, attached: Sequence[Endpoint], *, opens: bool = True) -> tuple[str, ...]:
    """A transaction a table. Without `opens` nothing is added, only taken out."""
    tables = dict.fromkeys(table for _, table, _ in rules.schema)
    return tuple(line for table in tables for line in _repair_table(rules, attached, table, opens=opens))


def _repair_table(rules: Rules, attached: Sequence[Endpoint], table: str, *, opens: bool) -> tuple[str, ...]:
    try:
        live = _live(rules, table)
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise
        return ()
    desired = _desired(attached)
    missing, surplus = desired - live if opens else set(), live - desired
    rules.apply((*changes("delete", surplus, table), *changes("add", missing, table)))
    return _lines(missing, surplus)


def _desired(endpoints: Sequence[Endpoint]) -> set[Owned]:
    return {owned for endpoint in endpoints for owned in endpoint_elements(endpoint)}


def _live(rules: Rules, table: str) -> set[Owned]:
    live: set[Owned] = set()
    for (family, owner, name), named in rules.schema.items():
        if owner != table or named.dynamic or named.static:  # the content of static ones is part of the rules' shape
            continue
        live |= {(family, name, Element(key, data)) for key, data in rules.elements(family, table, name)}
    return live


def _lines(missing: Collection[Owned], surplus: Collection[Owned]) -> tuple[str, ...]:
    """One line an element, in a stable order."""
    lines = [f"missing element in {family} {name}: {element.key}" for family, name, element in missing]
    lines += [f"unknown element in {family} {name}: {element.key}" for family, name, element in surplus]
    return tuple(sorted(lines))
