"""What the kernel tells of changes to the wall and to what it stands on, as alarms.

Owns: two netlink sockets, of nf_tables and of links, addresses, routes, routing rules, neighbours and traffic control,
and the question how bad a change can be. `DAMAGED`: our tables, the node's own sets or the latch, so that the wall may
be open. `CHANGED`: it may differ from what is desired, by whoever's hand; every attach of our own is one. Everything
else is nobody's alarm.

Refuses: to know what changed, and whose change it was. Whoever asks looks himself, under the writer lock. A queue that
overflowed is damage: what was lost may have been that. Rules of iptables-legacy make no event at all.
"""

import _socket as socket
import struct
import sys
from collections.abc import Callable
from enum import IntEnum
from functools import lru_cache

from cellwall.adapters.netlink.nfnetlink import (
    HEADER_SIZE,
    NETLINK_NETFILTER,
    NFNLGRP_NFTABLES,
    NFT_MSG_DELSETELEM,
    NFT_MSG_NEWGEN,
    NFT_MSG_NEWSETELEM,
    SUBSYS_NFTABLES,
)
from cellwall.adapters.netlink.nlattr import attribute_of, text_of, u32_of
from cellwall.adapters.netlink.rtnetlink import (
    AF_BRIDGE,
    IFLA_IFNAME,
    IFLA_MASTER,
    IFLA_MTU,
    LINK_HEADER_SIZE,
    RTM_DELLINK,
    RTM_DELNEIGH,
    RTM_NEWLINK,
    RTM_NEWNEIGH,
    get_links,
    link_index,
    open_route_socket,
)
from cellwall.adapters.netlink.sockets import Closing, each_message, subscribed
from cellwall.names import NODE_SETS, SPARE_TABLE, TABLE

# linux/rtnetlink.h, RTNLGRP_*: LINK, NEIGH, TC; IFADDR, ROUTE and RULE of IPv4 and IPv6, NETCONF of both, NEXTHOP
_ROUTE_GROUPS = sum(1 << group - 1 for group in (1, 3, 4, 5, 7, 8, 9, 11, 19, 24, 25, 32))
_NETFILTER_GROUPS = 1 << NFNLGRP_NFTABLES - 1
_NETLINK_ROUTE = 0
_QUEUE = 8 << 20  # a bulk attach of a thousand tells of about 8,000 elements
_TRAFFIC_CONTROL = range(36, 47)  # RTM_NEWQDISC to RTM_GETTFILTER
_NDA_MASTER = 9
_MOST = 4096  # more than one call reads comes with the next one

_INDEX = struct.Struct("=B3xi")  # family and index, as links, neighbours and traffic control begin
_NEIGHBOUR_SIZE = 12


OWN_TABLES = frozenset({TABLE, SPARE_TABLE})
IPTABLES = OWN_TABLES | {"filter", "nat", "mangle", "raw", "security"}
"""Where iptables-nft and ebtables-nft keep everybody's rules."""


class Alarm(IntEnum):
    """How bad what was told can be."""

    NOTHING = 0
    CHANGED = 1
    DAMAGED = 2


class Alarms(Closing):
    """What the kernel tells of the network namespace that the creating thread is in, from now on. `bridge` is the index
    of our bridge, 0 where there is none yet, `tables` are the names of those that hold the wall. `veth_prefix`: how the
    names of our host links begin; `queue`: how many bytes may wait to be read."""

    def __init__(self, *, veth_prefix: str, queue: int = _QUEUE) -> None:
        self.bridge = 0
        self.tables = OWN_TABLES
        self._prefix = veth_prefix
        self._netfilter = subscribed(NETLINK_NETFILTER, _NETFILTER_GROUPS, queue)
        try:
            self._route = subscribed(_NETLINK_ROUTE, _ROUTE_GROUPS, queue)
        except BaseException:
            self._netfilter.close()
            raise
        self._buffer = bytearray(1 << 16)
        self._mtus = _mtus()

    def close(self) -> None:
        self._netfilter.close()
        self._route.close()

    def descriptors(self) -> tuple[int, int]:
        """What becomes readable when something was told."""
        return self._netfilter.fileno(), self._route.fileno()

    def read(self) -> Alarm:
        """The worst of what was told since the last call. Does not wait."""
        return max(self._worst(self._netfilter, self._of_rules), self._worst(self._route, self._of_links))

    def _worst(self, told: socket.socket, judge: Callable[[int, bytes], Alarm]) -> Alarm:
        worst = Alarm.NOTHING
        for _ in range(_MOST):
            try:
                length = told.recv_into(self._buffer, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError:
                worst = Alarm.DAMAGED
                continue
            if worst < Alarm.DAMAGED:
                for kind, body in each_message(memoryview(self._buffer)[:length]):
                    worst = max(worst, judge(kind, body))
        return worst

    def _of_rules(self, kind: int, body: bytes) -> Alarm:
        subsystem, kind = kind >> 8, kind & 0xFF
        if subsystem != SUBSYS_NFTABLES or kind == NFT_MSG_NEWGEN:
            return Alarm.NOTHING
        if kind in (NFT_MSG_NEWSETELEM, NFT_MSG_DELSETELEM):
            return _of_element(_beginning(body), self.tables)
        # Whatever it is about, the name of its table is attribute 1.
        ours = text_of(attribute_of(body, 1, HEADER_SIZE) or b"") in self.tables
        return Alarm.DAMAGED if ours else Alarm.CHANGED  # another table's rule may keep ours from being met

    def _of_links(self, kind: int, body: bytes) -> Alarm:
        family, index = _INDEX.unpack_from(body)
        at_bridge = index == self.bridge != 0
        if kind in (RTM_NEWLINK, RTM_DELLINK):
            resized = self._is_resized(kind, index, body)
            return Alarm.CHANGED if at_bridge or self._is_port(body) or resized else Alarm.NOTHING
        if kind in (RTM_NEWNEIGH, RTM_DELNEIGH):
            behind = family == AF_BRIDGE and self._leads_to_bridge(body, _NDA_MASTER, _NEIGHBOUR_SIZE)
            return Alarm.CHANGED if at_bridge or behind else Alarm.NOTHING
        if kind in _TRAFFIC_CONTROL:
            return Alarm.DAMAGED if at_bridge else Alarm.NOTHING
        return Alarm.CHANGED

    def _is_resized(self, kind: int, index: int, body: bytes) -> bool:
        """Of any link: which one is the node interface, whose MTU all of ours follow, is not for us to know."""
        mtu = attribute_of(body, IFLA_MTU, LINK_HEADER_SIZE)
        if kind == RTM_DELLINK or mtu is None:
            self._mtus.pop(index, None)
            return False
        before, self._mtus[index] = self._mtus.get(index, mtu), mtu
        return before != mtu

    def _is_port(self, body: bytes) -> bool:
        name = text_of(attribute_of(body, IFLA_IFNAME, LINK_HEADER_SIZE) or b"")
        return name.startswith(self._prefix) or self._leads_to_bridge(body, IFLA_MASTER, LINK_HEADER_SIZE)

    def _leads_to_bridge(self, body: bytes, attribute: int, offset: int) -> bool:
        master = attribute_of(body, attribute, offset)
        return master is not None and u32_of(master) == self.bridge != 0


def _beginning(body: bytes) -> bytes:
    """The first two attributes of an element, which name its table and its set, each attach's the same dozen."""
    end = HEADER_SIZE
    for _ in range(2):
        end += (int.from_bytes(body[end : end + 2], sys.byteorder) + 3) & ~3
    return body[HEADER_SIZE:end]


@lru_cache(maxsize=1024)
def _of_element(named: bytes, tables: frozenset[str]) -> Alarm:
    if text_of(attribute_of(named, 1, 0) or b"") not in tables:
        return Alarm.NOTHING
    return Alarm.DAMAGED if text_of(attribute_of(named, 2, 0) or b"") in NODE_SETS else Alarm.CHANGED


def somebody_listens() -> bool:
    """Whether a process listens in the calling thread's network namespace as `Alarms` does: to just these groups."""
    with open("/proc/thread-self/net/netlink", encoding="ascii") as table:
        sockets = [line.split()[1:4] for line in table]
    return any((protocol, groups) == (str(_NETLINK_ROUTE), f"{_ROUTE_GROUPS:08x}") for protocol, _, groups in sockets)


def _mtus() -> dict[int, bytes]:
    """The MTU of each link by its index; whoever listens already misses none that changes meanwhile."""
    with open_route_socket() as route:
        replies = route.dump(get_links(), "read the links")
    return {link_index(one): attribute_of(one.body, IFLA_MTU, LINK_HEADER_SIZE) or b"" for one in replies}
