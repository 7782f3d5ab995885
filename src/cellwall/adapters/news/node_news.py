"""Whether the node's addresses, routes or their interfaces may have changed since they were read.

Owns: a netlink socket that the kernel tells of every change, and the question which changes can matter. Nobody waits
for it: it is read, without blocking, when somebody asks. Of links only those matter that have an address or a route
now: whatever gives one to another link is told as an address or a route.

News of other links are most of all: an attach tells of its own a dozen times. So they are left in the kernel, by a
filter of the socket (`socket_filter`), once it is known which links those are.

Refuses: to know what changed. Whatever it cannot read, a full queue (ENOBUFS, which anybody can cause whose links are
busy) and an error are a change; the facts are read again then, which is right, only dearer.

News of addresses and routes alone are not enough. The kernel drops the IPv4 routes of a link that goes down, or of a
next-hop object that is deleted, without a word about the routes (net/ipv4/fib_frontend.c, fib_disable_ip;
net/ipv4/nexthop.c, remove_nexthop), and whether a route without carrier is dead is for a setting to say
(ignore_routes_with_linkdown).
"""

import _socket as socket
import errno
import os
import struct
from collections.abc import Collection, Container, Iterable, Iterator
from contextlib import contextmanager

from cellwall.adapters.netlink.rtnetlink import RT_TABLE_COMPAT, RT_TABLE_MAIN, RTM_DELLINK, RTM_NEWLINK, RTM_NEWROUTE
from cellwall.adapters.netlink.sockets import Closing
from cellwall.errors import KernelError

# linux/rtnetlink.h, RTNLGRP_*: LINK, then IFADDR, ROUTE and RULE of IPv4 and IPv6, NETCONF of both, NEXTHOP
_GROUPS = sum(1 << group - 1 for group in (1, 5, 7, 8, 9, 11, 19, 24, 25, 32))
_RTM_DELROUTE = 25
_RTM_NEWNETCONF, _RTM_DELNETCONF = 80, 81
_NETLINK_ROUTE = 0
_MOST = 4096  # more than fit into the queue: only somebody who keeps adding to it while we read gets here

_HEADER = struct.Struct("=IH10x")
_LINK = struct.Struct("=4xi")
_NETCONF = struct.Struct("=4xHHi")  # NETCONFA_IFINDEX comes first (net/ipv4/devinet.c, inet_netconf_fill_devconf)
_NETCONFA_IFINDEX = 1


class News(Closing):
    """What the kernel tells of the network namespace that the creating thread is in, from the first `hear_all` on. A
    wall that only lists never calls that: the kernel copies each message for every socket that listens."""

    def __init__(self) -> None:
        with _as_kernel_error():
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE)
        self._buffer = bytearray(1 << 16)
        self._owner = os.getpid()
        self._subscribed = self.filtered = False

    def close(self) -> None:
        self._socket.close()

    def hear_all(self) -> None:
        """Leave nothing out from now on."""
        if not self._subscribed:
            with _as_kernel_error():
                self._socket.bind((0, _GROUPS))
            self._subscribed = True
        if not self.filtered:
            return
        from cellwall.adapters.netlink.socket_filter import tell_all

        tell_all(self._socket)
        self.filtered = False

    def hear_of(self, interfaces: Collection[int]) -> None:
        """Leave out what is told of other links than these, from now on, where the kernel can: `nothing_about` these
        would say no more of it."""
        from cellwall.adapters.netlink.socket_filter import tell_all, tell_of_links  # here: who asks once has no filter

        if not tell_of_links(self._socket, interfaces):
            tell_all(self._socket)
        self.filtered = True  # as far as it goes

    def nothing_about(self, interfaces: Container[int], tables: Iterable[int] = (RT_TABLE_MAIN,)) -> bool:
        """True if nothing was told since the last call that can matter to addresses, rules and the routes of these
        tables, or to these interfaces by index, which are all that have any. Forgets what was told."""
        if not self._subscribed:
            return False
        if os.getpid() != self._owner:  # forked: what is read here, the parent would never hear of
            return False
        nothing, told = True, {table if table < 256 else RT_TABLE_COMPAT for table in tables}
        for _ in range(_MOST):
            try:
                length = self._socket.recv_into(self._buffer, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return nothing
            except OSError:
                nothing = False
                continue
            nothing = nothing and not _matters(memoryview(self._buffer)[:length], interfaces, told)
        return False


@contextmanager
def _as_kernel_error() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise KernelError(error.errno or errno.EIO, "subscribe to changes of addresses and routes") from error


def _matters(datagram: memoryview, interfaces: Container[int], tables: Container[int]) -> bool:
    offset, end = 0, len(datagram)
    while offset < end:
        try:
            length, kind = _HEADER.unpack_from(datagram, offset)
            if length < _HEADER.size or length > end - offset:
                return True
            if _may_matter(kind, datagram[offset + 16 :], interfaces, tables):
                return True
        except struct.error:
            return True
        offset += (length + 3) & ~3
    return False


def _may_matter(kind: int, body: memoryview, interfaces: Container[int], tables: Container[int]) -> bool:
    if kind in (RTM_NEWLINK, RTM_DELLINK):
        return _LINK.unpack_from(body)[0] in interfaces
    if kind in (RTM_NEWROUTE, _RTM_DELROUTE):
        return body[4] in tables
    if kind in (_RTM_NEWNETCONF, _RTM_DELNETCONF):
        _, attribute, index = _NETCONF.unpack_from(body)
        return attribute != _NETCONFA_IFINDEX or index < 0 or index in interfaces  # below 0: all, or new ones
    return True
