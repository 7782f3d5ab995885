"""Packets with an unfinished checksum, and what becomes of each: for the filter wherever it is run."""

import struct
from typing import NamedTuple

TCP, UDP, ICMP, FRAGMENT = 6, 17, 1, 44
FINISHED = (0, 1, 2)
"""CHECKSUM_NONE, _UNNECESSARY, _COMPLETE (linux/skbuff.h); 3 is the one that is unfinished."""


class Case(NamedTuple):
    """`begins` counts from the network header on, `goes` from there. `segment`: of what size a frame is
    merged, 0: it is not."""

    name: str
    packet: bytes
    begins: int
    goes: int
    passes: bool
    summed: int = 3
    segment: int = 0


def ipv4(protocol: int, *, options: int = 0, fragment: int = 0, version: int = 4) -> bytes:
    first = version << 4 | 5 + options
    header = struct.pack("!BBHHHBBH", first, 0, 100, 1, fragment, 64, protocol, 0)
    return header + bytes(8 + 4 * options + 40)


def ipv6(protocol: int) -> bytes:
    return struct.pack("!IHBB", 6 << 28, 40, protocol, 64) + bytes(32 + 40)


LONG = ipv4(TCP) + bytes(400)

PASSING = [
    Case("tcp4", ipv4(TCP), 20, 16, True),
    Case("udp4", ipv4(UDP), 20, 6, True),
    Case("options", ipv4(UDP, options=2), 28, 6, True),
    Case("tcp6", ipv6(TCP), 40, 16, True),
    Case("udp6", ipv6(UDP), 40, 6, True),
    Case("directly behind UDP", ipv4(UDP), 28, 0, True),
    Case("a tunnel's", ipv6(UDP), 100, 16, True),
    Case("not to be cut", ipv4(UDP, fragment=0x4000), 20, 6, True),
    Case("merged", ipv4(TCP), 20, 16, True, segment=1448),
    Case("merged of 241 small ones", LONG, 20, 16, True, segment=2),
    *(Case(f"finished: {summed}", ipv4(ICMP), 0, 0, True, summed) for summed in FINISHED),
]

ENDING = [
    Case("into an option", ipv4(UDP, options=2), 20, 6, False),
    Case("UDP's in TCP", ipv4(TCP), 20, 6, False),
    Case("TCP's in UDP", ipv4(UDP), 20, 16, False),
    Case("into UDP's header", ipv4(UDP), 27, 6, False),
    Case("behind TCP's", ipv4(TCP), 60, 6, False),
    Case("as far as TCP's, from its options on", ipv4(TCP), 40, 16, False),
    Case("as far as TCP's, from the IPv4 address on", ipv4(TCP), 6, 16, False),
    Case("as far as TCP's, from the IPv4 sender on", ipv4(TCP), 12, 16, False),
    Case("as far as TCP's, from the IPv6 header on", ipv6(TCP), 8, 16, False),
    Case("as far as TCP's, from the IPv6 address on", ipv6(TCP), 24, 16, False),
    Case("from the frame on", ipv4(UDP), -8, 6, False),
    Case("ICMP's", ipv4(ICMP), 20, 2, False),
    Case("UDP's in ICMP", ipv4(ICMP), 20, 6, False),
    Case("a tunnel's in ICMP", ipv4(ICMP), 28, 6, False),
    Case("a first piece", ipv4(UDP, fragment=0x2000), 20, 6, False),
    Case("a later piece", ipv4(UDP, fragment=0x0001), 20, 6, False),
    Case("a far piece", ipv4(TCP, fragment=0x0100), 20, 16, False),
    Case("a piece of IPv6", ipv6(FRAGMENT), 48, 6, False),
    Case("into an IPv6 address", ipv6(UDP), 32, 6, False),
    Case("merged of 482 small ones", LONG, 20, 16, False, segment=1),
    *(Case(f"merged and finished: {summed}", ipv4(TCP), 20, 16, False, summed, 1448) for summed in FINISHED),
    Case("ARP", bytes.fromhex("0001080006040001") + bytes(20), 6, 8, False),
    Case("of no version of IP", ipv4(UDP, version=5), 20, 6, False),
    Case("a packet cut short", ipv4(UDP)[:12], 6, 2, False),
]

CASES = [*PASSING, *ENDING]
