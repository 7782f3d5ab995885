"""The one table of fields: what kind of value each has and where in the packet the kernel finds it.

Renderer and evaluator use this table and nothing beside it. A field that
is in the packet has a `Payload`; the others (`meta`, `ct`, `fib`, `exthdr`) come from the packet's
surroundings and are read in `facts`. `l3` and `l4` say which protocol a field belongs to: nft turns
that into invisible checks of its own in front of the statement (see `dependencies`). `flow` is the family of a flow's
address, for which there is no such check: the kernel breaks the rule by itself on a flow of the other family.
"""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from cellwall.ruleset.scalars import Kind
from cellwall.ruleset.types import FieldName

Base = Literal["link", "network", "transport"]
L3 = Literal["ip", "ip6", "arp"]


class Payload(msgspec.Struct, frozen=True):
    """Bytes of the packet: `length` of them at `offset` from the begin of a header, then `& mask`."""

    base: Base
    offset: int
    length: int
    mask: int | None = None


class FieldSpec(msgspec.Struct, frozen=True):
    """What a field is: its kind, where in a packet it lies if it does, the protocols that a packet has that has it, and
    of which family a flow's addresses are."""

    kind: Kind
    payload: Payload | None = None
    l3: L3 | None = None
    l4: int | None = None
    flow: L3 | None = None


def _link(kind: Kind, offset: int, length: int) -> FieldSpec:
    return FieldSpec(kind, Payload("link", offset, length))


def _network(l3: L3, kind: Kind, offset: int, length: int, mask: int | None = None) -> FieldSpec:
    return FieldSpec(kind, Payload("network", offset, length, mask), l3)


def _transport(kind: Kind, offset: int, length: int, l3: L3 | None = None, l4: int | None = None) -> FieldSpec:
    return FieldSpec(kind, Payload("transport", offset, length), l3, l4)


ICMP: Final = 1
TCP: Final = 6
UDP: Final = 17
ICMPV6: Final = 58

FIELDS: Final[Mapping[FieldName, FieldSpec]] = {
    "iifname": FieldSpec("ifname"),
    "oifname": FieldSpec("ifname"),
    "iif": FieldSpec("iface_index"),
    "oif": FieldSpec("iface_index"),
    "meta mark": FieldSpec("mark"),
    "meta nfproto": FieldSpec("nf_family"),
    "meta l4proto": FieldSpec("inet_proto"),
    "ether daddr": _link("ether_addr", 0, 6),
    "ether saddr": _link("ether_addr", 6, 6),
    "ether type": _link("ether_type", 12, 2),
    "ip hdrlength": _network("ip", "integer8", 0, 1, mask=0x0F),
    "ip frag-off": _network("ip", "integer16", 6, 2),
    "ip protocol": _network("ip", "inet_proto", 9, 1),
    "ip saddr": _network("ip", "ipv4_addr", 12, 4),
    "ip daddr": _network("ip", "ipv4_addr", 16, 4),
    "ip6 nexthdr": _network("ip6", "inet_proto", 6, 1),
    "ip6 hoplimit": _network("ip6", "integer8", 7, 1),
    "ip6 saddr": _network("ip6", "ipv6_addr", 8, 16),
    "ip6 daddr": _network("ip6", "ipv6_addr", 24, 16),
    # A raw load: nft adds no check of any protocol to it, the rule has to.
    "@nh,320,8": FieldSpec("raw8", Payload("network", 40, 1)),
    "@nh,384,128": FieldSpec("raw128", Payload("network", 48, 16)),
    "icmp type": _transport("icmp_type", 0, 1, "ip", ICMP),
    "icmpv6 type": _transport("icmpv6_type", 0, 1, "ip6", ICMPV6),
    "icmpv6 taddr": _transport("ipv6_addr", 8, 16, "ip6", ICMPV6),
    "arp htype": _network("arp", "integer16", 0, 2),
    "arp ptype": _network("arp", "ether_type", 2, 2),
    "arp hlen": _network("arp", "integer8", 4, 1),
    "arp plen": _network("arp", "integer8", 5, 1),
    "arp operation": _network("arp", "arp_operation", 6, 2),
    "arp saddr ether": _network("arp", "ether_addr", 8, 6),
    "arp saddr ip": _network("arp", "ipv4_addr", 14, 4),
    "arp daddr ip": _network("arp", "ipv4_addr", 24, 4),
    "th sport": _transport("inet_service", 0, 2),
    "th dport": _transport("inet_service", 2, 2),
    "tcp flags": _transport("integer8", 13, 1, l4=TCP),
    "ct state": FieldSpec("ct_state"),
    "ct direction": FieldSpec("ct_direction"),
    "ct status": FieldSpec("ct_status"),
    "ct mark": FieldSpec("mark"),
    "ct label": FieldSpec("ct_label"),
    "ct original ip saddr": FieldSpec("ipv4_addr", flow="ip"),
    "ct original ip daddr": FieldSpec("ipv4_addr", flow="ip"),
    "ct original ip6 saddr": FieldSpec("ipv6_addr", flow="ip6"),
    "ct original ip6 daddr": FieldSpec("ipv6_addr", flow="ip6"),
    "ct original protocol": FieldSpec("inet_proto"),
    "ct original proto-dst": FieldSpec("inet_service"),
    "ct reply ip saddr": FieldSpec("ipv4_addr", flow="ip"),
    "ct reply ip daddr": FieldSpec("ipv4_addr", flow="ip"),
    "ct reply ip6 saddr": FieldSpec("ipv6_addr", flow="ip6"),
    "ct reply ip6 daddr": FieldSpec("ipv6_addr", flow="ip6"),
    "ct reply protocol": FieldSpec("inet_proto"),
    "ct reply proto-src": FieldSpec("inet_service"),
    "ct reply proto-dst": FieldSpec("inet_service"),
    "fib saddr type": FieldSpec("fib_type"),
    "fib daddr type": FieldSpec("fib_type"),
    "exthdr hbh": FieldSpec("presence", l3="ip6"),
    "exthdr dst": FieldSpec("presence", l3="ip6"),
    "exthdr rt": FieldSpec("presence", l3="ip6"),
}
