"""Desired rules: settings + facts + usage → ruleset, and the elements of endpoints in it."""

from collections.abc import Iterable
from hashlib import sha256

import msgspec

from cellwall.compile.assemble import compile_wall
from cellwall.compile.usage import Usage
from cellwall.lower.nft.elements import Owned, endpoint_elements
from cellwall.lower.nft.wall import lower_wall
from cellwall.model.endpoint import Endpoint
from cellwall.model.facts import NodeFacts
from cellwall.model.settings import Settings
from cellwall.ruleset.types import Element, Ruleset, Table


def desired_ruleset(settings: Settings, facts: NodeFacts, usage: Usage, uplink: str) -> Ruleset:
    """The rules and sets of this node, without endpoints."""
    return lower_wall(compile_wall(settings, facts, usage, uplink=uplink))


def desired_elements(endpoints: Iterable[Endpoint]) -> set[Owned]:
    """Every element that these endpoints own."""
    return {owned for endpoint in endpoints for owned in endpoint_elements(endpoint)}


def with_endpoints(ruleset: Ruleset, endpoints: Iterable[Endpoint]) -> Ruleset:
    """The ruleset with the elements of endpoints in its sets."""
    by_set: dict[tuple[str, str], list[Element]] = {}
    for family, name, element in desired_elements(endpoints):
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
    """(rules and static elements, set definitions): equal digests, equal rules."""
    bare = [[msgspec.structs.replace(named, elements=()) for named in table.sets] for table in ruleset.tables]
    return _digest(ruleset), _digest(bare)


def _digest(value: object) -> str:
    return sha256(repr(value).encode()).hexdigest()[:32]
