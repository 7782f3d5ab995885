"""What the wall itself puts into sets: the floor, its exceptions, the node's services."""

from collections.abc import Iterable

import msgspec

from cellwall.compile.predicates import Exposed
from cellwall.compile.usage import ExposureForm
from cellwall.compile.wall import OpenedService, Wall
from cellwall.lower.nft.families import FAMILIES, Family
from cellwall.lower.nft.sets import inet_definitions
from cellwall.model.addresses import Prefix
from cellwall.ruleset.types import Element, Interval, NamedSet


def inet_sets(wall: Wall) -> tuple[NamedSet, ...]:
    """The sets of the inet table, with what the wall itself puts into them."""
    content = {}
    for family in FAMILIES:
        floor = wall.floor4 if family.version == 4 else wall.floor6
        strangers = wall.strangers4 if family.version == 4 else wall.strangers6
        content["floor" + family.suffix] = _prefixes(floor)
        content["noclients" + family.suffix] = _prefixes(strangers)
        content["opened" + family.suffix] = _opened(wall.exceptions, family)
        content["services" + family.suffix] = _opened(wall.services, family)
    return tuple(
        msgspec.structs.replace(named, elements=content.get(named.name, ()))
        for named in inet_definitions(_exposed_forms(wall), wall.policies)
    )


def _exposed_forms(wall: Wall) -> tuple[ExposureForm, ...]:
    clauses = (clause for stage in wall.stages for clause in stage.clauses)
    predicates = (predicate for clause in clauses for predicate in clause.when)
    return tuple(predicate.form for predicate in predicates if isinstance(predicate, Exposed))


def _prefixes(rows: Iterable[Prefix]) -> tuple[Element, ...]:
    return tuple(Element((Interval(int(row.network_address), int(row.broadcast_address)),)) for row in rows)


def _opened(rows: tuple[OpenedService, ...], family: Family) -> tuple[Element, ...]:
    return tuple(Element((row.address, row.protocol, row.port)) for row in rows if row.version == family.version)
