"""The checks that nft compiles into a rule without writing them down.

`ip saddr` in an inet table first compares `meta nfproto`; in a bridge table `meta protocol`, which also
matches behind a VLAN tag; but `icmp type` and `arp …` in a bridge table compare the frame's type field,
which does not. A protocol that the rule already compared is not checked again. Which check comes when was
read from `nft --debug=netlink` (1.1.3). The same text with another history of fields compiles differently,
so this walks a rule from left to right exactly as nft's evaluation does, and refuses what nft refuses: two
protocols in one layer.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, Literal

import msgspec

from cellwall.errors import Unsupported
from cellwall.ruleset.fields import FIELDS, ICMPV6, TCP, FieldSpec
from cellwall.ruleset.packet import ETH_ARP, ETH_IP, ETH_IPV6
from cellwall.ruleset.types import (
    ClampSegments,
    Compare,
    Dnat,
    Field,
    FieldName,
    LabelFlow,
    Lookup,
    MarkPacketFrom,
    Meter,
    Reject,
    Rule,
    Scalar,
    StampFlow,
    Statement,
    TableFamily,
    Tally,
)

TARGET_TYPES: Final = frozenset((130, 131, 132, 135, 136, 137))
"""The ICMPv6 messages that have a target or group address at byte 8: nft's dependency of `icmpv6 taddr`."""

_ETHERTYPE: Final = {"ip": ETH_IP, "ip6": ETH_IPV6, "arp": ETH_ARP}
_L3_OF_TYPE: Final[Mapping[Scalar, str]] = {
    ETH_IP: "ip",
    ETH_IPV6: "ip6",
    ETH_ARP: "arp",
    0x8100: "vlan",
    0x88A8: "vlan",
}
_L3_OF_FAMILY: Final[Mapping[Scalar, str]] = {"ipv4": "ip", "ipv6": "ip6"}
_SEVERAL: Final = "one of several protocols"
"""Of a set of protocols nft remembers the last one, and then leaves out the check for all of them; after others
it refuses the rule. What needs such a check is therefore refused here."""
_NAMELESS: Final = "a protocol without a name"
"""nft 1.1.3 takes `meta l4proto 44` with a key of `th dport`, and then aborts when it lists the rule."""
_L4_FIELDS: Final = ("meta l4proto", "ip protocol", "ip6 nexthdr")
_KNOWN_L4: Final = frozenset((1, 2, 6, 17, 33, 47, 50, 51, 58, 108, 132, 136))


class Check(msgspec.Struct, frozen=True):
    """One hidden comparison. `protocol`, `ether type` and `nfproto` have an EtherType as their value."""

    fact: Literal["iiftype", "nfproto", "protocol", "ether type", "l4proto", "icmpv6 target"]
    value: int


@lru_cache(maxsize=4096)
def hidden_checks(family: TableFamily, rule: Rule) -> tuple[tuple[Check, ...], ...]:
    """For each statement of the rule, the checks that run in front of it."""
    seen = _Seen(family)
    checks = [seen.before(statement) for statement in rule.statements]
    # nft puts the checks of a reject and of exthdr in front of the whole rule: they also hold for its counter.
    return ((*seen.first, *checks[0]), *map(tuple, checks[1:])) if checks else ()


class _Seen:
    """What a rule has established about the packet, from its left end to here."""

    def __init__(self, family: TableFamily) -> None:
        self.family = family
        self.link = family == "bridge"
        self.l3: str | None = "arp" if family == "arp" else None
        self.l4: Scalar | None = None
        self.icmp_types: frozenset[object] | None = None
        self.first: list[Check] = []

    def before(self, statement: Statement) -> list[Check]:
        if isinstance(statement, Reject):
            self.first += self._reject(statement)
            return []
        if isinstance(statement, ClampSegments) and self.l4 != TCP:  # of others it would end the rule
            raise Unsupported(f"segments of protocol {self.l4}", predicate="ClampSegments")
        checks = [check for field in _fields(statement) for check in self._field(field)]
        if isinstance(statement, Compare) and FIELDS[statement.field.name].kind == "presence":
            self.first += checks
            checks = []
        if isinstance(statement, Compare):
            self._learn(statement)
        elif isinstance(statement, Lookup) and not statement.negate and len(statement.fields) == 1:
            self._learn_set(statement.fields[0])
        return checks

    def _field(self, field: Field) -> list[Check]:
        spec = FIELDS[field.name]
        if field.name == "meta nfproto" and self.family != "inet":
            raise Unsupported(f"meta nfproto in a {self.family} table", predicate=field.name)
        if self.l4 == _NAMELESS and spec.payload is not None and spec.payload.base == "transport":
            raise Unsupported(f"{field.name} of {self.l4}", predicate=field.name)
        if spec.flow is not None and self.l3 not in (None, spec.flow):
            raise Unsupported(f"{field.name} in a rule about {self.l3}", predicate=field.name)
        checks: list[Check] = []
        if spec.payload is not None and spec.payload.base == "link":
            checks += self._link(field)
        if spec.l4 is None:
            checks += self._l3(spec)
        elif self.l4 is None:
            checks += [*self._l3(spec), Check("l4proto", spec.l4)]
            self.l4 = spec.l4
        elif self.l4 != spec.l4:
            raise Unsupported(f"{field.name} after protocol {self.l4} was compared", predicate=field.name)
        if field.name == "icmpv6 taddr":
            checks += self._target()
        return checks

    def _link(self, field: Field) -> list[Check]:
        if self.family == "arp":
            raise Unsupported(f"{field.name} in an arp table", predicate=field.name)
        if self.link:
            return []
        self.link = True
        return [Check("iiftype", 1)]

    def _l3(self, spec: FieldSpec) -> list[Check]:
        if spec.l3 is None or spec.l3 == self.l3:
            return []
        if self.l3 is not None or (spec.l3 == "arp" and self.family == "inet"):
            raise Unsupported(f"a field of {spec.l3} in a {self.family} rule about {self.l3}")
        self.l3 = spec.l3
        value = _ETHERTYPE[spec.l3]
        if self.family == "inet":
            # Once the rule has read the Ethernet header, nft checks its type field instead.
            return [Check("ether type" if self.link else "nfproto", value)]
        addressed = spec.payload is not None and spec.payload.base == "network" and spec.l3 != "arp"
        return [Check("protocol" if addressed else "ether type", value)]

    def _target(self) -> list[Check]:
        if self.icmp_types is None:
            return [Check("icmpv6 target", ICMPV6)]
        if not self.icmp_types <= TARGET_TYPES:
            raise Unsupported("icmpv6 taddr of a message that has none", predicate="icmpv6 taddr")
        return []

    def _learn(self, compare: Compare) -> None:
        name, equal = compare.field.name, not compare.negate and compare.field.mask is None
        if name == "ether type" and self.l3 is None:
            # Also a failed guess is one: nft 1.1.3 refuses any later check of this field.
            self._learn_l3([_L3_OF_TYPE.get(value, _SEVERAL) if equal else _SEVERAL for value in compare.values])
        elif name == "icmpv6 type":
            self.icmp_types = frozenset(compare.values if equal else ("all others",))
        elif not equal:
            return
        elif name == "ether type":
            self._learn_l3([_L3_OF_TYPE.get(value, _SEVERAL) for value in compare.values])
        elif name == "meta nfproto":
            self._learn_l3([_L3_OF_FAMILY[value] for value in compare.values])
        elif name in _L4_FIELDS:
            self._learn_l4(name, compare.values)

    def _learn_set(self, field: Field) -> None:
        """nft learns from the elements that a named set has at that moment."""
        if field.name in _L4_FIELDS and field.mask is None:
            self._learn_l4("meta l4proto", ())

    def _learn_l3(self, named: list[str]) -> None:
        l3 = named[0] if len(named) == 1 else _SEVERAL
        if self.l3 not in (None, l3):
            raise Unsupported(f"{self.l3} and {l3} in one rule")
        self.l3 = l3

    def _learn_l4(self, name: FieldName, values: Sequence[Scalar]) -> None:
        known = [value for value in values if value in _KNOWN_L4]
        if not known and name != "meta l4proto":
            return  # nft goes on as if nothing had been compared
        l4 = known[0] if len(known) == len(values) == 1 else _SEVERAL if known or not values else _NAMELESS
        if self.l4 not in (None, l4):
            raise Unsupported(f"protocols {self.l4} and {l4} in one rule")
        self.l4 = l4

    def _reject(self, statement: Reject) -> list[Check]:
        if self.family != "inet":
            raise Unsupported(f"reject in a {self.family} table", predicate="reject")
        if statement.kind == "tcp reset":
            if self.l4 not in (None, TCP):
                raise Unsupported(f"tcp reset for protocol {self.l4}", predicate="reject")
            return [] if self.l4 == TCP else [Check("l4proto", TCP)]
        l3: Literal["ip", "ip6"] = "ip" if statement.kind.startswith("icmp ") else "ip6"
        if self.l3 not in (None, l3):
            raise Unsupported(f"{statement.kind} for {self.l3}", predicate="reject")
        return [] if self.l3 == l3 else [Check("nfproto", _ETHERTYPE[l3])]


def _fields(statement: Statement) -> tuple[Field, ...]:
    if isinstance(statement, Compare):
        return (statement.field,)
    if isinstance(statement, Lookup | StampFlow | LabelFlow | MarkPacketFrom | Dnat | Meter | Tally):
        return statement.fields
    return ()
