"""Opening a bridge port such that the first packet passes.

A veth end that came up before its peer has no carrier and keeps the queue that drops everything (net/sched,
noop_qdisc) until the link watcher, a workqueue, has seen the carrier; the bridge port and, with its first port, the
bridge itself wait for the same worker. For that long, a millisecond or many on a busy node, packets vanish without
an error: a SYN is sent again after a second. Measured: a packet sent right after `ip link set up` is lost.

Reading a link makes the kernel settle it first (Linux 6.11, net/core/rtnetlink.c rtnl_getlink: linkwatch_sync_dev),
so three reads in the right order do the worker's work: the host end, which enables the bridge port; then the bridge
and the peer. The peer is read through the node's socket by the namespace id that the host end tells. An older kernel
does not settle anything on reading, but tells the state: there it is read again until it is up, for a bounded time.
"""

import errno
import time

from cellwall.adapters.netlink.nlattr import attribute_of, attribute_u8, attributes, u32_of
from cellwall.adapters.netlink.rtnetlink import (
    IFF_UP,
    IFLA_LINK,
    IFLA_LINK_NETNSID,
    IFLA_LINKMODE,
    IFLA_MASTER,
    IFLA_OPERSTATE,
    LINK_HEADER_SIZE,
    LINK_MODE_DEFAULT,
    OPER_UP,
    RTM_SETLINK,
    get_link_at,
    link_flags,
    link_header,
    link_message,
    name_of,
)
from cellwall.adapters.netlink.sockets import Message, Netlink, Reply
from cellwall.adapters.node.sysctls import ProcSysctls

_OPER_UP = OPER_UP.to_bytes(1)
# The state before the mode, as the kernel takes them whatever their order here: a link of the default mode is not put
# up by hand.
_RELEASED = attribute_u8(IFLA_OPERSTATE, OPER_UP) + attribute_u8(IFLA_LINKMODE, LINK_MODE_DEFAULT)
_PAUSE = 0.0005
_ATTEMPTS = 40
# The peer's namespace may end, or be one that this process may not look into: the port is open all the same.
_UNSEEN = (errno.ENODEV, errno.ENOENT, errno.EINVAL, errno.EPERM, errno.EACCES)


Ends = tuple[int, int, int]
"""Of a host end: the index of its bridge, that of its peer, and the id of the peer's namespace."""


def ends_of(reply: Reply) -> Ends | None:
    """Where a host end leads to, as reading it tells."""
    found = attributes(reply.body, LINK_HEADER_SIZE)
    names = (IFLA_MASTER, IFLA_LINK, IFLA_LINK_NETNSID)
    if any(name not in found for name in names):
        return None
    bridge, peer, netnsid = (u32_of(found[name]) for name in names)
    return bridge, peer, netnsid


def open_port(route: Netlink, index: int, ends: Ends | None = None) -> None:
    """The host end up; returns when packets pass both ways, or after 20 ms where the kernel does not get there.
    Idempotent. `ends`: where it leads to, for who knows: then one exchange is enough as a rule."""
    operation = f"open bridge port {index}"
    up = _opening(index)
    if ends is not None:
        bridge, peer, netnsid = ends
        reads = [get_link_at(index), get_link_at(bridge), get_link_at(peer, netnsid=netnsid, tolerate=_UNSEEN)]
        seen = route.transact([up, *reads], operation)
        if len(seen) == len(reads) and all(map(_passes, seen)):
            return
    replies = route.transact([up, get_link_at(index)], operation)
    found = attributes(replies[-1].body, LINK_HEADER_SIZE)
    if IFLA_LINK not in found or IFLA_LINK_NETNSID not in found:
        return
    reads = [] if _passes(replies[-1]) else [get_link_at(index)]
    if IFLA_MASTER in found:
        reads.append(get_link_at(u32_of(found[IFLA_MASTER])))
    netnsid = u32_of(found[IFLA_LINK_NETNSID])
    reads.append(get_link_at(u32_of(found[IFLA_LINK]), netnsid=netnsid, tolerate=_UNSEEN))
    for _ in range(_ATTEMPTS):
        seen = route.transact(reads, operation)
        if not link_flags(seen[-1]) & IFF_UP or all(map(_passes, seen)):
            return
        time.sleep(_PAUSE)


def silence(route: Netlink, index: int) -> None:
    """Switch off IPv6 at a host end, which has no use for it, and with it solicits and reports there of itself. Nothing
    of one that is gone."""
    if name := name_of(route, index):
        ProcSysctls().write(f"net/ipv6/conf/{name}/disable_ipv6", "1")


def _opening(index: int) -> Message:
    return link_message(RTM_SETLINK, link_header(index, flags=IFF_UP, change=IFF_UP), _RELEASED)


def _passes(end: Reply) -> bool:
    return attribute_of(end.body, IFLA_OPERSTATE, LINK_HEADER_SIZE) == _OPER_UP
