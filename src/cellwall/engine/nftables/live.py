"""Desired and live elements: their difference, and its repair."""

import errno
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain, islice

from cellwall.engine.nftables.contracts import Rules
from cellwall.errors import KernelError
from cellwall.lower.nft.elements import (
    Listed,
    Owned,
    changes,
    endpoint_elements,
    endpoint_lists,
    kept_lists,
    single_elements,
    tenant_elements,
)
from cellwall.model.endpoint import Endpoint
from cellwall.names import TABLE
from cellwall.ruleset.elements import Bundle
from cellwall.ruleset.types import Element, Interval, NamedSet, TableFamily

_Place = tuple[TableFamily, str]
"""The table family and the name of a set."""
_FEW = 128
"""As many elements as one exchange surely has room for: the receive buffer of a node that changed no setting just holds
the answers about 256."""


def drift(rules: Rules, attached: Sequence[Endpoint]) -> tuple[str, ...]:
    """Raises KernelError (ENOENT) where a whole set is missing."""
    return _lines(*_difference(rules, attached, TABLE))


def missing(rules: Rules, endpoints: Sequence[Endpoint], former: Sequence[Endpoint] = ()) -> tuple[str, ...]:
    """Raises KernelError (ENOENT) where a whole set is missing. Of few endpoints each element is asked for: to read
    everything takes longer with each endpoint that the node has. `former`: what these became of just now, by a change
    that laid what they list otherwise."""
    desired = [*islice((owned for one in endpoints for owned in endpoint_elements(one)), _FEW + 1)]
    by_key = len(desired) <= _FEW and not any(isinstance(part, Interval) for *_, one in desired for part in one.key)
    if by_key and rules.holds(changes("add", desired, TABLE)):
        return ()
    lists = [*chain.from_iterable(map(kept_lists, former, endpoints))] if former else None
    return _lines(_difference(rules, endpoints, TABLE, lists=lists, beyond=False)[0], ())


def told_already(rules: Rules, before: Sequence[Endpoint], after: Sequence[Endpoint]) -> list[Owned]:
    """What the wall tells of whose ready sandboxes are, which it should not before somebody claims them: an older
    program laid such elements of nobody. They make way for those of who claims."""
    claimed = [now for former, now in zip(before, after, strict=False) if former.key.pooled and not now.key.pooled]
    found: list[Owned] = []
    for family, name, element in chain.from_iterable(map(tenant_elements, claimed)):
        standing = rules.elements(family, TABLE, name)
        found += [(family, name, Element(key, data)) for key, data in standing if key == element.key]
    return found


def repair(rules: Rules, attached: Sequence[Endpoint], *, opens: bool = True) -> tuple[str, ...]:
    """A transaction a table. Without `opens` nothing is added, only taken out."""
    tables = dict.fromkeys(table for _, table, _ in rules.schema)
    return tuple(line for table in tables for line in _repair_table(rules, attached, table, opens=opens))


def _repair_table(rules: Rules, attached: Sequence[Endpoint], table: str, *, opens: bool) -> tuple[str, ...]:
    try:
        missing, surplus = _difference(rules, attached, table)
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise
        return ()
    if not opens:
        missing = set()
    rules.apply((*changes("delete", surplus, table), *changes("add", missing, table)))
    return _lines(missing, surplus)


def _difference(
    rules: Rules,
    endpoints: Sequence[Endpoint],
    table: str,
    *,
    lists: Iterable[Listed] | None = None,
    beyond: bool = True,
) -> tuple[set[Owned], set[Owned]]:
    """What is missing of what these endpoints own, and what is there beyond it; `lists`: of what they list these."""
    elements: dict[_Place, list[Element]] = {}
    bundles: dict[_Place, list[Bundle]] = {}
    for family, name, element in chain.from_iterable(map(single_elements, endpoints)):
        elements.setdefault((family, name), []).append(element)
    for family, name, bundle in chain.from_iterable(map(endpoint_lists, endpoints)) if lists is None else lists:
        bundles.setdefault((family, name), []).append(bundle)
    read = {(family, name) for (family, owner, name), one in rules.schema.items() if owner == table and _is_read(one)}
    missing, surplus = set[Owned](), set[Owned]()
    for family, name in read if beyond else read & (elements.keys() | bundles.keys()):
        own = elements.pop((family, name), ()), bundles.pop((family, name), ())
        lacking, unknown = rules.difference((family, table, name), *own, beyond=beyond)
        missing |= {(family, name, Element(key, data)) for key, data in lacking}
        surplus |= {(family, name, Element(key, data)) for key, data in unknown}
    return missing | _in_no_set(elements, bundles), surplus


def _is_read(named: NamedSet) -> bool:
    """The content of static sets is part of the rules' shape, and that of dynamic ones nobody's."""
    return not (named.dynamic or named.static)


def _in_no_set(elements: Mapping[_Place, Iterable[Element]], bundles: Mapping[_Place, Iterable[Bundle]]) -> set[Owned]:
    """What should be in sets that the rules in force have not got."""
    found = {(family, name, one) for (family, name), some in elements.items() for one in some}
    return found | {
        (family, name, one) for (family, name), some in bundles.items() for each in some for one in each.elements()
    }


def _lines(missing: Collection[Owned], surplus: Collection[Owned]) -> tuple[str, ...]:
    """One line an element, in a stable order."""
    lines = [f"missing element in {family} {name}: {element.key or '*'}" for family, name, element in missing]
    lines += [f"unknown element in {family} {name}: {element.key or '*'}" for family, name, element in surplus]
    return tuple(sorted(lines))
