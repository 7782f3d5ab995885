"""Packets as octets, from the network header on."""

from ipaddress import ip_address
from struct import pack

A4, B4, A6, B6 = "192.168.0.2", "151.101.1.69", "fd00:abcd::2", "2a04:4e42::1"


def ipv4(
    protocol: int, rest: bytes, *, where: int = 0, options: bytes = b"", source: str = A4, destination: str = B4
) -> bytes:
    """`where`: flags and place of a fragment."""
    words = 5 + len(options) // 4
    head = pack("!BBHHHBBH", 0x40 | words, 0, words * 4 + len(rest), 7, where, 64, protocol, 0)
    return head + ip_address(source).packed + ip_address(destination).packed + options + rest


def ipv6(next_header: int, rest: bytes, *, source: str = A6, destination: str = B6) -> bytes:
    """Whatever the header that follows is."""
    head = pack("!IHBB", 6 << 28, len(rest), next_header, 64)
    return head + ip_address(source).packed + ip_address(destination).packed + rest
