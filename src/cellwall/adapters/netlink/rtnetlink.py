"""rtnetlink's messages: links, addresses, routes, neighbours (linux/rtnetlink.h, if_link.h, if_addr.h, neighbour.h).

Owns: how each request is laid out, with one builder per kind of object, and how a link reads back. Decides nothing:
flags and states are the caller's.
"""

import errno
import fcntl
import struct
import sys
from _socket import AF_INET, AF_INET6
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Any

import msgspec

from cellwall.adapters.netlink.nlattr import (
    attribute,
    attribute_text,
    attribute_u8,
    attribute_u32,
    attributes,
    nested,
    text_of,
    u32_of,
)
from cellwall.adapters.netlink.sockets import Message, Netlink, Reply
from cellwall.engine.contracts import ObservedLink
from cellwall.errors import KernelError
from cellwall.model.addresses import Address

AF_BRIDGE = 7
_SIOCGIFNAME, _SIOCGIFFLAGS, _SIOCGIFINDEX = 0x8910, 0x8913, 0x8933  # linux/sockios.h
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_GETROUTE = 24, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
_RTM_GETRULE, RTM_NEWNSID = 34, 88

IFF_UP, _IFF_RUNNING, IFF_NOARP = 0x1, 0x40, 0x80
OPER_UP, LINK_MODE_DEFAULT, _LINK_MODE_DORMANT = 6, 0, 1
"""Of RFC 2863, as linux/if.h numbers them: IF_OPER_*, IF_LINK_MODE_*."""
_UP, _DORMANT = OPER_UP.to_bytes(1), _LINK_MODE_DORMANT.to_bytes(1)
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_PROTINFO, IFLA_LINKINFO = 1, 3, 4, 10, 12, 18
IFLA_IFALIAS, IFLA_AF_SPEC, IFLA_GROUP, IFLA_NET_NS_FD, IFLA_EXT_MASK = 20, 26, 27, 28, 29
IFLA_LINK, IFLA_OPERSTATE, IFLA_LINKMODE, IFLA_LINK_NETNSID, IFLA_TARGET_NETNSID = 5, 16, 17, 37, 46
IFLA_NUM_TX_QUEUES, IFLA_NUM_RX_QUEUES = 31, 32
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFLA_BRPORT_STATE, PORT_DISABLED, PORT_FORWARDING = 1, 0, 3
IFA_F_NODAD, IFA_F_NOPREFIXROUTE = 0x02, 0x200
_IFA_F_PERMANENT = 0x80
NUD_NOARP, NUD_PERMANENT = 0x40, 0x80
NTF_MASTER, NTF_STICKY = 0x04, 0x40
_NTF_SELF = 0x02
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, RT_TABLE_MAIN, RTN_UNICAST = 0, 253, 254, 1
RTNH_F_ONLINK = 0x4

NETNSA_NSID, NETNSA_FD = 1, 3  # linux/net_namespace.h
_RTM_GETNEXTHOP = 106
RT_TABLE_COMPAT = 252  # what a route and a rule have in whose table has a number above 255
_RT_TABLE_DEFAULT, _RT_TABLE_LOCAL = 253, 255
RTN_LOCAL, _RTPROT_KERNEL, _RTPROT_STATIC = 2, 2, 4
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_NDA_DST, _NDA_LLADDR, _NDA_VLAN, _NDA_IFINDEX, _NDA_MASTER = 1, 2, 5, 8, 9
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_TABLE, _RTA_EXPIRES = 1, 4, 5, 15, 23
_FRA_TABLE, _FR_ACT_TO_TBL = 15, 1  # linux/fib_rules.h
_IFLA_INET6_ADDR_GEN_MODE, _ADDR_GEN_MODE_NONE = 8, 1
_NETLINK_ROUTE = 0

_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBI")
_RTM = struct.Struct("=BBBBBBBBI")
_RTM_F_FIB_MATCH = 0x2000
_RULE = struct.Struct("=BBBBBxxBI")
_NDM = struct.Struct("=B3xiHBB")

LINK_HEADER_SIZE = _IFINFO.size
ROUTE_HEADER_SIZE = _RTM.size

NO_GENERATED_ADDRESS = nested(
    IFLA_AF_SPEC, nested(AF_INET6, attribute_u8(_IFLA_INET6_ADDR_GEN_MODE, _ADDR_GEN_MODE_NONE))
)
"""No link-local address when the link comes up (RFC 4862 5.3 as `ip link set addrgenmode none` switches it off)."""

# Statistics are the larger half of a link's description and nobody here reads them.
_SKIP_STATISTICS = attribute_u32(IFLA_EXT_MASK, 1 << 3)


class ForwardingEntry(msgspec.Struct, frozen=True, gc=False):
    """What a bridge knows of a MAC: the port it is behind, and how it came to know."""

    index: int
    mac: int
    master: int
    state: int
    vlan: int
    sticky: bool


def open_route_socket() -> Netlink:
    """A NETLINK_ROUTE socket of the calling thread's namespace, dumps filtered by the kernel where it can."""
    return Netlink(_NETLINK_ROUTE, strict=True)


def index_of(route: Netlink, name: str) -> int:
    """The index of the link of that name in the socket's namespace, 0 where there is none. An ioctl, which any socket
    takes: to read the link costs twenty times as much."""
    try:
        answer = fcntl.ioctl(route.fileno(), _SIOCGIFINDEX, struct.pack("16s24x", name.encode()))
    except OSError as error:
        if error.errno == errno.ENODEV:
            return 0
        raise KernelError(error.errno or errno.EIO, f"look for {name}") from error
    return int(struct.unpack_from("=i", answer, 16)[0])


def name_of(route: Netlink, index: int) -> str:
    """The name of the link of that index in the socket's namespace, "" where there is none. An ioctl as well."""
    try:
        answer = fcntl.ioctl(route.fileno(), _SIOCGIFNAME, struct.pack("=16xi20x", index))
    except OSError as error:
        if error.errno == errno.ENODEV:
            return ""
        raise KernelError(error.errno or errno.EIO, f"look for link {index}") from error
    return answer[:16].rstrip(b"\0").decode()


def is_running(route: Netlink, name: str) -> bool:
    """Whether the link of that name is operationally up, which settles nothing. An ioctl as well."""
    try:
        answer = fcntl.ioctl(route.fileno(), _SIOCGIFFLAGS, struct.pack("16s24x", name.encode()))
    except OSError as error:
        if error.errno == errno.ENODEV:
            return False
        raise KernelError(error.errno or errno.EIO, f"look at {name}") from error
    return bool(struct.unpack_from("=h", answer, 16)[0] & _IFF_RUNNING)


def link_header(index: int = 0, *, family: int = 0, flags: int = 0, change: int = 0) -> bytes:
    """struct ifinfomsg; `change`: which of the flags are meant."""
    return _IFINFO.pack(family, 0, index, flags, change)


def link_message(
    kind: int, header: bytes, *parts: bytes, flags: int = 0, what: str = "", tolerate: tuple[int, ...] = ()
) -> Message:
    """A request about links: its header, then attributes."""
    return Message(kind, flags, header + b"".join(parts), what, tolerate)


def link_kind(kind: str, *data: bytes) -> bytes:
    """IFLA_LINKINFO with the kind's own settings."""
    return nested(IFLA_LINKINFO, attribute_text(IFLA_INFO_KIND, kind), nested(IFLA_INFO_DATA, *data))


def get_link(name: str) -> Message:
    """Read a link by its name, without its statistics."""
    body = link_header() + attribute_text(IFLA_IFNAME, name) + _SKIP_STATISTICS
    return Message(RTM_GETLINK, 0, body, f"read link {name}")


def get_link_at(index: int, *, netnsid: int | None = None, tolerate: tuple[int, ...] = ()) -> Message:
    """Read a link by its index, in another namespace where the id that this one has for it is given."""
    body = link_header(index) + _SKIP_STATISTICS
    if netnsid is not None:
        body += attribute_u32(IFLA_TARGET_NETNSID, netnsid)
    return Message(RTM_GETLINK, 0, body, f"read link {index}", tolerate)


def get_links() -> Message:
    """Of a dump: all links, without their statistics."""
    return Message(RTM_GETLINK, 0, link_header() + _SKIP_STATISTICS, "links")


def address_message(
    kind: int, index: int, address: Address, prefixlen: int, *, flags: int = 0, ifa_flags: int = 0, what: str = ""
) -> Message:
    """Add or delete an address. IPv4 gets its subnet's broadcast address as `ip addr add … brd +` gives it."""
    packed = address.packed
    family = AF_INET if len(packed) == 4 else AF_INET6
    body = _IFADDR.pack(family, prefixlen, ifa_flags & 0xFF, RT_SCOPE_UNIVERSE, index)
    body += attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)
    if family == AF_INET and prefixlen < 31:
        broadcast = int(address) | (1 << (32 - prefixlen)) - 1
        body += attribute(_IFA_BROADCAST, broadcast.to_bytes(4, "big"))
    body += attribute_u32(_IFA_FLAGS, ifa_flags)
    return Message(kind, flags, body, what)


def route_message(
    index: int, target: Address | None, gateway: Address | None, *, family: int, flags: int, what: str = ""
) -> Message:
    """A route in the main table to one address, or (target None) to everything. With a gateway it is on-link:
    taken as reachable through `index` without a route that says so."""
    length = 0 if target is None else target.max_prefixlen
    scope = RT_SCOPE_LINK if gateway is None and family == AF_INET else RT_SCOPE_UNIVERSE
    rtm_flags = 0 if gateway is None else RTNH_F_ONLINK
    body = _RTM.pack(family, length, 0, 0, RT_TABLE_MAIN, _RTPROT_STATIC, scope, RTN_UNICAST, rtm_flags)
    if target is not None:
        body += attribute(_RTA_DST, target.packed)
    if gateway is not None:
        body += attribute(_RTA_GATEWAY, gateway.packed)
    return Message(RTM_NEWROUTE, flags, body + attribute_u32(_RTA_OIF, index), what)


def local_route(index: int, address: IPv6Address, seconds: int, *, flags: int, what: str = "") -> Message:
    """A route in the local table, by which what is sent to an address of a link arrives; it ends after so many seconds.
    The link must be up."""
    body = _RTM.pack(AF_INET6, 128, 0, 0, _RT_TABLE_LOCAL, _RTPROT_KERNEL, RT_SCOPE_UNIVERSE, RTN_LOCAL, 0)
    body += attribute(_RTA_DST, address.packed) + attribute_u32(_RTA_OIF, index) + attribute_u32(_RTA_EXPIRES, seconds)
    return Message(RTM_NEWROUTE, flags, body, what)


def neighbour_message(
    kind: int,
    index: int,
    address: Address,
    mac: int | None,
    *,
    flags: int = 0,
    what: str = "",
    tolerate: tuple[int, ...] = (),
) -> Message:
    """Add (permanent) or, with mac None, delete an ARP or ND entry."""
    packed = address.packed
    family = AF_INET if len(packed) == 4 else AF_INET6
    body = _NDM.pack(family, index, NUD_PERMANENT if mac is not None else 0, 0, 0) + attribute(_NDA_DST, packed)
    if mac is not None:
        body += attribute(_NDA_LLADDR, mac.to_bytes(6, "big"))
    return Message(kind, flags, body, what, tolerate)


def forwarding_entry(
    kind: int, index: int, mac: int, *, flags: int = 0, what: str = "", tolerate: tuple[int, ...] = ()
) -> Message:
    """A static entry of the bridge that `index` is a port of. Without NTF_MASTER it would go into the port's own
    address list; without NTF_STICKY another port that learns would take the entry over, static or not
    (net/bridge/br_fdb.c, br_fdb_update)."""
    body = _NDM.pack(AF_BRIDGE, index, NUD_NOARP, NTF_MASTER | NTF_STICKY, 0)
    return Message(kind, flags, body + attribute(_NDA_LLADDR, mac.to_bytes(6, "big")), what, tolerate)


def get_bridge_ports() -> Message:
    """A dump of all bridge ports, each with its flags in IFLA_PROTINFO."""
    return Message(RTM_GETLINK, 0, link_header(family=AF_BRIDGE) + _SKIP_STATISTICS, "bridge ports")


def get_forwarding(bridge_index: int, port_index: int = 0) -> Message:
    """A dump of a bridge's forwarding entries, of one port where the kernel filters; none where it is gone."""
    body = _NDM.pack(AF_BRIDGE, port_index, 0, 0, 0) + attribute_u32(_NDA_MASTER, bridge_index)
    return Message(RTM_GETNEIGH, 0, body, "forwarding entries", (errno.ENODEV,))


def read_forwarding(reply: Reply) -> ForwardingEntry:
    """An entry as RTM_GETNEIGH tells it; `master` 0 for one that is a device's own and not its bridge's."""
    _, index, state, flags, _ = _NDM.unpack_from(reply.body)
    found = attributes(reply.body, _NDM.size)
    vlan = int.from_bytes(found.get(_NDA_VLAN, b""), sys.byteorder)
    master = 0 if flags & _NTF_SELF else _number(found, _NDA_MASTER)
    mac = int.from_bytes(found.get(_NDA_LLADDR, b""), "big")
    return ForwardingEntry(index, mac, master, state, vlan, bool(flags & NTF_STICKY))


def get_neighbours(index: int, family: int) -> Message:
    """A dump of one family's neighbours, of one interface where the kernel filters."""
    return Message(RTM_GETNEIGH, 0, _NDM.pack(family, 0, 0, 0, 0) + attribute_u32(_NDA_IFINDEX, index), "neighbours")


def read_neighbour(reply: Reply) -> tuple[int, bytes, int, int]:
    """(interface index, packed address, MAC or 0, state)."""
    _, index, state, _, _ = _NDM.unpack_from(reply.body)
    found = attributes(reply.body, _NDM.size)
    return index, found.get(_NDA_DST, b""), int.from_bytes(found.get(_NDA_LLADDR, b""), "big"), state


def read_link(reply: Reply) -> ObservedLink:
    """A link as RTM_GETLINK tells it."""
    _, _, index, flags, _ = _IFINFO.unpack_from(reply.body)
    found = attributes(reply.body, _IFINFO.size)
    info = attributes(found.get(IFLA_LINKINFO, b""))
    mac = found.get(IFLA_ADDRESS, b"")
    return ObservedLink(
        index=index,
        name=text_of(found[IFLA_IFNAME]),
        kind=text_of(info.get(IFLA_INFO_KIND, b"")),
        master=_number(found, IFLA_MASTER),
        mtu=_number(found, IFLA_MTU),
        mac=int.from_bytes(mac, "big") if len(mac) == 6 else 0,
        up=bool(flags & IFF_UP),
        dormant=found.get(IFLA_LINKMODE) == _DORMANT and found.get(IFLA_OPERSTATE) != _UP,
        group=_number(found, IFLA_GROUP),
        alias=text_of(found.get(IFLA_IFALIAS, b"")),
    )


def link_index(reply: Reply) -> int:
    """The interface index of a link."""
    index: int = _IFINFO.unpack_from(reply.body)[2]
    return index


def link_settings(reply: Reply) -> dict[int, bytes]:
    """The settings of a link's own kind (IFLA_INFO_DATA)."""
    info = attributes(attributes(reply.body, _IFINFO.size).get(IFLA_LINKINFO, b""))
    return attributes(info.get(IFLA_INFO_DATA, b""))


def link_flags(reply: Reply) -> int:
    """IFF_* of a link."""
    flags: int = _IFINFO.unpack_from(reply.body)[3]
    return flags


def read_address(reply: Reply) -> tuple[int, Address, int]:
    """(interface index, address, prefix length) as RTM_GETADDR tells them."""
    family, prefixlen, _, _, index = _IFADDR.unpack_from(reply.body)
    found = attributes(reply.body, _IFADDR.size)
    # On point-to-point links IFA_ADDRESS is the other side's.
    raw = found.get(_IFA_LOCAL, found.get(_IFA_ADDRESS, b""))
    return index, (IPv4Address(raw) if family == AF_INET else IPv6Address(raw)), prefixlen


def permanent_networks(reply: Reply) -> list[tuple[int, bytes, int]]:
    """(interface index, first address, prefix length) of what the kernel routes for an IPv6 address without a lifetime
    although nobody announced it: its network and itself, or the other side's."""
    family, prefixlen, flags, _, index = _IFADDR.unpack_from(reply.body)
    if family != AF_INET6 or not flags & _IFA_F_PERMANENT:
        return []
    found = attributes(reply.body, _IFADDR.size)
    raws = [found[kind] for kind in (_IFA_ADDRESS, _IFA_LOCAL) if kind in found]
    networks = [IPv6Network((raw, length), False) for raw in raws for length in (prefixlen, 128)]
    return [(index, network.network_address.packed, network.prefixlen) for network in networks]


def get_addresses(index: int = 0, family: int = 0) -> Message:
    """A dump of the addresses of both families, or of one, and of one interface where the kernel filters."""
    return Message(RTM_GETADDR, 0, _IFADDR.pack(family, 0, 0, 0, index), "addresses")


def get_routes(family: int = 0, table: int = RT_TABLE_MAIN) -> Message:
    """A dump of a table's routes, of all tables for 0, where the kernel filters; of both families unless one is
    named."""
    body = _RTM.pack(family, 0, 0, 0, 0, 0, 0, 0, 0) + attribute_u32(_RTA_TABLE, table)
    # ENOENT: a namespace in which nothing was ever routed has no main table yet.
    return Message(RTM_GETROUTE, 0, body, "routes", (errno.ENOENT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP))


def get_rules() -> Message:
    """A dump of the routing rules of both families; none where the kernel has but one table."""
    return Message(_RTM_GETRULE, 0, bytes(_RULE.size), "routing rules", (errno.EOPNOTSUPP,))


def led_tables(replies: Iterable[Reply]) -> frozenset[int]:
    """The tables in which the node looks for routes, by the rules; those left out that are the kernel's own (local) or
    asked only where no other has a route (default)."""
    tables = {RT_TABLE_MAIN}
    for reply in replies:
        family, _, _, _, table, action, _ = _RULE.unpack_from(reply.body)
        if family in (AF_INET, AF_INET6) and action == _FR_ACT_TO_TBL:
            short = table not in (0, RT_TABLE_COMPAT)  # else its number is above 255
            tables.add(table if short else _number(attributes(reply.body, _RULE.size), _FRA_TABLE))
    return frozenset(tables - {0, _RT_TABLE_LOCAL, _RT_TABLE_DEFAULT})


def get_next_hops() -> Message:
    """A dump of all next-hop objects (linux/nexthop.h)."""
    return Message(_RTM_GETNEXTHOP, 0, bytes(8), "next hops", (errno.EOPNOTSUPP,))


def match_route(address: Address) -> Message:
    """The entry of the tables by which packets to this address would go; no answer where there is none."""
    family = AF_INET if address.version == 4 else AF_INET6
    header = _RTM.pack(family, address.max_prefixlen, 0, 0, 0, 0, 0, 0, _RTM_F_FIB_MATCH)
    body = header + attribute(_RTA_DST, address.packed)
    return Message(RTM_GETROUTE, 0, body, "route", (errno.ENETUNREACH, errno.EHOSTUNREACH))


def route_header(body: bytes) -> tuple[Any, ...]:
    """family, dst_len, src_len, tos, table, protocol, scope, type, flags."""
    return _RTM.unpack_from(body)


def _number(found: dict[int, bytes], kind: int) -> int:
    value = found.get(kind)
    return 0 if value is None else u32_of(value)
