"""What an rtnetlink route dump says, as far as a node's facts need it.

Owns: the reading of one route into its next hops, single, multipath or from a next-hop object (the kernel spells
those out as well, unless net.ipv4.nexthop_compat_mode is off: then they are looked up), which default route is the one,
and which networks a router announced. What lies behind the routers of its networks is
`cellwall.adapters.node.routed`'s.
"""

import struct
from _socket import AF_INET, AF_INET6
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network

import msgspec

from cellwall.adapters.netlink.nlattr import attribute_u32, attributes, u32_of
from cellwall.adapters.netlink.rtnetlink import ROUTE_HEADER_SIZE, RT_TABLE_MAIN, RTN_UNICAST, route_header
from cellwall.adapters.netlink.sockets import Reply
from cellwall.model.addresses import Prefix
from cellwall.model.announced import Network, cover

_DST, _OIF, _GATEWAY, _PRIORITY, _MULTIPATH, _TABLE, _VIA = 1, 4, 5, 6, 9, 15, 18
_NH_ID = 30
_LED_BY_OBJECT = attribute_u32(_NH_ID, 0)[:4]
_DEAD = 0x1  # RTNH_F_DEAD
_BY_REDIRECT, _BY_KERNEL, _BY_ROUTER = 1, 2, 9  # RTPROT_REDIRECT, RTPROT_KERNEL, RTPROT_RA
_NEXTHOP = struct.Struct("=HBBi")
# linux/nexthop.h: struct nhmsg, struct nexthop_grp, NHA_*
_OBJECT_HEADER_SIZE = 8
_MEMBER = struct.Struct("=I4x")
_ID, _GROUP, _OBJECT_OIF, _OBJECT_GATEWAY = 1, 2, 5, 6


class Hop(msgspec.Struct, frozen=True):
    """Where a route leads: out of an interface, through a gateway (its address, of either family, as bytes) or, where
    that is empty, straight to the destination."""

    index: int
    gateway: bytes = b""


class Route(msgspec.Struct, frozen=True):
    """A usable unicast route. `spare`: of another table than the main one."""

    family: int
    destination: bytes
    prefixlen: int
    metric: int
    hops: tuple[Hop, ...]
    protocol: int = 0
    spare: bool = False

    @property
    def shares(self) -> bool:
        """It is a default route, or a share of one, as programs of VPNs split it: its destination is not a network."""
        return self.prefixlen < SHORTEST[self.family]

    @property
    def announced(self) -> bool:
        """A router made it; for `on_link` the kernel may have, too."""
        return self.family == AF_INET6 and self.protocol in (_BY_REDIRECT, _BY_ROUTER)

    @property
    def denied_anyway(self) -> bool:
        """Every floor has the destination whole."""
        from cellwall.model.floor import always_denied  # here and not above: most nodes have no such route

        version, size = (4, 4) if self.family == AF_INET else (6, 16)
        return always_denied(version, int.from_bytes(self.destination.ljust(size, b"\0"), "big"), self.prefixlen)


SHORTEST = {AF_INET: 8, AF_INET6: 16}
"""How long the prefix of a network is at least that is told from a share of the Internet."""


def prefix_of(family: int, destination: bytes, prefixlen: int) -> Prefix:
    """A route's destination, of which the kernel leaves out zeros."""
    if family == AF_INET:
        return IPv4Network((destination.ljust(4, b"\0"), prefixlen))
    return IPv6Network((destination.ljust(16, b"\0"), prefixlen))


class Reached(msgspec.Struct, frozen=True, order=True):
    """A network, or a router alone, and the interface that leads there. `announced`: by a router, not made by the
    operator."""

    index: int
    family: int
    destination: bytes
    prefixlen: int
    announced: bool = False

    @property
    def prefix(self) -> Prefix:
        return prefix_of(self.family, self.destination, self.prefixlen)


class Routed(msgspec.Struct, frozen=True):
    """In order. `crowded`: to which more networks are announced than are told, `untold`: of whose nothing is told, by
    interface index."""

    routers: tuple[Reached, ...] = ()
    networks: tuple[Reached, ...] = ()
    crowded: tuple[int, ...] = ()
    untold: tuple[int, ...] = ()


NextHops = Mapping[int, Sequence[Hop]]
"""Where next-hop objects lead, by number."""
_NO_OBJECTS: NextHops = {}


def led_by_objects(replies: Iterable[Reply]) -> bool:
    """Whether one of these routes may name a next-hop object."""
    return any(_LED_BY_OBJECT in reply.body for reply in replies)


def read_next_hops(replies: Iterable[Reply]) -> NextHops:
    """Where each object leads, of a dump of all. None is dead: the kernel removes those whose link goes down."""
    hops: dict[int, Sequence[Hop]] = {}
    groups: dict[int, bytes] = {}
    for reply in replies:
        found = attributes(reply.body, _OBJECT_HEADER_SIZE)
        number = u32_of(found[_ID])
        if _GROUP in found:
            groups[number] = found[_GROUP]
        elif _OBJECT_OIF in found:  # else it leads nowhere
            hops[number] = (Hop(u32_of(found[_OBJECT_OIF]), found.get(_OBJECT_GATEWAY, b"")),)
    for number, members in groups.items():
        hops[number] = [hop for (member,) in _MEMBER.iter_unpack(members) for hop in hops.get(member, ())]
    return hops


def read_routes(
    replies: Iterable[Reply],
    families: Container[int],
    objects: NextHops = _NO_OBJECTS,
    tables: Container[int] = (RT_TABLE_MAIN,),
) -> Iterator[Route]:
    """The unicast routes of these tables that are alive."""
    for reply in replies:
        # A kernel that does not filter the dump gives every table; one without the family gives the other's.
        of_family, length, _, _, table, protocol, _, kind, flags = route_header(reply.body)
        found = attributes(reply.body, ROUTE_HEADER_SIZE)
        table = u32_of(found[_TABLE]) if _TABLE in found else table
        if of_family not in families or table not in tables or kind != RTN_UNICAST or flags & _DEAD:
            continue
        metric = u32_of(found[_PRIORITY]) if _PRIORITY in found else 0
        hops, spare = tuple(_hops(found, objects)), table != RT_TABLE_MAIN
        yield Route(of_family, found.get(_DST, b""), length, metric, hops, protocol, spare)


def route_interfaces(replies: Iterable[Reply], objects: NextHops = _NO_OBJECTS) -> Iterator[int]:
    """The interfaces that routes lead by, whatever table they are in and whether they are alive or not; those left out
    whose destinations are the same on every node."""
    for reply in replies:
        family = route_header(reply.body)[0]
        found = attributes(reply.body, ROUTE_HEADER_SIZE)
        if not everywhere(found.get(_DST, b""), family):
            yield from (hop.index for hop, _ in _each_hop(found, objects))


def default_interface(routes: Iterable[Route]) -> int:
    """The interface index of the main table's default route with the lowest metric, the first one among equals; 0:
    none. The routes are of one family."""
    defaults = [route for route in routes if route.prefixlen == 0 and route.hops and not route.spare]
    return min(defaults, key=lambda route: route.metric).hops[0].index if defaults else 0


def on_link(
    routes: Iterable[Route], permanent: Container[tuple[int, bytes, int]] = ()
) -> tuple[list[Reached], tuple[int, ...]]:
    """What the node reaches without a gateway, in order, and the interfaces to which routers announce so many networks
    that only what they lie in is told; default routes and shares of them are no prefix of its own, link-local and
    multicast destinations are the same on every node. What every floor denies whole (fc00::/7) is no share of the
    Internet: the main table's may overlap the sandboxes' own network.

    `permanent`: the networks of addresses without a lifetime (`rtnetlink.permanent_networks`).
    """
    made: list[Reached] = []
    announced: dict[int, set[Network]] = {}
    for route in routes:
        if not route.prefixlen or everywhere(route.destination, route.family):
            continue
        if route.shares and (route.spare or not route.denied_anyway):
            continue
        for hop in route.hops:
            if hop.gateway:
                continue
            if _announced(route, hop.index, permanent):
                announced.setdefault(hop.index, set()).add((route.destination, route.prefixlen))
            else:
                made.append(Reached(hop.index, route.family, route.destination, route.prefixlen))
    blocks, crowded = in_blocks(announced)
    return sorted(made + blocks), crowded


def in_blocks(announced: Mapping[int, Collection[Network]]) -> tuple[list[Reached], tuple[int, ...]]:
    """What is told of the networks that routers announced to each interface, and the interfaces to which they announced
    so many that only what they lie in is."""
    told: list[Reached] = []
    crowded = []
    for index, networks in announced.items():
        blocks, coarser = cover(networks)
        told += [Reached(index, AF_INET6, *block, announced=True) for block in blocks]
        if coarser:
            crowded.append(index)
    return told, tuple(crowded)


def routed(routes: Sequence[Route], near: Collection[Reached]) -> Routed:
    """What these routes of all tables say of routers. A router is a neighbour, whether or not a network holds it: a
    cloud gives its nodes one address, and a default route through another (`onlink`). `near`: the networks without a
    gateway, in which most are."""
    routers = tuple(sorted(_routers(routes, near)))
    led = [route for route in routes if not route.shares and not everywhere(route.destination, route.family)]
    led = [route for route in led if any(hop.gateway for hop in route.hops)]
    if not led:
        return Routed(routers)
    from cellwall.adapters.node.routed import networks_behind  # here and not above: most nodes have no such route

    return msgspec.structs.replace(networks_behind(led, routes), routers=routers)


def _announced(route: Route, index: int, permanent: Container[tuple[int, bytes, int]]) -> bool:
    """The kernel says of an announced prefix that it made the route itself, as it does of an address's; but no lasting
    address has that prefix then."""
    if route.family != AF_INET6:
        return False
    if route.protocol == _BY_KERNEL:
        return (index, route.destination, route.prefixlen) not in permanent
    return route.announced


def everywhere(destination: bytes, family: int) -> bool:
    """A multicast or link-local destination: on every node it means that node's own neighbours."""
    if family == AF_INET:
        return destination[:1] >= b"\xe0"
    return destination[:1] == b"\xff" or b"\xfe\x80" <= destination[:2] <= b"\xfe\xbf"


def _hops(found: dict[int, bytes], objects: NextHops) -> Iterator[Hop]:
    return (hop for hop, alive in _each_hop(found, objects) if alive)


def _each_hop(found: dict[int, bytes], objects: NextHops) -> Iterator[tuple[Hop, bool]]:
    """Each with whether it is alive."""
    if _OIF in found:
        yield Hop(u32_of(found[_OIF]), _gateway(found)), True
    elif _MULTIPATH not in found and _NH_ID in found:
        yield from ((hop, True) for hop in objects.get(u32_of(found[_NH_ID]), ()))
    body = found.get(_MULTIPATH, b"")
    offset = 0
    while offset + _NEXTHOP.size <= len(body):
        length, flags, _, index = _NEXTHOP.unpack_from(body, offset)
        if length < _NEXTHOP.size:
            return
        inner = attributes(body[offset : offset + length], _NEXTHOP.size)
        yield Hop(index, _gateway(inner)), not flags & _DEAD
        offset += (length + 3) & ~3


def _gateway(found: dict[int, bytes]) -> bytes:
    """RTA_VIA is of another family than the route, which it begins with (linux/rtnetlink.h, struct rtvia)."""
    return found.get(_GATEWAY) or found.get(_VIA, b"")[2:]


def _routers(routes: Iterable[Route], near: Collection[Reached]) -> set[Reached]:
    """The next hops that no network holds. Numbers and not networks of `ipaddress`: every attach comes by."""
    found = set()
    for index, gateway in {(hop.index, hop.gateway) for route in routes for hop in route.hops if hop.gateway}:
        family = AF_INET6 if len(gateway) == 16 else AF_INET
        if not everywhere(gateway, family) and not any(_holds(row, family, gateway) for row in near):
            found.add(Reached(index, family, gateway, 8 * len(gateway)))
    return found


def _holds(network: Reached, family: int, address: bytes) -> bool:
    if network.family != family:
        return False
    rest, first = 8 * len(address) - network.prefixlen, network.destination.ljust(len(address), b"\0")
    return int.from_bytes(address, "big") >> rest == int.from_bytes(first, "big") >> rest
