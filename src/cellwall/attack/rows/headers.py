"""B03, B08: headers between IP and transport, options, source routes, and protocols that a sandbox has no use for."""

import struct
from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import IPv6Address
from itertools import product
from typing import Any

from cellwall.attack.frames import ip, packet, scapy
from cellwall.attack.probe import Layer, Place, Probe, layers
from cellwall.attack.rows.routed import (
    PUBLIC,
    Choose,
    attackers,
    between,
    by_gateway,
    fixed,
    uplinks,
    victims,
    volley,
)
from cellwall.attack.rows.shapes import FAMILIES
from cellwall.attack.world import World

Headers = tuple[tuple[int, bytes], ...]
"""IPv6 extension headers: of each its own number, and its body after the next-header field."""

_UNVOUCHED = layers("PIN", "RAW")
"""What the pins do not vouch for, the raw table drops on its own."""

_TARGETS: tuple[tuple[str, Callable[[int], Choose], Place, frozenset[Layer]], ...] = (
    ("internet", lambda family: fixed(PUBLIC[family]), "internet", layers()),
    ("node", uplinks, "node", layers("PRE", "IN")),
    ("neighbour", victims, "victim", layers("FWD")),
)

# ---------------------------------------------------------------- B03: IPv4 options

_OPTIONS: dict[str, bytes] = {
    "end-of-list": bytes(4),
    "no-operation": bytes([1, 1, 1, 1]),
    "record-route": bytes([7, 7, 4, 0, 0, 0, 0, 0]),
    "timestamp": bytes([68, 8, 5, 0, 0, 0, 0, 0]),
    "security": bytes([130, 11]) + bytes(9) + b"\0",
    "router-alert": bytes([148, 4, 0, 0]),
    "stream-id": bytes([136, 4, 0, 0]),
    "experimental": bytes([158, 4, 0, 0]),
}


def with_options(source: str, target: str, options: bytes, token: bytes) -> Any:
    """A UDP packet with IPv4 options, a multiple of four bytes."""
    return (
        ip(source, target, proto=17, options=[scapy().IPOption(options)]) / scapy().UDP(sport=40003, dport=9030) / token
    )


def _options() -> Iterator[Probe]:
    for name, options in _OPTIONS.items():
        for place, target, where, stops in _TARGETS:
            yield volley(
                f"B03-{name}-{place}",
                f"IPv4 option {name} to the {place}",
                _UNVOUCHED | stops,
                by_gateway(partial(_with_options, target=target(4), options=options)),
                where,
                family=4,
                gentle=True,
            )


def _with_options(w: World, token: bytes, *, target: Choose, options: bytes) -> object:
    return with_options(w.attacker.ip4, target(w), options, token)


def _source_routes() -> Iterator[Probe]:
    """By way of the node, which would be the sender of the rest of the way."""
    hops: dict[str, tuple[Choose, Place]] = {
        "neighbour": (victims(4), "victim"),
        "metadata": (fixed("169.254.169.254"), "internet"),
        "internet": (fixed(PUBLIC[4]), "internet"),
    }
    for (kind, number), (name, (hop, where)) in product((("loose", 131), ("strict", 137)), hops.items()):
        off_link = kind == "strict" and name != "neighbour"
        yield volley(
            f"B03-{kind}-source-route-{name}",
            f"{kind} source route by way of the node to the {name}",
            _UNVOUCHED | layers("SYS", "PRE") | layers("FWD"),
            by_gateway(partial(_by_way_of_the_node, number=number, hop=hop)),
            where,
            family=4,
            kernel="the kernel takes a strict source route on one link only" if off_link else "",
            gentle=True,
        )


def _by_way_of_the_node(w: World, token: bytes, *, number: int, hop: Choose) -> object:
    return with_options(w.attacker.ip4, w.gateway.ip4, source_route(number, hop(w)), token)


def source_route(number: int, hop: str) -> bytes:
    """The IPv4 option (131: loose, 137: strict) that names one more hop."""
    return bytes([number, 7, 4]) + bytes(map(int, hop.split("."))) + b"\0"


# ---------------------------------------------------------------- B03: IPv6 extension headers


def _chain(*headers: tuple[int, bytes], last: int) -> bytes:
    """Extension headers in a row; each is (its own number, its body after the next-header field)."""
    numbers = [number for number, _ in headers[1:]] + [last]
    return b"".join(bytes([following]) + body for following, (_, body) in zip(numbers, headers, strict=True))


_PADDING = bytes([0, 1, 4, 0, 0, 0, 0])
_HOP, ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION = 0, 43, 44, 51, 60
_AH = bytes([4, 0, 0]) + struct.pack("!II", 256, 1) + bytes(12)

_CHAINS: dict[str, tuple[tuple[tuple[int, bytes], ...], frozenset[Layer]]] = {
    "hop-by-hop": (((_HOP, _PADDING),), layers("PRE")),
    "router-alert": (((_HOP, bytes([0, 5, 2, 0, 0, 1, 0])),), layers("PRE")),
    "destination": (((_DESTINATION, _PADDING),), layers("PRE")),
    "hop-and-destination": (((_HOP, _PADDING), (_DESTINATION, _PADDING)), layers("PRE")),
    "destination-twice": (((_DESTINATION, _PADDING), (_DESTINATION, _PADDING)), layers("PRE")),
    "hop-and-fragment": (((_HOP, _PADDING), (_FRAGMENT, bytes(3) + b"\0\0\0\7")), layers("PRE")),
    "fragment-and-destination": (((_FRAGMENT, bytes(3) + b"\0\0\0\7"), (_DESTINATION, _PADDING)), layers("PRE")),
    "authentication": (((_AUTHENTICATION, _AH),), layers("FWD")),
    "mobility": (((135, _PADDING),), layers("FWD")),
    "host-identity": (((139, _PADDING),), layers("FWD")),
    "shim6": (((140, _PADDING),), layers("FWD")),
    "experimental": (((253, _PADDING),), layers("FWD")),
    "routing-type-0-done": (((ROUTING, bytes([2, 0, 0]) + bytes(20)),), layers("PRE")),
    "routing-type-2-done": (((ROUTING, bytes([2, 2, 0]) + bytes(20)),), layers("PRE")),
    "routing-type-4-done": (((ROUTING, bytes([2, 4, 0, 0, 0, 0, 0]) + bytes(16)),), layers("PRE")),
}
"""Name → headers, and what stops them beside the pins: the kernel looks for the transport behind all of these but those
it does not know, which are a protocol of their own to it."""

_SEGMENTS = {("routing-type-4-done", "node"): layers("SYS")}
"""Who is the last of a segment route looks at the header, if it was told to."""


def _extensions() -> Iterator[Probe]:
    for name, (headers, stops) in _CHAINS.items():
        for protocol, (place, target, where, there) in product(("udp", "icmp"), _TARGETS):
            if (name, place) == ("mobility", "node"):
                continue  # its sockets hear of what has a checksum of its own kind only
            beside = stops - layers("FWD") if place == "node" else stops
            yield volley(
                f"B03-{name}-{protocol}-{place}",
                f"IPv6 {name} header before {protocol} to the {place}",
                _UNVOUCHED | there | beside | _SEGMENTS.get((name, place), layers()),
                by_gateway(partial(_with_headers, target=target(6), headers=headers, protocol=protocol)),
                where,
                family=6,
                gentle=True,
            )


def _with_headers(w: World, token: bytes, *, target: Choose, headers: Headers, protocol: str) -> object:
    return with_headers(w.attacker.ip6, target(w), headers, protocol, token)


def with_headers(source: str, target: str, headers: Headers, protocol: str, token: bytes) -> Any:
    """A packet with IPv6 extension headers."""
    number = {"udp": 17, "icmp": 58}[protocol]
    # The checksum is that of the packet without the headers between.
    transport = bytes(packet(source, target, protocol, token, dport=9031))[40:]
    return ip(source, target, proto=headers[0][0]) / scapy().Raw(_chain(*headers, last=number) + transport)


def _routing_headers() -> Iterator[Probe]:
    """By way of the node, with a segment left to go."""
    hops: dict[str, tuple[Choose, Place]] = {
        "neighbour": (victims(6), "victim"),
        "metadata": (fixed("fd00:ec2::254"), "internet"),
        "internet": (fixed(PUBLIC[6]), "internet"),
    }
    reasons = {
        0: "the kernel has no routing header of type 0 any more (RFC 5095)",
        2: "the kernel takes a type 2 header for a home address of its own only, and this one for none",
        3: "the kernel takes RPL headers on interfaces that were told to, which nothing does here",
    }
    for kind, (name, (hop, where)) in product((0, 2, 3, 4), hops.items()):
        yield volley(
            f"B03-routing-type-{kind}-{name}",
            f"IPv6 routing header of type {kind} by way of the node to the {name}",
            _UNVOUCHED | layers("SYS", "PRE", "IN", "FWD"),
            by_gateway(partial(_routed_by_the_node, kind=kind, hop=hop)),
            where,
            family=6,
            kernel=reasons.get(kind, ""),
            gentle=True,
        )


def _routed_by_the_node(w: World, token: bytes, *, kind: int, hop: Choose) -> object:
    # Segments are listed from the last one on (RFC 8754 2); the node is the second of two.
    here, beyond = (IPv6Address(address).packed for address in (w.gateway.ip6, hop(w)))
    route = bytes([1, 0, 0, 0]) + beyond + here if kind == 4 else bytes(4) + beyond
    header = bytes([len(route) // 8, kind, 1]) + route
    return with_headers(w.attacker.ip6, w.gateway.ip6, ((ROUTING, header),), "udp", token)


# ---------------------------------------------------------------- B08: other protocols

_PROTOCOLS = {
    "igmp": 2,
    "ipip": 4,
    "dccp": 33,
    "6in4": 41,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "ospf": 89,
    "pim": 103,
    "vrrp": 112,
    "l2tp": 115,
    "sctp": 132,
    "udplite": 136,
    "ethernet": 143,
    "raw": 255,
}

_MALFORMED = {
    (name, family): layers("PRE")
    for name, family in (("sctp", 4), ("sctp", 6), ("udplite", 4), ("udplite", 6), ("ah", 6))
}
"""Connection tracking knows these, and calls what a probe's padding says of them invalid."""


def _protocols() -> Iterator[Probe]:
    for family, (name, number) in product(FAMILIES, _PROTOCOLS.items()):
        unlike = (_UNVOUCHED if family == 6 else layers()) | _MALFORMED.get((name, family), layers())
        for place, target, where, there in _TARGETS[::2]:
            yield volley(
                f"B08-{name}-{place}-v{family}",
                f"protocol {number}, {name}, over IPv{family} to the {place}",
                layers("FWD") | there | unlike,
                by_gateway(between(attackers(family), target(family), number)),
                where,
                family=family,
                gentle=True,
            )


PROBES: tuple[Probe, ...] = (
    *_options(),
    *_source_routes(),
    *_extensions(),
    *_routing_headers(),
    *_protocols(),
)
