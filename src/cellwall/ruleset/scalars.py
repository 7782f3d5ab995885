"""How one value is written in nft text, by its type, and how wide it is.

Owns the spelling of addresses, numbers and intervals in rules and in set elements. Refuses a value that its
type cannot hold: nft would cut some of them silently.
"""

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Literal

from cellwall.errors import InvalidSpec
from cellwall.ruleset.names import check_ifname
from cellwall.ruleset.types import Interval, KeyPart, KeyType, Scalar

Kind = (
    KeyType
    | Literal[
        "ether_type",
        "icmp_type",
        "icmpv6_type",
        "arp_operation",
        "integer8",
        "integer16",
        "raw8",
        "raw128",
        "presence",
        "nf_family",
        "ct_state",
        "ct_direction",
        "ct_status",
        "fib_type",
    ]
)
"""A set's key types, and those that only a rule's right-hand side has."""

WIDTH: Final[Mapping[Kind, int]] = {
    "iface_index": 32,
    "ether_addr": 48,
    "ipv4_addr": 32,
    "ipv6_addr": 128,
    "inet_proto": 8,
    "inet_service": 16,
    "mark": 32,
    "ct_label": 128,
    "ether_type": 16,
    "icmp_type": 8,
    "icmpv6_type": 8,
    "arp_operation": 16,
    "integer8": 8,
    "integer16": 16,
    "raw8": 8,
    "raw128": 128,
    "presence": 1,
}
"""Bits of the kinds whose values are integers."""

WORDS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "nf_family": ("ipv4", "ipv6"),
    "ct_state": ("invalid", "established", "related", "new", "untracked"),
    "ct_direction": ("original", "reply"),
    "ct_status": ("expected", "seen-reply", "assured", "confirmed", "snat", "dnat", "dying"),
    "fib_type": (
        "unspec",
        "unicast",
        "local",
        "broadcast",
        "anycast",
        "multicast",
        "blackhole",
        "unreachable",
        "prohibit",
    ),
}
"""The symbolic values of the kinds that have no integers."""

_SPELLED: Final[Mapping[Kind, Mapping[int, str]]] = {
    # By keyword of nft's grammar, not by /etc/protocols, which a minimal host does not have.
    "inet_proto": {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"},
    "ether_type": {0x0800: "ip", 0x0806: "arp", 0x86DD: "ip6", 0x8100: "8021q", 0x88A8: "8021ad"},
    "arp_operation": {1: "request", 2: "reply"},
    "presence": {0: "missing", 1: "exists"},
    "icmp_type": {
        0: "echo-reply",
        3: "destination-unreachable",
        5: "redirect",
        8: "echo-request",
        11: "time-exceeded",
        12: "parameter-problem",
    },
    "icmpv6_type": {
        1: "destination-unreachable",
        2: "packet-too-big",
        3: "time-exceeded",
        4: "parameter-problem",
        128: "echo-request",
        129: "echo-reply",
        131: "mld-listener-report",
        132: "mld-listener-done",
        133: "nd-router-solicit",
        134: "nd-router-advert",
        135: "nd-neighbor-solicit",
        136: "nd-neighbor-advert",
        137: "nd-redirect",
        143: "mld2-listener-report",
    },
}


def spell(kind: Kind, value: Scalar) -> str:
    """`value` as nft writes it."""
    if kind in WORDS:
        return _word(kind, value)
    if kind == "ifname":
        if not isinstance(value, str):
            raise InvalidSpec(kind, value, "must be a name")
        return f'"{check_ifname(value)}"'
    number = check_number(kind, value)
    spelled = _SPELLED.get(kind, {}).get(number)
    return spelled if spelled is not None else _number(kind, number)


def check_number(kind: Kind, value: object) -> int:
    """`value`, if it is an integer that the kind can hold."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidSpec(kind, value, "must be an integer")
    if not 0 <= value < 1 << WIDTH[kind]:
        raise InvalidSpec(kind, value, f"does not fit into {WIDTH[kind]} bits")
    return value


def spell_mask(kind: Kind, mask: int) -> str:
    """A bit mask in the form that its kind's values have."""
    return _number(kind, check_number(kind, mask))


def spell_part(kind: Kind, part: KeyPart) -> str:
    """One part of an element's key: a value, a prefix or a range."""
    if not isinstance(part, Interval):
        return spell(kind, part)
    low, high = check_number(kind, part.low), check_number(kind, part.high)
    if low > high:
        raise InvalidSpec(kind, f"{low}-{high}", "the interval ends before it begins")
    if low == high:
        return spell(kind, low)
    length = interval_prefix(kind, part)
    if length is not None:
        return f"{spell(kind, low)}/{length}"
    return f"{spell(kind, low)}-{spell(kind, high)}"


def prefix_length(kind: Kind, mask: int) -> int | None:
    """The length of the address prefix that `mask` is, or None where it is none."""
    if kind not in ("ipv4_addr", "ipv6_addr"):
        return None
    bits = WIDTH[kind]
    inverse = ~mask & ((1 << bits) - 1)
    return None if inverse & (inverse + 1) else bits - inverse.bit_length()


def interval_prefix(kind: Kind, interval: Interval) -> int | None:
    """The prefix length of an interval that is exactly one address prefix."""
    if kind not in ("ipv4_addr", "ipv6_addr"):
        return None
    span = interval.low ^ interval.high
    if span & (span + 1) or interval.low & span:
        return None
    return WIDTH[kind] - span.bit_length()


def _word(kind: Kind, value: Scalar) -> str:
    if not isinstance(value, str) or value not in WORDS[kind]:
        raise InvalidSpec(kind, value, f"must be one of {', '.join(WORDS[kind])}")
    return value


def _number(kind: Kind, number: int) -> str:
    if kind == "ether_addr":
        return ":".join(re.findall("..", f"{number:012x}"))
    if kind == "ipv4_addr":
        return str(IPv4Address(number))
    if kind == "ipv6_addr":
        return str(IPv6Address(number))
    if kind == "mark":
        return f"0x{number:08x}"
    if kind == "ct_label":  # which nft reads as the places of its bits, and lists by the lowest of them
        if not number:
            raise InvalidSpec(kind, number, "has no bit")
        return "|".join(str(bit) for bit in range(number.bit_length()) if number >> bit & 1)
    if kind == "ether_type":
        return f"0x{number:04x}"
    if kind == "raw128":
        return f"0x{number:032x}"
    return str(number)
