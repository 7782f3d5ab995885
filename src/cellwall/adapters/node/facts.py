"""The node's facts, read off the kernel and resolv.conf.

Owns: what counts as an on-link prefix (a unicast route of the main table without a gateway, link-local and multicast
left out: the floor has them whole) or of another one in which the node looks, by its routing rules, and what else its
routes lead to (`cellwall.adapters.node.routed`), the kernel's features, and a fingerprint over the same inputs that
costs three dumps: of addresses, rules and routes; one more for each further table, and one where routes name next-hop
objects. Host ends have no addresses and no routes, so none of the answers grows with the endpoints; but the kernel
walks all links for one of them, 0.4 ms for a thousand. So who asks for the fingerprint again goes by what the kernel
told since.

Refuses: to remember anything but what cannot change while the kernel runs, or not without the kernel telling.
"""

import _socket as socket
import errno
import fcntl
import struct
from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec

from cellwall.adapters.netlink.nfnetlink import (
    NFPROTO,
    NFT_MSG_NEWCHAIN,
    NFT_MSG_NEWRULE,
    NFT_MSG_NEWTABLE,
    batch_is_valid,
    nft_message,
    open_netfilter_socket,
)
from cellwall.adapters.netlink.nlattr import attribute, attribute_text, nested, text_of
from cellwall.adapters.netlink.rtnetlink import (
    RTM_SETLINK,
    RTN_LOCAL,
    get_addresses,
    get_next_hops,
    get_routes,
    get_rules,
    led_tables,
    link_header,
    link_message,
    match_route,
    open_route_socket,
    permanent_networks,
    read_address,
    route_header,
)
from cellwall.adapters.netlink.sockets import NLM_F_CREATE, Closing, Netlink, Reply
from cellwall.adapters.news.node_news import News
from cellwall.adapters.node.routes import (
    NextHops,
    Reached,
    Routed,
    default_interface,
    led_by_objects,
    on_link,
    read_next_hops,
    read_routes,
    route_interfaces,
    routed,
)
from cellwall.adapters.node.sysctls import ProcSysctls
from cellwall.digests import blake2s
from cellwall.engine.contracts import Listener
from cellwall.errors import KernelError
from cellwall.model.addresses import Address, Protocol
from cellwall.model.facts import Features, InterfaceAddress, NodeFacts, OnLinkRoute, RoutedNetwork

_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_SIOCGIFNAME, _SIOCGIFMTU = 0x8910, 0x8921  # linux/sockios.h
_LOOPBACK = 1  # the first link of every namespace (include/linux/netdevice.h, LOOPBACK_IFINDEX)


_Row = TypeVar("_Row", OnLinkRoute, RoutedNetwork)
_MOST_TABLES = 8
"""How many routing tables are asked for one by one; a node with more is asked for all."""


class _Look(msgspec.Struct, frozen=True):
    """One reading of addresses and routes: what it comes to, by index every interface that has one, and the tables."""

    fingerprint: str
    interfaces: frozenset[int]
    tables: frozenset[int]


class _Dumps(msgspec.Struct, frozen=True):
    """What the kernel answered: addresses, routes of these tables, and the next hops that they name."""

    addresses: list[Reply]
    routes: list[Reply]
    tables: frozenset[int]
    objects: NextHops


class _Around(msgspec.Struct, frozen=True):
    """What the dumps come to, interfaces by index. `defaults`: the interfaces of the default routes of both families;
    `crowded`: those to which more networks are announced than are told."""

    addresses: list[tuple[int, Address, int]]
    defaults: list[int]
    networks: list[Reached]
    routed: Routed
    crowded: tuple[int, ...]


class NodeObserver(Closing):
    """`engine.contracts.Node` of the network namespace that the creating thread is in."""

    def __init__(self, *, resolv_conf: str = "/etc/resolv.conf") -> None:
        self._route = open_route_socket()
        self._sysctls = ProcSysctls()
        self._resolv_conf = resolv_conf
        self._ipv6_nat: bool | None = None
        self._packet_log: bool | None = None
        self._news = News()
        self._last: _Look | None = None

    def close(self) -> None:
        self._route.close()
        self._news.close()

    def observe(self) -> NodeFacts:
        """See `Node.observe`."""
        from cellwall.adapters.node.resolvers import read_resolvers  # here and not above: most attaches only compare

        name = _namer(self._route)
        around = _neighbourhood(self._read())
        default4, default6 = map(name, around.defaults)
        read = self._sysctls.read
        return NodeFacts(
            addresses=tuple(sorted(InterfaceAddress(name(index), f"{ip}/{n}") for index, ip, n in around.addresses)),
            on_link=_rows(OnLinkRoute(name(row.index), str(row.prefix), row.announced) for row in around.networks),
            routers=_rows(RoutedNetwork(name(row.index), str(row.prefix)) for row in around.routed.routers),
            routed=_rows(
                RoutedNetwork(name(row.index), str(row.prefix), row.announced) for row in around.routed.networks
            ),
            crowded=tuple(sorted(map(name, around.crowded))),
            untold=tuple(sorted(map(name, around.routed.untold))),
            default4=default4,
            default6=default6,
            forwarding4=read("net/ipv4/ip_forward") == "1",
            forwarding6=read("net/ipv6/conf/all/forwarding") == "1",
            resolvers=read_resolvers(self._resolv_conf),
            features=self._features(),
        )

    def fingerprint(self) -> str:
        """See `Node.fingerprint`. Covers the interfaces' names too: a rule names its uplink."""
        if self._last is None or not self._news.nothing_about(self._last.interfaces, self._last.tables):
            self._last = None  # whatever fails from here on is not taken for an answer next time
            self._news.hear_all()
            self._settle()
            self._last = self._look()
        elif not self._news.filtered:  # not at once: a process of a runtime's asks once
            self._news.hear_of(self._last.interfaces)
        return self._last.fingerprint

    def _settle(self) -> None:
        """Return when every change of which something was told is made: some are told of first, under the lock that
        this message, which changes nothing, waits for (net/ipv4/fib_trie.c, fib_table_delete; net/core/dev.c,
        __dev_notify_flags)."""
        self._route.transact([link_message(RTM_SETLINK, link_header(_LOOPBACK))], "wait for changes under way")

    def _look(self) -> "_Look":
        dumps = self._read()
        around = _neighbourhood(dumps)
        rows = _fingerprinted(around)
        name = _namer(self._route)
        summary = blake2s(digest_size=16)
        for index, prefixlen, raw in sorted(rows):  # a dump's order is history
            summary.update(b"%d %b %d %b\n" % (index, name(index).encode(), prefixlen, raw))
        used = {index for index, _, _ in around.addresses}.union(route_interfaces(dumps.routes, dumps.objects))
        return _Look(summary.hexdigest(), frozenset(used), dumps.tables)

    def addresses(self) -> frozenset[Address]:
        """See `Node.addresses`."""
        addresses = [address for _, address, _ in map(read_address, self._addresses())]
        return frozenset(address for address in addresses if not _link_local(address) and not address.is_loopback)

    def is_own(self, address: Address) -> bool:
        """See `Node.is_own`."""
        replies = self._route.transact([match_route(address)], f"ask whose {address} is")
        return any(route_header(reply.body)[7] == RTN_LOCAL for reply in replies)

    def mtu(self, interface: str) -> int:
        """See `Node.mtu`. An ioctl, which any socket takes: every attach asks, and a message costs twenty times it."""
        try:
            answer = fcntl.ioctl(self._route.fileno(), _SIOCGIFMTU, struct.pack("16s24x", interface.encode()))
        except OSError as error:
            if error.errno == errno.ENODEV:
                return 0
            raise KernelError(error.errno or errno.EIO, f"read the MTU of {interface}") from error
        return int(struct.unpack_from("=i", answer, 16)[0])

    def listeners(self, protocol: Protocol, port: int = 0) -> tuple[Listener, ...]:
        """See `Node.listeners`."""
        # here and not above: most attaches publish nothing
        from cellwall.adapters.node.listeners import read_listeners

        return read_listeners(protocol, port)

    def _read(self) -> _Dumps:
        tables = led_tables(self._route.dump(get_rules(), "read the node's routing rules"))
        asked = sorted(tables) if len(tables) <= _MOST_TABLES else [0]
        addresses, routes = self._addresses(), [reply for table in asked for reply in self._routes(table)]
        objects = read_next_hops(self._next_hops()) if led_by_objects(routes) else {}
        return _Dumps(addresses, routes, tables, objects)

    def _addresses(self) -> list[Reply]:
        return self._route.dump(get_addresses(), "read the node's addresses")

    def _routes(self, table: int) -> list[Reply]:
        return self._route.dump(get_routes(table=table), "read the node's routes")

    def _next_hops(self) -> list[Reply]:
        return self._route.dump(get_next_hops(), "read the node's next hops")

    def _features(self) -> Features:
        read = self._sysctls.read
        ipv6 = read("net/ipv6/conf/all/disable_ipv6") == "0"
        return Features(
            ipv6=ipv6,
            ipv6_nat=ipv6 and self._has_ipv6_nat(),
            packet_log=self._has_packet_log(),
        )

    def _has_packet_log(self) -> bool:
        if self._packet_log is None:
            self._packet_log = _loads_packet_log()
        return self._packet_log

    def _has_ipv6_nat(self) -> bool:
        if self._ipv6_nat is None:
            self._ipv6_nat = _loads_ipv6_nat()
        return self._ipv6_nat


def _neighbourhood(dumps: _Dumps) -> _Around:
    """Without IPv6's link-local addresses: they come and go with every link of anyone's, and the floor has them all."""
    addresses = [row for row in map(read_address, dumps.addresses) if not _link_local(row[1])]
    permanent = {network for reply in dumps.addresses for network in permanent_networks(reply)}
    routes = list(read_routes(dumps.routes, _FAMILIES, dumps.objects, dumps.tables))
    defaults = [default_interface(route for route in routes if route.family == family) for family in _FAMILIES]
    networks, crowded = on_link(routes, permanent)
    behind = routed(routes, networks)
    return _Around(addresses, defaults, networks, behind, tuple({*crowded, *behind.crowded}))


def _fingerprinted(around: _Around) -> list[tuple[int, int, bytes]]:
    """Everything by interface, as (index, what, bytes); `what` is a prefix length for what the node has itself."""
    rows = [(index, prefixlen, address.packed) for index, address, prefixlen in around.addresses]
    rows += [(row.index, row.prefixlen, row.destination + b"%d" % row.announced) for row in around.networks]
    rows += [(index, -1, b"") for index in around.defaults]
    rows += [(index, -2, b"") for index in around.crowded]
    rows += [(row.index, -3, row.destination) for row in around.routed.routers]
    rows += [
        (row.index, -4, row.destination + b"/%d %d" % (row.prefixlen, row.announced)) for row in around.routed.networks
    ]
    rows += [(index, -5, b"") for index in around.routed.untold]
    return rows


def _rows(rows: Iterable[_Row]) -> tuple[_Row, ...]:
    """In order, each once."""
    return tuple(sorted(set(rows)))


def _link_local(address: Address) -> bool:
    return address.version == 6 and address.is_link_local


def _namer(route: Netlink) -> Callable[[int], str]:
    """Names of the socket's namespace by index, each asked for once; "" for 0 and for one that has vanished."""
    known = {0: ""}

    def name(index: int) -> str:
        if index not in known:
            try:
                answer = fcntl.ioctl(route.fileno(), _SIOCGIFNAME, struct.pack("16xi20x", index))
            except OSError:
                answer = b""
            known[index] = text_of(answer[:16])
        return known[index]

    return name


def _loads_packet_log() -> bool:
    """Whether a rule would be accepted that tells a program of packets; asked for, never made."""
    family, table = NFPROTO["inet"], attribute_text(1, "cellwall-probe")
    # NFTA_CHAIN_NAME; NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS; NFTA_LIST_ELEM, NFTA_EXPR_NAME and _DATA; NFTA_LOG_GROUP
    log = nested(1, attribute_text(1, "log"), nested(2, attribute(1, (1).to_bytes(2, "big"))))
    rule = table + attribute_text(2, "probe") + nested(4, log)
    batch = [
        nft_message(NFT_MSG_NEWTABLE, family, table, flags=NLM_F_CREATE),
        nft_message(NFT_MSG_NEWCHAIN, family, table + attribute_text(3, "probe"), flags=NLM_F_CREATE),
        nft_message(NFT_MSG_NEWRULE, family, rule, flags=NLM_F_CREATE),
    ]
    with open_netfilter_socket() as netfilter:
        return batch_is_valid(netfilter, batch, "ask for the log of packets")


def _loads_ipv6_nat() -> bool:
    """Whether a nat chain of the IPv6 family would be accepted; asked for, never made."""
    table = attribute_text(1, "cellwall-probe")  # NFTA_TABLE_NAME, NFTA_CHAIN_TABLE
    hook, priority = (number.to_bytes(4, "big") for number in (4, 100))  # NF_INET_POST_ROUTING, NF_IP6_PRI_NAT_SRC
    postrouting = nested(4, attribute(1, hook), attribute(2, priority))  # NFTA_CHAIN_HOOK
    chain = table + attribute_text(3, "probe") + postrouting + attribute_text(7, "nat")
    family = NFPROTO["ip6"]
    batch = [
        nft_message(NFT_MSG_NEWTABLE, family, table, flags=NLM_F_CREATE),
        nft_message(NFT_MSG_NEWCHAIN, family, chain, flags=NLM_F_CREATE),
    ]
    with open_netfilter_socket() as netfilter:
        return batch_is_valid(netfilter, batch, "ask for IPv6 NAT")
