"""A bridge port that is locked: what is told the kernel, and what of it the kernel no longer has.

Owns: every flag that shuts a port off from the others, its one static forwarding entry, and the permanent neighbours on
the bridge. The comparison is a dump of ports, one of forwarding entries and one of neighbours a family, whether one
port is asked for or a thousand.
"""

import errno
import sys
from _socket import AF_INET, AF_INET6
from collections.abc import Container, Iterable, Mapping, Sequence

from cellwall.adapters.netlink.nlattr import (
    attribute_of,
    attribute_u8,
    attribute_u16,
    attribute_u32,
    attributes,
    nested,
    text_of,
    u32_of,
)
from cellwall.adapters.netlink.rtnetlink import (
    AF_BRIDGE,
    IFF_NOARP,
    IFF_UP,
    IFLA_BRPORT_STATE,
    IFLA_IFNAME,
    IFLA_MASTER,
    IFLA_OPERSTATE,
    IFLA_PROTINFO,
    LINK_HEADER_SIZE,
    NO_GENERATED_ADDRESS,
    NUD_NOARP,
    NUD_PERMANENT,
    OPER_UP,
    PORT_DISABLED,
    PORT_FORWARDING,
    RTM_DELNEIGH,
    RTM_NEWNEIGH,
    RTM_SETLINK,
    ForwardingEntry,
    forwarding_entry,
    get_bridge_ports,
    get_forwarding,
    get_link_at,
    get_neighbours,
    link_flags,
    link_header,
    link_index,
    link_message,
    neighbour_message,
    read_forwarding,
    read_neighbour,
)
from cellwall.adapters.netlink.sockets import NLM_F_CREATE, NLM_F_REPLACE, Message, Netlink, Reply
from cellwall.engine.contracts import PortPlan
from cellwall.model.addresses import Address, mac_text

_PUT = NLM_F_CREATE | NLM_F_REPLACE

# linux/if_link.h IFLA_BRPORT_*: kind, value and name (as `bridge -d link` has it) of every flag.
_FLAGS = (
    (4, 0, "hairpin"),
    (5, 1, "guard"),  # a BPDU from the port disables it
    (6, 1, "root_block"),  # it never leads to the root bridge
    (8, 0, "learning"),  # the static entry is all there is to know
    (9, 0, "flood"),
    (10, 0, "proxy_arp"),
    (12, 0, "proxy_arp_wifi"),
    (25, 0, "mcast_router"),  # never
    (27, 0, "mcast_flood"),
    (30, 0, "bcast_flood"),
    (32, 0, "neigh_suppress"),
    (33, 1, "isolated"),  # nothing to or from another isolated port
    (39, 1, "locked"),  # only source addresses of its own static entries get in
)
# IFLA_BRPORT_GROUP_FWD_MASK: without it frames to the reserved groups (LLDP, 802.1X, LACP) skip every hook of the
# bridge family and reach the daemons of the node; to be forwarded they must pass prerouting, where the pins drop them
# (net/bridge/br_input.c, br_handle_frame). MAC pause, bit 1, cannot be forwarded and is dropped by the bridge.
_RESERVED_GROUPS = (31, 0xFFFD, "group_fwd_mask")
# IFLA_BRPORT_MAB, since Linux 6.2: the port has addresses wait for somebody to let them in, and is refused `learning`
# off with it on.
_WAITING = (40, 0, "mab")
# IFLA_BRPORT_BACKUP_PORT, by index, and IFLA_BRPORT_BACKUP_NHID: where the bridge leads what is for this port while its
# link is down, whatever that port's flags and entries are. Told of one that has any.
_INSTEAD = ((34, 0, "backup_port"), (44, 0, "backup_nhid"))
_TOLD = (*_FLAGS, _RESERVED_GROUPS, _WAITING, *_INSTEAD)
# linux/if_bridge.h BR_STATE_*. STP leaves a port in one of these for twice the forward delay, 30 s, though it is
# switched off meanwhile (net/bridge/br_stp_timer.c).
_STATES = {PORT_DISABLED: "disabled", 1: "listening", 2: "learning", 4: "blocking"}
_OPER_UP, _DISABLED, _FORWARDING = OPER_UP.to_bytes(1), PORT_DISABLED.to_bytes(1), PORT_FORWARDING.to_bytes(1)
_LOCKED = nested(
    IFLA_PROTINFO,
    *(attribute_u8(kind, value) for kind, value, _ in (*_FLAGS, _WAITING)),
    attribute_u16(*_RESERVED_GROUPS[:2]),
    *(attribute_u32(kind, value) for kind, value, _ in _INSTEAD),
)


def lock_messages(plan: PortPlan) -> list[Message]:
    """Everything that locks a port. Idempotent."""
    index = plan.host_index
    return [
        _silent(index),
        link_message(RTM_SETLINK, link_header(index, family=AF_BRIDGE), _LOCKED, what="bridge port flags"),
        *(() if plan.shut else (entry_message(index, plan.mac),)),
        *(
            neighbour_message(RTM_NEWNEIGH, plan.bridge_index, address, plan.mac, flags=_PUT, what="neighbour")
            for address in addresses_of(plan)
        ),
    ]


def entry_message(index: int, mac: int, *, tolerate: tuple[int, ...] = ()) -> Message:
    """The static entry of a locked port: what has its bridge pass anything by it, either way. Idempotent."""
    return forwarding_entry(RTM_NEWNEIGH, index, mac, flags=_PUT, what="static forwarding entry", tolerate=tolerate)


def absent_flags(route: Netlink, index: int) -> tuple[str, ...]:
    """The flags that this kernel does not have, by name: it takes any, and tells of a port that was locked those alone
    that it knows."""
    message = link_message(RTM_SETLINK, link_header(index, family=AF_BRIDGE), _LOCKED, what="bridge port flags")
    route.transact([message], f"lock bridge port {index}")
    ports = {link_index(reply): reply.body for reply in route.dump(get_bridge_ports(), "read the bridge ports")}
    present = attributes(attribute_of(ports[index], IFLA_PROTINFO, LINK_HEADER_SIZE) or b"")
    return tuple(name for kind, _, name in _FLAGS if kind not in present)


def relock_port(route: Netlink, plan: PortPlan) -> None:
    """Lock it, take away forwarding entries that it should not have, and have it forward where its link is up."""
    removals = _removals(route, plan.bridge_index, plan.host_index, keep=None if plan.shut else plan.mac)
    route.transact(
        [*removals, *lock_messages(plan), _forwarding(plan.host_index)], f"lock bridge port {plan.host_index}"
    )


def shut_port(route: Netlink, bridge_index: int, index: int) -> None:
    """See `Links.shut_port`: locked, with no address that may come in by it or is led to it."""
    flags = link_message(
        RTM_SETLINK, link_header(index, family=AF_BRIDGE), _LOCKED, tolerate=(errno.ENODEV, errno.EINVAL)
    )
    route.transact([flags], f"shut bridge port {index}")
    if learned := _removals(route, bridge_index, index, keep=None):  # now that it learns nothing more
        route.transact(learned, f"shut bridge port {index}")


def open_strangers(route: Netlink, bridge_index: int, known: Container[int]) -> dict[int, str]:
    """See `Links.open_strangers`."""
    found: dict[int, str] = {}
    for reply in route.dump(get_bridge_ports(), "read the bridge ports"):
        if (index := link_index(reply)) in known:
            continue
        port = attributes(reply.body, LINK_HEADER_SIZE)
        if u32_of(port.get(IFLA_MASTER, bytes(4))) != bridge_index:  # also the bridge itself, which has none
            continue
        flags = attributes(port.get(IFLA_PROTINFO, b""))
        if any(_wrong_flags(flags)) or not all(map(_is_own, _entries(route, bridge_index, index))):
            found[index] = text_of(port[IFLA_IFNAME])
    return found


def port_differences(route: Netlink, plans: Sequence[PortPlan]) -> dict[int, tuple[str, ...]]:
    """See `Links.port_differences`."""
    ports = {link_index(reply): reply for reply in route.dump(get_bridge_ports(), "read the bridge ports")}
    found: dict[int, tuple[str, ...]] = {}
    for bridge_index in {plan.bridge_index for plan in plans}:
        own = [plan for plan in plans if plan.bridge_index == bridge_index]
        entries: dict[int, list[ForwardingEntry]] = {}
        # The kernel looks through all entries for each port that is asked for.
        for entry in _entries(route, bridge_index, own[0].host_index if len(own) == 1 else 0):
            entries.setdefault(entry.index, []).append(entry)
        known = _neighbours(route, bridge_index, ipv6=any(plan.address6 is not None for plan in own))
        for plan in own:
            wrong = (
                *_wrong_port(route, bridge_index, ports.get(plan.host_index)),
                *_wrong_entries(plan, entries.get(plan.host_index, [])),
                *_wrong_neighbours(plan, known),
            )
            if wrong:
                found[plan.host_index] = wrong
    return found


def addresses_of(plan: PortPlan) -> list[Address]:
    """One or two addresses."""
    return [plan.address4] if plan.address6 is None else [plan.address4, plan.address6]


def _wrong_port(route: Netlink, bridge_index: int, port: Reply | None) -> Iterable[str]:
    """Nothing of one that is gone, which the link itself tells."""
    if port is None:
        return
    if not link_flags(port) & IFF_NOARP:
        yield "arp is on"
    present = attributes(attribute_of(port.body, IFLA_PROTINFO, LINK_HEADER_SIZE) or b"")
    yield from _wrong_flags(present)
    state = present.get(IFLA_BRPORT_STATE, _FORWARDING)
    if state == _FORWARDING:
        return
    if state == _DISABLED:
        operational = attribute_of(port.body, IFLA_OPERSTATE, LINK_HEADER_SIZE) == _OPER_UP
        if not operational or not _is_up(route, bridge_index):
            return  # and rightly
    yield f"its state is {_STATES.get(state[0], state[0])}, not forwarding"


def _is_up(route: Netlink, index: int) -> bool:
    links = route.transact([get_link_at(index, tolerate=(errno.ENODEV,))], f"read link {index}")
    return any(link_flags(link) & IFF_UP for link in links)


def _wrong_flags(present: Mapping[int, bytes]) -> Iterable[str]:
    """A kernel does not tell a flag that it does not have."""
    for kind, value, name in _TOLD:
        if kind in present and (seen := int.from_bytes(present[kind], sys.byteorder)) != value:
            yield f"{name} is {seen}, not {value}"


def _wrong_entries(plan: PortPlan, entries: Sequence[ForwardingEntry]) -> Iterable[str]:
    own = [entry for entry in entries if entry.mac == plan.mac]
    if plan.shut:
        if own:
            yield f"its forwarding entry {mac_text(plan.mac)} lets it in"
    elif not own:
        yield f"its forwarding entry {mac_text(plan.mac)} is missing"
    elif (own[0].state, own[0].sticky) != (NUD_NOARP, True):
        yield f"its forwarding entry {mac_text(plan.mac)} is not static and sticky"
    others = [entry for entry in entries if entry.mac != plan.mac and not _is_own(entry)]
    yield from (f"unknown forwarding entry {mac_text(entry.mac)}" for entry in others)


def _wrong_neighbours(plan: PortPlan, known: dict[bytes, tuple[int, int]]) -> Iterable[str]:
    for address in addresses_of(plan):
        mac, state = known.get(address.packed, (0, 0))
        if state == 0:
            yield f"its neighbour {address} is missing"
        elif (mac, state) != (plan.mac, NUD_PERMANENT):
            yield f"its neighbour {address} is not {mac_text(plan.mac)} for good"


def _removals(route: Netlink, bridge_index: int, index: int, *, keep: int | None) -> list[Message]:
    entries = _entries(route, bridge_index, index)
    surplus = [entry.mac for entry in entries if entry.mac != keep and not _is_own(entry)]
    absent = (errno.ENOENT, errno.ENODEV)
    return [forwarding_entry(RTM_DELNEIGH, index, mac, what="forwarding entry", tolerate=absent) for mac in surplus]


def _entries(route: Netlink, bridge_index: int, port_index: int = 0) -> list[ForwardingEntry]:
    """What the bridge forwards by: of one port, or of all."""
    replies = route.dump(get_forwarding(bridge_index, port_index), "read the forwarding entries")
    return [
        entry
        for entry in map(read_forwarding, replies)
        if entry.master == bridge_index
        and not entry.vlan  # no bridge of ours looks one of these up
        and port_index in (0, entry.index)
    ]


def _is_own(entry: ForwardingEntry) -> bool:
    """An address of the node's, as each host end has one. A bridge leads nobody else's frames out by it."""
    return entry.state == NUD_PERMANENT


def _neighbours(route: Netlink, bridge_index: int, *, ipv6: bool) -> dict[bytes, tuple[int, int]]:
    """Packed address → (MAC, state)."""
    families = (AF_INET, AF_INET6) if ipv6 else (AF_INET,)
    found: dict[bytes, tuple[int, int]] = {}
    for family in families:
        for reply in route.dump(get_neighbours(bridge_index, family), "read the neighbours"):
            index, packed, mac, state = read_neighbour(reply)
            if index == bridge_index:
                found[packed] = (mac, state)
    return found


def _forwarding(index: int) -> Message:
    """Refused where the link is not operationally up, or where STP is on, which is another's to switch off."""
    state = nested(IFLA_PROTINFO, attribute_u8(IFLA_BRPORT_STATE, PORT_FORWARDING))
    header = link_header(index, family=AF_BRIDGE)
    return link_message(RTM_SETLINK, header, state, what="bridge port state", tolerate=(errno.EBUSY, errno.ENETDOWN))


def _silent(index: int) -> Message:
    """A bridge port has no use for an address of its own. Not part of the creation, which refuses it: the new
    link has no IPv6 side yet (net/ipv6/addrconf.c, inet6_validate_link_af). A kernel without IPv6 does not know it.

    Nor for ARP: a frame of a port is the bridge's by the time that somebody asks (net/ipv4/arp.c, arp_rcv), and off the
    bridge the node would answer there for every address of its own, and learn who asked."""
    return link_message(
        RTM_SETLINK,
        link_header(index, flags=IFF_NOARP, change=IFF_NOARP),
        NO_GENERATED_ADDRESS,
        what="no generated address",
        tolerate=(errno.EAFNOSUPPORT,),
    )
