"""B02: packets in pieces, so that a filter that looks at single pieces finds no port to judge by.

Connection tracking reassembles before any rule that knows ports, and translation keeps it at that whatever else is
removed: pieces that make no packet are the kernel's to stop, all others are judged as the packet they make.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import product

from cellwall.attack.frames import ip, packet, scapy
from cellwall.attack.probe import Layer, Place, Probe, layers
from cellwall.attack.rows.routed import (
    METADATA,
    PUBLIC,
    Body,
    Choose,
    attackers,
    by_gateway,
    fixed,
    uplinks,
    victims,
    volley,
)
from cellwall.attack.rows.shapes import FAMILIES, PROTOCOLS

Piece = tuple[int, bytes, bool]
"""Offset in bytes, data, whether more follow."""

_NUMBERS = {"udp": 17, "tcp": 6, "icmp": 1}
_INCOMPLETE = "the kernel reassembles first, and pieces without a first one never make a packet"
_OVERLAPPING = "the kernel drops a packet whose pieces overlap (RFC 5722, and for IPv4 alike)"
_TRUNCATED = "the kernel drops a first piece without the whole transport header (RFC 8200 4.5)"
_BEYOND = "the kernel drops a piece that ends beyond the longest packet"


def _pieces(whole: bytes, sizes: Sequence[int]) -> list[Piece]:
    """A transport segment, cut; sizes are multiples of 8."""
    cut, offset = [], 0
    for size in sizes:
        cut.append((offset, whole[offset : offset + size], True))
        offset += size
    return [*cut, (offset, whole[offset:], False)]


def _tiny(whole: bytes) -> list[Piece]:
    return _pieces(whole, [8])


def _crumbs(whole: bytes) -> list[Piece]:
    return _pieces(whole, [8] * 4)


def _backwards(whole: bytes) -> list[Piece]:
    return list(reversed(_crumbs(whole)))


def _twice(whole: bytes) -> list[Piece]:
    first, last = _pieces(whole, [16])
    return [first, first, last]


def _atomic(whole: bytes) -> list[Piece]:
    return _pieces(whole, [])


def _headless(whole: bytes) -> list[Piece]:
    return [(8, whole, False)]


def _headless_repeated(whole: bytes) -> list[Piece]:
    """Twice: an IPv6 piece that it waits for already, connection tracking lets go on as it came."""
    return [(offset + 8, data, True) for offset, data, _ in _tiny(whole)] * 2


def _overlapping(whole: bytes) -> list[Piece]:
    """The second piece writes the ports of the first one anew. Twice: where pieces overlap the kernel forgets those
    before and keeps what comes after."""
    innocent = bytes(8) + whole[8:16]
    return [(0, innocent, True), (0, whole[:8], True), (16, whole[16:], False)] * 2


def _overlapping_tail(whole: bytes) -> list[Piece]:
    return [(0, whole[:24], True), (16, whole[16:], False)]


def _beyond(whole: bytes) -> list[Piece]:
    return [(0, whole[:16], True), (65528, whole, False)]


_CUTS: tuple[tuple[str, Callable[[bytes], list[Piece]], str], ...] = (
    ("tiny", _tiny, ""),
    ("crumbs", _crumbs, ""),
    ("backwards", _backwards, ""),
    ("twice", _twice, ""),
    ("atomic", _atomic, ""),
    ("headless", _headless, _INCOMPLETE),
    ("headless-repeated", _headless_repeated, ""),
    ("overlapping", _overlapping, ""),
    ("overlapping-tail", _overlapping_tail, _OVERLAPPING),
    ("beyond", _beyond, _BEYOND),
)

_TARGETS: tuple[tuple[str, Callable[[int], Choose], Place, frozenset[Layer]], ...] = (
    ("neighbour", victims, "victim", layers("FWD")),
    ("node", uplinks, "node", layers("PRE", "IN")),
    ("metadata", lambda family: fixed(METADATA[family]), "internet", layers("FWD")),
)


def _cut_up(source: str, target: str, protocol: str, token: bytes, cut: Callable[[bytes], list[Piece]]) -> list[bytes]:
    """A packet as the pieces that it is cut into."""
    s = scapy()
    # The node sends a packet on in pieces as long as the longest one: the token must be in one of them as a whole.
    whole = bytes(packet(source, target, protocol, bytes(24) + token + bytes(48), dport=9050))
    number = int(token[1:9], 16)
    if ":" not in source:
        return [
            bytes(
                ip(source, target, proto=_NUMBERS[protocol], id=number & 0xFFFF, flags=int(more), frag=offset // 8)
                / data
            )
            for offset, data, more in cut(whole[20:])
        ]
    following = 58 if protocol == "icmp" else _NUMBERS[protocol]
    return [
        bytes(
            ip(source, target, proto=44)
            / s.IPv6ExtHdrFragment(nh=following, id=number, offset=offset // 8, m=int(more))
            / s.Raw(data)
        )
        for offset, data, more in cut(whole[40:])
    ]


def _in_pieces() -> Iterator[Probe]:
    for family, (name, cut, reason) in product(FAMILIES, _CUTS):
        if family == 4 and name == "atomic":
            continue  # that is no fragment in IPv4
        for protocol, (place, target, where, there) in product(PROTOCOLS, _TARGETS):
            # Of ICMPv6 the pins let no pieces pass: neighbour discovery must not come in any (RFC 6980).
            unvouched = layers("PIN", "RAW") if family == 6 and protocol == "icmp" else layers()
            invalid = name in ("headless-repeated", "overlapping") and place != "node"
            kernel = reason or _stopped_by_kernel(name, family, protocol, place)
            yield volley(
                f"B02-{name}-{protocol}-{place}-v{family}",
                f"IPv{family} {protocol} to the {place} in pieces: {name}",
                there | unvouched | (layers("PRE") if invalid else layers()),
                by_gateway(_cut_between(attackers(family), target(family), protocol, cut)),
                where,
                family=family,
                kernel=kernel,
                gentle=not kernel,
            )


def _cut_between(source: Choose, target: Choose, protocol: str, cut: Callable[[bytes], list[Piece]]) -> Body:
    return lambda w, token: _cut_up(source(w), target(w), protocol, token, cut)


def _stopped_by_kernel(name: str, family: int, protocol: str, place: str) -> str:
    if family == 6 and protocol == "tcp" and name != "atomic":
        return _TRUNCATED
    if name == "headless-repeated" and (family == 4 or place == "node"):
        return _INCOMPLETE
    if name == "overlapping" and family == 6 and protocol == "icmp" and place == "node":
        return "the kernel drops ICMPv6 whose checksum is not that of what was reassembled"
    return ""


def _borrowed() -> Iterator[Probe]:
    """Pieces with somebody else's source: to be joined with pieces of that host's own."""
    for family, (name, cut) in product(FAMILIES, (("tiny", _tiny), ("crumbs", _crumbs))):
        yield volley(
            f"B02-{name}-spoofed-v{family}",
            f"IPv{family} to the Internet in pieces with the victim's source: {name}",
            layers("PIN", "RAW") if family == 4 else layers("PIN"),
            by_gateway(_cut_between(victims(family), fixed(PUBLIC[family]), "udp", cut)),
            "internet",
            family=family,
            gentle=True,
        )


PROBES: tuple[Probe, ...] = (*_in_pieces(), *_borrowed())
