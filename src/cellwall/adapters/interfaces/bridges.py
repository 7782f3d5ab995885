"""Our bridge: made, recognised by its alias, brought to what the network asks for, removed.

Owns: the bridge device, its settings and all its addresses. A bridge is ours when it carries the alias
`names.LINK_ALIAS`. The kernel takes no alias when it makes a link, and an alias set by name in the same batch could
hit a foreign bridge that took the name first; so ours is born into a link group, which creation does take, and gets
its alias by index. Killed in between, it is still recognised by the group. An address on it that the network does
not name is a leftover of another configuration and goes.

Refuses: anything else of that name, whatever it is.
"""

import errno
import sys

from cellwall.adapters.interfaces.settling import stand_in
from cellwall.adapters.netlink.nlattr import (
    attribute,
    attribute_text,
    attribute_u8,
    attribute_u16,
    attribute_u32,
    each_attribute,
)
from cellwall.adapters.netlink.rtnetlink import (
    IFA_F_NODAD,
    IFF_UP,
    IFLA_ADDRESS,
    IFLA_GROUP,
    IFLA_IFALIAS,
    IFLA_IFNAME,
    IFLA_MTU,
    NO_GENERATED_ADDRESS,
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_SETLINK,
    address_message,
    get_addresses,
    get_link,
    link_header,
    link_kind,
    link_message,
    link_settings,
    read_address,
    read_link,
)
from cellwall.adapters.netlink.sockets import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Message, Netlink
from cellwall.adapters.node.sysctls import ProcSysctls
from cellwall.engine.contracts import ObservedLink
from cellwall.errors import Conflict, KernelError, printable
from cellwall.model.addresses import Address
from cellwall.model.network import Network
from cellwall.names import LINK_ALIAS

# linux/if_link.h IFLA_BR_*. No spanning tree, no VLANs, no IGMP or MLD: a port of ours speaks to the node only, and
# each of these would parse what a tenant sends. Reserved groups (LLDP, EAPOL) are never forwarded.
_FIXED = (
    ("stp_state", attribute_u32(5, 0)),
    ("group_fwd_mask", attribute_u16(9, 0)),
    ("mcast_router", attribute_u8(22, 0)),
    ("mcast_snooping", attribute_u8(23, 0)),
    ("mcast_querier", attribute_u8(25, 0)),
)
_VLANS = ("vlan_filtering", attribute_u8(7, 0))
_SETTINGS = link_kind("bridge", *(wanted for _, wanted in _FIXED))
_NO_VLANS = link_kind("bridge", _VLANS[1])  # a kernel built without it refuses even 0
_UNFINISHED = 0xB8  # the link group of a bridge that has no alias yet
_FINISHED = attribute_u32(IFLA_GROUP, 0) + attribute_text(IFLA_IFALIAS, LINK_ALIAS)
_NO_IPV6 = (errno.EAFNOSUPPORT,)


def find_link(route: Netlink, name: str) -> ObservedLink | None:
    """One link by name."""
    try:
        return read_link(route.transact([get_link(name)], f"find {name}")[0])
    except KernelError as error:
        if error.errno == errno.ENODEV:
            return None
        raise


def find_bridge(route: Netlink, name: str) -> ObservedLink | None:
    """Our bridge, None where there is nothing of that name; Conflict where what has it is not ours."""
    link = find_link(route, name)
    if link is not None:
        _require_ours(link)
    return link


def ensure_bridge(route: Netlink, network: Network, *, ipv6: bool, mtu: int) -> int:
    """Make or correct the bridge; return its index. Up comes last, when the addresses are on it."""
    link = find_link(route, network.bridge)
    if link is None:
        link = _create(route, network, mtu)
    _require_ours(link)
    header = link_header(link.index)
    messages = [
        link_message(RTM_SETLINK, header, _FINISHED, what="alias"),
        link_message(RTM_NEWLINK, header, _identity_changes(link, network, mtu), _SETTINGS, what="settings"),
        link_message(RTM_NEWLINK, header, _NO_VLANS, what="no VLANs", tolerate=(errno.EOPNOTSUPP,)),
        link_message(RTM_SETLINK, header, NO_GENERATED_ADDRESS, what="no generated address", tolerate=_NO_IPV6),
    ]
    operation = f"set up bridge {network.bridge}"
    route.transact(messages, operation)
    _switch_ipv6(network.bridge, on=ipv6)
    messages = _address_changes(route, link.index, _wanted(network, ipv6=ipv6))
    changed = bool(messages)
    messages.append(link_message(RTM_SETLINK, link_header(link.index, flags=IFF_UP, change=IFF_UP), what="up"))
    if changed and ipv6:
        messages += [stand_in(link.index, address) for address in (network.gateway6, network.gateway_link_local)]
    route.transact(messages, operation)
    return link.index


def bridge_differences(route: Netlink, network: Network, *, ipv6: bool, mtu: int) -> tuple[str, ...]:
    """What `ensure_bridge` would change, a few words each."""
    try:
        reply = route.transact([get_link(network.bridge)], f"read {network.bridge}")[0]
    except KernelError as error:
        if error.errno == errno.ENODEV:
            return ("is gone",)
        raise
    link = read_link(reply)
    if link.kind != "bridge" or link.alias != LINK_ALIAS:
        return ("is not the one that cellwall made",)
    present = link_settings(reply)
    wrong = [] if link.up else ["is down"]
    wrong += ["has another MAC"] * (link.mac != network.bridge_mac) + [f"has MTU {link.mtu}, not {mtu}"] * (
        link.mtu != mtu
    )
    for name, wanted in (*_FIXED, _VLANS):
        ((kind, value),) = each_attribute(wanted)
        if present.get(kind, value) != value:
            wrong.append(f"has {name} {int.from_bytes(present[kind], sys.byteorder)}, not 0")
    has, wants = _present_addresses(route, link.index), _wanted(network, ipv6=ipv6).keys()
    wrong += [f"lacks its address {address}/{length}" for address, length in sorted(wants - has, key=str)]
    wrong += [f"has an unknown address {address}/{length}" for address, length in sorted(has - wants, key=str)]
    return tuple(wrong)


def delete_bridge(route: Netlink, network: Network) -> None:
    """Remove the bridge; tolerates absence, raises Conflict for a foreign one."""
    link = find_bridge(route, network.bridge)
    if link is None:
        return
    message = link_message(RTM_DELLINK, link_header(link.index), tolerate=(errno.ENODEV,))
    route.transact([message], f"delete bridge {network.bridge}")


def _create(route: Netlink, network: Network, mtu: int) -> ObservedLink:
    message = link_message(
        RTM_NEWLINK,
        link_header(),
        attribute_text(IFLA_IFNAME, network.bridge),
        attribute(IFLA_ADDRESS, network.bridge_mac.to_bytes(6, "big")),
        attribute_u32(IFLA_MTU, mtu),
        attribute_u32(IFLA_GROUP, _UNFINISHED),
        _SETTINGS,
        flags=NLM_F_CREATE | NLM_F_EXCL,
        what="link",
        tolerate=(errno.EEXIST,),  # whose it is, the caller finds out
    )
    replies = route.transact([message, get_link(network.bridge)], f"create bridge {network.bridge}")
    return read_link(replies[-1])


def _identity_changes(link: ObservedLink, network: Network, mtu: int) -> bytes:
    """Only what differs: setting the address it already has makes the kernel forget every neighbour on the bridge,
    permanent ones too (net/core/neighbour.c, neigh_changeaddr), and with them all attached sandboxes."""
    changes = b""
    if link.mac != network.bridge_mac:
        changes += attribute(IFLA_ADDRESS, network.bridge_mac.to_bytes(6, "big"))
    if link.mtu != mtu:
        changes += attribute_u32(IFLA_MTU, mtu)
    return changes


def _require_ours(link: ObservedLink) -> None:
    unfinished = link.group == _UNFINISHED and not link.alias
    if link.kind != "bridge" or not (unfinished or link.alias == LINK_ALIAS):
        kind = link.kind or "interface"
        raise Conflict(f"network.bridge: {printable(link.name)} is a {kind} that cellwall did not make")


def _switch_ipv6(bridge: str, *, on: bool) -> None:
    """Without a filter for IPv6 there must be no IPv6 on the bridge at all, not even a receiving side."""
    sysctls = ProcSysctls()
    name = f"net/ipv6/conf/{bridge}/disable_ipv6"
    wanted = "0" if on else "1"
    present = sysctls.read(name)
    if present in (None, wanted) or sysctls.write(name, wanted):
        return
    raise KernelError(errno.EACCES, f"set {name} to {wanted}")


def _wanted(network: Network, *, ipv6: bool) -> dict[tuple[Address, int], int]:
    """(address, prefix length) → flags. The link-local address is given rather than generated: a generated one is
    tentative for a second, and the sandboxes' router is unreachable for as long."""
    wanted: dict[tuple[Address, int], int] = {(network.gateway4, network.subnet4.prefixlen): 0}
    if ipv6:
        wanted[network.gateway6, network.subnet6.prefixlen] = IFA_F_NODAD
        wanted[network.gateway_link_local, 64] = IFA_F_NODAD
    return wanted


def _present_addresses(route: Netlink, index: int) -> set[tuple[Address, int]]:
    # A kernel that does not filter the dump gives every interface's addresses.
    read = (read_address(reply) for reply in route.dump(get_addresses(index), "read the bridge's addresses"))
    return {(address, length) for where, address, length in read if where == index}


def _address_changes(route: Netlink, index: int, wanted: dict[tuple[Address, int], int]) -> list[Message]:
    present = _present_addresses(route, index)
    create = NLM_F_CREATE | NLM_F_REPLACE
    added = [
        address_message(RTM_NEWADDR, index, address, length, flags=create, ifa_flags=flags, what=f"address {address}")
        for (address, length), flags in wanted.items()
        if (address, length) not in present
    ]
    removed = [
        address_message(RTM_DELADDR, index, address, length, what=f"old address {address}")
        for address, length in present - wanted.keys()
    ]
    return added + removed
