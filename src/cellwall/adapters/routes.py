"""What an rtnetlink route dump says, as far as a node's facts need it.

Owns: the reading of one route into its next hops, single, multipath or from a next-hop object (the kernel spells
those out as well, net.ipv4.nexthop_compat_mode), and which default route is the one.
"""

import struct
from _socket import AF_INET
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network

import msgspec

from cellwall.adapters.netlink import Reply, attributes, u32_of
from cellwall.adapters.rtnetlink import ROUTE_HEADER_SIZE, RT_TABLE_MAIN, RTN_UNICAST, route_header
from cellwall.model.addresses import Prefix

_DST, _OIF, _GATEWAY, _PRIORITY, _MULTIPATH, _TABLE, _VIA = 1, 4, 5, 6, 9, 15, 18
_DEAD = 0x1  # RTNH_F_DEAD
_NEXTHOP = struct.Struct("=HBBi")


class Hop(msgspec.Struct, frozen=True):
    """Where a route leads: out of an interface, through a gateway or straight to the destination."""

    index: int
    gateway: bool


class Route(msgspec.Struct, frozen=True):
    """A usable unicast route of the main table."""

    family: int
    destination: bytes
    prefixlen: int
    metric: int
    hops: tuple[Hop, ...]

    @property
    def prefix(self) -> Prefix:
        if self.family == AF_INET:
            return IPv4Network((self.destination.ljust(4, b"\0"), self.prefixlen))
        return IPv6Network((self.destination.ljust(16, b"\0"), self.prefixlen))


def read_routes(replies: Iterable[Reply], family: int) -> Iterator[Route]:
    """The unicast routes of the main table that are alive."""
    for reply in replies:
        # A kernel that does not filter the dump gives every table; one without the family gives the other's.
        of_family, length, _, _, table, _, _, kind, flags = route_header(reply.body)
        found = attributes(reply.body, ROUTE_HEADER_SIZE)
        table = u32_of(found[_TABLE]) if _TABLE in found else table
        if of_family != family or table != RT_TABLE_MAIN or kind != RTN_UNICAST or flags & _DEAD:
            continue
        metric = u32_of(found[_PRIORITY]) if _PRIORITY in found else 0
        yield Route(family, found.get(_DST, b""), length, metric, tuple(_hops(found)))


def default_interface(routes: Iterable[Route]) -> int:
    """The interface index of the default route with the lowest metric, the first one among equals; 0: none."""
    defaults = [route for route in routes if route.prefixlen == 0 and route.hops]
    return min(defaults, key=lambda route: route.metric).hops[0].index if defaults else 0


def on_link(routes: Iterable[Route]) -> Iterator[tuple[int, Route]]:
    """(interface index, route) of what the node reaches without a gateway; default routes are no prefix of its own,
    link-local and multicast destinations are the same on every node."""
    for route in routes:
        if route.prefixlen and not _everywhere(route.destination, route.family):
            yield from ((hop.index, route) for hop in route.hops if not hop.gateway)


def _everywhere(destination: bytes, family: int) -> bool:
    if family == AF_INET:
        return destination[:1] >= b"\xe0"
    return destination[:1] == b"\xff" or b"\xfe\x80" <= destination[:2] <= b"\xfe\xbf"


def _hops(found: dict[int, bytes]) -> Iterator[Hop]:
    if _OIF in found:
        yield Hop(u32_of(found[_OIF]), _GATEWAY in found or _VIA in found)
    body = found.get(_MULTIPATH, b"")
    offset = 0
    while offset + _NEXTHOP.size <= len(body):
        length, flags, _, index = _NEXTHOP.unpack_from(body, offset)
        if length < _NEXTHOP.size:
            return
        inner = attributes(body[offset : offset + length], _NEXTHOP.size)
        if not flags & _DEAD:
            yield Hop(index, _GATEWAY in inner or _VIA in inner)
        offset += (length + 3) & ~3
