"""How a predicate is lowered: its form, and the words that every form is made of."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec

from cellwall.compile import predicates as when
from cellwall.compile import wall as w
from cellwall.lower.nft.families import IPV4, IPV6, Family
from cellwall.model.versions import TENANT_BITS
from cellwall.ruleset.types import Compare, Field, FieldName, Scalar, Statement

ICMP6_TYPES = {
    "destination-unreachable": 1,
    "packet-too-big": 2,
    "time-exceeded": 3,
    "parameter-problem": 4,
    "echo-request": 128,
    "echo-reply": 129,
    "mld-listener-report": 131,
    "mld-listener-done": 132,
    "nd-neighbor-solicit": 135,
    "nd-redirect": 137,
    "mld2-listener-report": 143,
}
BOTH = frozenset({IPV4.version, IPV6.version})
NEITHER: frozenset[int] = frozenset()

Lowered = tuple[Statement, ...]
"""A conjunction of matches."""

NUMBERED = Compare(Field("ct label"), (TENANT_BITS,))
"""What began before its node had labels has none, and takes no part in what its tenant may use; and nft lists a key of
0 as what it cannot read back."""
OF_TENANT: Lowered = (Compare(Field("ct state"), ("related",), negate=True), NUMBERED)
"""Packets of the tenant whose flow it is. An error is taken for part of the flow that it quotes, maybe another's.
To forge some would use up what others may."""

P = TypeVar("P", bound=when.Predicate)


class Form(msgspec.Struct, frozen=True):
    """How a predicate is lowered, and the families it has separate forms for."""

    lower: Callable[..., tuple[Lowered, ...]]
    families: Callable[..., frozenset[int]]


Forms = Mapping[type[when.Predicate], Form]


def either(lower: Callable[[P, w.Scene], tuple[Lowered, ...]]) -> Form:
    """One form for both families. `lower` is not told the family: no predicate means IPv4 alone by oversight."""
    return Form(lambda predicate, scene, family: lower(predicate, scene), lambda predicate: NEITHER)


def per_family(
    lower: Callable[[P, w.Scene, Family], tuple[Lowered, ...]],
    families: Callable[[P], frozenset[int]] = lambda predicate: BOTH,
) -> Form:
    """A form for each family that `families` names."""
    return Form(lower, families)


def match(name: FieldName, *values: Scalar, negate: bool = False, mask: int | None = None) -> Compare:
    """`name == values`, the usual case of a comparison."""
    return Compare(Field(name, mask), values, negate)


def fields(*names: FieldName) -> tuple[Field, ...]:
    """A concatenation of unmasked fields."""
    return tuple(Field(name) for name in names)


def in_subnet(field: FieldName, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    """An address of the sandboxes' network."""
    network, mask = family.prefix(scene.subnet4 if family.version == 4 else scene.subnet6)
    return ((match(field, network, mask=mask),),)
