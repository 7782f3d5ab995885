"""What a logged packet is, as far as its first bytes tell.

A sandbox wrote them, so they are believed for nothing but this: what they claim is what is said. Whatever they are, the
answer is a value, and its size is bounded; what is cut off or makes no sense is left out. Pure.
"""

from ipaddress import IPv4Address, IPv6Address
from struct import unpack_from

import msgspec

IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
"""Ethertypes."""

_FRAGMENT, _AUTHENTICATION = 44, 51
_OPTIONS = frozenset({0, 43, 60, 135, 139, 140})
"""Extension headers of IPv6 that say their length in units of 8 octets (RFC 6564)."""

_MOST_HEADERS = 8
_WITH_PORTS = frozenset({6, 17, 33, 132, 136})
_NAMES = {
    1: "icmp",
    6: "tcp",
    17: "udp",
    58: "icmpv6",
    132: "sctp",
    47: "gre",
    50: "esp",
    51: "ah",
    2: "igmp",
    4: "ipip",
}


class Packet(msgspec.Struct, frozen=True):
    """What a packet says of itself. `protocol`: a name, or the number as text; of what is neither IP nor ARP the
    ethertype (`0x88cc`). `source` and `destination` of ARP are what sender and target claim to be. `ports` and `icmp`
    (type, code) are None where it has none or they lie in another fragment. `fragment`: it is one. `syn`: TCP that asks
    for a connection."""

    version: int = 0
    protocol: str = ""
    source: str = ""
    destination: str = ""
    ports: tuple[int, int] | None = None
    icmp: tuple[int, int] | None = None
    fragment: bool = False
    syn: bool = False


def decode(ethertype: int, octets: bytes) -> Packet:
    """Read a packet from its network header on. Never fails: what is too short is described as far as it goes."""
    if ethertype == IPV4:
        return _ipv4(octets)
    if ethertype == IPV6:
        return _ipv6(octets)
    if ethertype == ARP:
        return _arp(octets)
    return Packet(protocol=f"{ethertype & 0xFFFF:#06x}")


def _ipv4(octets: bytes) -> Packet:
    if len(octets) < 20 or octets[0] >> 4 != 4:
        return Packet(4, "ipv4")
    source, destination = str(IPv4Address(octets[12:16])), str(IPv4Address(octets[16:20]))
    where = unpack_from("!H", octets, 6)[0]
    header = (octets[0] & 15) * 4
    if header < 20:
        return Packet(4, _named(octets[9]), source, destination)
    first = not where & 0x1FFF
    return _transport(
        4, octets[9], source, destination, octets[header:] if first else b"", fragment=bool(where & 0x3FFF)
    )


def _ipv6(octets: bytes) -> Packet:
    if len(octets) < 40 or octets[0] >> 4 != 6:
        return Packet(6, "ipv6")
    source, destination = str(IPv6Address(octets[8:24])), str(IPv6Address(octets[24:40]))
    protocol, place, fragment = octets[6], 40, False
    for _ in range(_MOST_HEADERS):
        if protocol in _OPTIONS and len(octets) >= place + 2:
            protocol, place = octets[place], place + 8 * (octets[place + 1] + 1)
        elif protocol == _AUTHENTICATION and len(octets) >= place + 2:
            protocol, place = octets[place], place + 4 * (octets[place + 1] + 2)
        elif protocol == _FRAGMENT and len(octets) >= place + 4:
            fragment = True
            later = unpack_from("!H", octets, place + 2)[0] & 0xFFF8
            protocol, place = octets[place], place + 8
            if later:
                return Packet(6, _named(protocol), source, destination, fragment=True)
        else:
            break
    return _transport(6, protocol, source, destination, octets[place:], fragment=fragment)


def _transport(version: int, number: int, source: str, destination: str, rest: bytes, *, fragment: bool) -> Packet:
    protocol = _named(number)
    if number in _WITH_PORTS and len(rest) >= 4:
        first, second = unpack_from("!HH", rest)
        syn = number == 6 and len(rest) >= 14 and rest[13] & 0x12 == 0x02
        return Packet(version, protocol, source, destination, (first, second), None, fragment, syn)
    if number == (1 if version == 4 else 58) and len(rest) >= 2:
        return Packet(version, protocol, source, destination, None, (rest[0], rest[1]), fragment)
    return Packet(version, protocol, source, destination, fragment=fragment)


def _arp(octets: bytes) -> Packet:
    """Ethernet and IPv4 only (RFC 826): whatever else claims lengths of its own."""
    if len(octets) < 28 or octets[:6] != b"\x00\x01\x08\x00\x06\x04":
        return Packet(protocol="arp")
    return Packet(0, "arp", str(IPv4Address(octets[14:18])), str(IPv4Address(octets[24:28])))


def _named(number: int) -> str:
    return _NAMES.get(number) or str(number)
