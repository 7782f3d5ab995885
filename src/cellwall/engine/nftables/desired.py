"""Desired rules: settings + facts + usage → ruleset, and the elements of endpoints in it."""

from collections.abc import Iterable
from hashlib import sha256

import msgspec

from cellwall.compile.assemble import compile_wall
from cellwall.compile.usage import Usage
from cellwall.lower.nft.elements import Owned, changes, endpoint_content, endpoint_elements, single_elements
from cellwall.lower.nft.wall import lower_wall
from cellwall.model.endpoint import Endpoint
from cellwall.model.facts import NodeFacts
from cellwall.model.settings import Settings
from cellwall.ruleset.elements import Change
from cellwall.ruleset.types import Element, Meter, Ruleset, Table, TableFamily


def desired_ruleset(settings: Settings, facts: NodeFacts, usage: Usage, uplink: str) -> Ruleset:
    """The rules and sets of this node, without endpoints."""
    return lower_wall(compile_wall(settings, facts, usage, uplink=uplink))


def desired_elements(endpoints: Iterable[Endpoint]) -> set[Owned]:
    """Every element that these endpoints own."""
    return {owned for endpoint in endpoints for owned in endpoint_elements(endpoint)}


def with_endpoints(ruleset: Ruleset, endpoints: Iterable[Endpoint]) -> Ruleset:
    """The ruleset with the elements of endpoints in its sets."""
    return _with(ruleset, desired_elements(endpoints))


def with_ranges(ruleset: Ruleset, endpoints: Iterable[Endpoint]) -> Ruleset:
    """The ruleset with those of the elements of endpoints that are in sets of ranges, which a refresh fills anew."""
    ranged = _ranged(ruleset)
    every = {owned for endpoint in endpoints for owned in single_elements(endpoint)}
    return _with(ruleset, (owned for owned in every if owned[:2] in ranged))


def filling(ruleset: Ruleset, endpoints: Iterable[Endpoint], table: str) -> tuple[Change, ...]:
    """What the others add to the sets of that table. They are too many for text: those of one tenant's policies may be
    a quarter of a million."""
    ranged = _ranged(ruleset)
    content = (one for endpoint in endpoints for one in endpoint_content(endpoint))
    return changes("add", (one for one in content if one[:2] not in ranged), table)


def _ranged(ruleset: Ruleset) -> set[tuple[TableFamily, str]]:
    return {(table.family, named.name) for table in ruleset.tables for named in table.sets if named.interval}


def _with(ruleset: Ruleset, elements: Iterable[Owned]) -> Ruleset:
    by_set: dict[tuple[str, str], list[Element]] = {}
    for family, name, element in elements:
        by_set.setdefault((family, name), []).append(element)
    return Ruleset(tuple(_filled(table, by_set) for table in ruleset.tables))


def _filled(table: Table, by_set: dict[tuple[str, str], list[Element]]) -> Table:
    sets = []
    for named in table.sets:
        own = by_set.get((table.family, named.name), [])
        ordered = sorted(own, key=lambda element: str(element.key))
        sets.append(msgspec.structs.replace(named, elements=(*named.elements, *ordered)))
    return msgspec.structs.replace(table, sets=tuple(sets))


def digests(ruleset: Ruleset) -> tuple[str, str]:
    """(rules and static elements, definitions of sets and their bounds): equal digests, equal rules.

    A bound is a part of each element: a packet makes it with the one of its rule, and it keeps that one for as long as
    packets come (linux/net/netfilter/nft_dynset.c), whatever later rules say. Under another bound a set begins anew."""
    bare = [[msgspec.structs.replace(named, elements=()) for named in table.sets] for table in ruleset.tables]
    return _digest(ruleset), _digest((bare, _bounds(ruleset)))


def _bounds(ruleset: Ruleset) -> list[str]:
    """The bounds of which elements are made, with their sets."""
    rules = ((table.family, rule) for table in ruleset.tables for chain in table.chains for rule in chain.rules)
    meters = ((family, one) for family, rule in rules for one in rule.statements if isinstance(one, Meter))
    return sorted({repr((family, one.set, one.bound)) for family, one in meters})


def _digest(value: object) -> str:
    return sha256(repr(value).encode()).hexdigest()[:32]
