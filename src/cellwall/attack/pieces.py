"""Datagrams in two parts, without scapy: of some a flood sends thousands."""

import socket
import struct
from collections.abc import Iterator

BODY = 1400
"""Bytes of a first part behind its IP headers: 8 divides it."""
_UDP = 17


def first_parts(source: str, target: str, numbers: range) -> Iterator[bytes]:
    """The first part of each datagram, as an IP packet; its rest is `last_parts`."""
    return (_part(source, target, number, 0, b"z" * BODY) for number in numbers)


def last_parts(source: str, target: str, numbers: range) -> Iterator[bytes]:
    """The rest of each datagram."""
    return (_part(source, target, number, BODY, b"z" * 8) for number in numbers)


def _part(source: str, target: str, number: int, offset: int, body: bytes) -> bytes:
    more = offset == 0
    if ":" in source:
        ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target)
        fragment = struct.pack("!BBHI", _UDP, 0, offset | more, number)
        return struct.pack("!IHBB", 6 << 28, len(fragment) + len(body), 44, 64) + ends + fragment + body
    ends = socket.inet_aton(source) + socket.inet_aton(target)
    place = 0x2000 * more | offset // 8
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), number, place, 64, _UDP, 0) + ends
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    return header[:10] + struct.pack("!H", ~total & 0xFFFF) + header[12:] + body
