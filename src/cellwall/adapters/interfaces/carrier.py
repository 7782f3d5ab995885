"""Opening a bridge port such that the first packet passes.

A veth end that came up before its peer has no carrier and keeps the queue that drops everything (net/sched,
noop_qdisc) until the link watcher, a workqueue, has seen the carrier; the bridge port and, with its first port, the
bridge itself wait for the same worker. For that long, a millisecond or many on a busy node, packets vanish without
an error: a SYN is sent again after a second. Measured: a packet sent right after `ip link set up` is lost.

Reading a link makes the kernel settle it first (Linux 6.11, net/core/rtnetlink.c rtnl_getlink: linkwatch_sync_dev),
so three reads in the right order do the worker's work: the host end, which enables the bridge port; then the bridge
and the peer. The peer is read through the node's socket by the namespace id that the host end tells. An older kernel
does not settle anything on reading, but tells the state: there it is read again until it is up, for a bounded time.

A port that is to open fast at some later time is *held*: both ends are up and settled, and the host end is dormant (RFC
2863; Documentation/networking/operstates.rst), as 802.1X has a port whose user it has not let in. A bridge enables the
port of a link that is operationally up and no other (net/bridge/br_if.c, br_port_carrier_check; br_stp_if.c,
br_stp_enable_bridge), and a disabled port takes and gives nothing. What is done at the other end makes it down, and
dormant again (net/core/link_watch.c, rfc2863_policy). To release it is one message, which the kernel carries through to
the bridge as it takes it (net/core/rtnetlink.c, set_operstate): there is nothing for the worker to do.
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
    LINK_MODE_DORMANT,
    OPER_DORMANT,
    OPER_UP,
    PORT_DISABLED,
    RTM_SETLINK,
    get_link_at,
    is_running,
    link_flags,
    link_header,
    link_message,
    name_of,
    port_state,
)
from cellwall.adapters.netlink.sockets import Message, Netlink, Reply
from cellwall.adapters.node.sysctls import ProcSysctls

_OPER_UP = OPER_UP.to_bytes(1)
_DORMANT = attribute_u8(IFLA_LINKMODE, LINK_MODE_DORMANT)
# The state before the mode, as the kernel takes them whatever their order here: a link of the default mode is not put
# up by hand.
_RELEASED = attribute_u8(IFLA_OPERSTATE, OPER_UP) + attribute_u8(IFLA_LINKMODE, LINK_MODE_DEFAULT)
_PAUSE = 0.0005
_ATTEMPTS = 40
# The peer's namespace may end, or be one that this process may not look into: the port is open all the same.
_UNSEEN = (errno.ENODEV, errno.ENOENT, errno.EINVAL, errno.EPERM, errno.EACCES)


Ends = tuple[int, int, int]
"""Of a host end: the index of its bridge, that of its peer, and the id of the peer's namespace."""
Held = tuple[str, str]
"""The names of a host end that is held and settled, and of its bridge."""


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


def hold_port(route: Netlink, index: int, ends: Ends | None = None) -> Held | None:
    """The host end up and dormant, so that the bridge keeps its port disabled; down, where this kernel does not.
    Returns what `release_port` asks for where the port is held and both ends are settled; else None. Idempotent."""
    operation = f"hold bridge port {index}"
    dormant = link_message(RTM_SETLINK, link_header(index), _DORMANT, tolerate=(errno.EINVAL, errno.EOPNOTSUPP))
    seen = route.transact([dormant, get_link_at(index)], operation)[-1]
    ends = ends or ends_of(seen)
    if ends is None or attribute_of(seen.body, IFLA_LINKMODE, LINK_HEADER_SIZE) != LINK_MODE_DORMANT.to_bytes(1):
        return None
    bridge, peer, netnsid = ends
    name = name_of(route, index)
    # Without IPv6 the host end says nothing into the sandbox, and opens sooner.
    ProcSysctls().write(f"net/ipv6/conf/{name}/disable_ipv6", "1")
    up = link_message(RTM_SETLINK, link_header(index, flags=IFF_UP, change=IFF_UP))
    settling = [get_link_at(index), get_link_at(peer, netnsid=netnsid, tolerate=_UNSEEN), get_link_at(index)]
    seen = route.transact([up, *settling], operation)[-1]
    if _passes(seen) or port_state(seen) != PORT_DISABLED:
        route.transact([link_message(RTM_SETLINK, link_header(index, change=IFF_UP))], operation)
        return None
    settled = attribute_of(seen.body, IFLA_OPERSTATE, LINK_HEADER_SIZE) == OPER_DORMANT.to_bytes(1)
    return (name, name_of(route, bridge)) if settled else None


def release_port(route: Netlink, index: int, held: Held) -> bool:
    """`open_port` of one that is held and settled; False where it is still to be settled: the bridge, as it had no open
    port before this one, or the port, as somebody put either end down since."""
    route.transact([_opening(index)], f"open bridge port {index}")
    link, bridge = held
    return is_running(route, link) and is_running(route, bridge)


def _opening(index: int) -> Message:
    return link_message(RTM_SETLINK, link_header(index, flags=IFF_UP, change=IFF_UP), _RELEASED)


def _passes(end: Reply) -> bool:
    return attribute_of(end.body, IFLA_OPERSTATE, LINK_HEADER_SIZE) == _OPER_UP
