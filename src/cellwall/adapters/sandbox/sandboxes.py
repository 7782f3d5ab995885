"""The inside of a sandbox: addresses, routes, neighbours, link up.

Owns: what a tenant's interface looks like. The thread enters the namespace, opens a socket there and leaves; the
socket stays with the namespace it was made in. That is 0.09 ms, a thread or a process of its own costs more.

The address carries the subnet's prefix length, as every tool expects to read it, but makes no prefix route: with
one, a sandbox would look for its neighbours by ARP, which is filtered, and hang for seconds. By the gateway's host
route and a default route alone every packet goes to the gateway, which refuses at once what is not allowed.
"""

import _socket as socket
import errno
import fcntl
import os
import struct
from ipaddress import IPv6Address

from cellwall.adapters.interfaces.settling import stand_in
from cellwall.adapters.netlink.nlattr import attribute, attribute_u32
from cellwall.adapters.netlink.rtnetlink import (
    IFA_F_NODAD,
    IFA_F_NOPREFIXROUTE,
    IFF_UP,
    IFLA_ADDRESS,
    IFLA_MTU,
    NO_GENERATED_ADDRESS,
    RTM_NEWADDR,
    RTM_NEWNEIGH,
    RTM_SETLINK,
    address_message,
    index_of,
    link_header,
    link_message,
    neighbour_message,
    open_route_socket,
    route_message,
)
from cellwall.adapters.netlink.sockets import NLM_F_CREATE, NLM_F_REPLACE, Message, Netlink
from cellwall.adapters.sandbox.netns import entered
from cellwall.engine.contracts import SandboxPlan
from cellwall.errors import KernelError, NotFound
from cellwall.model.addresses import Address

_LOOPBACK = 1  # the first link of every namespace (include/linux/netdevice.h, LOOPBACK_IFINDEX)
_SIOCGIFHWADDR = 0x8927  # linux/sockios.h
_PUT = NLM_F_CREATE | NLM_F_REPLACE


def configure_sandbox(plan: SandboxPlan, netns_fd: int) -> None:
    """Bring the interface up with everything it needs. Idempotent. NotFound where the interface is missing."""
    with entered(netns_fd), open_route_socket() as route:
        index = index_of(route, plan.ifname)
        if not index:
            raise NotFound(f"no interface {plan.ifname} inside the sandbox")
        if plan.address6 is None:
            _set_disable_ipv6(plan.ifname, "1")
        messages = _messages(plan, index)
        if plan.mac is not None and plan.mac != _mac_of(route, plan.ifname):
            messages.insert(0, _mac_message(index, plan.mac))  # which forgets all neighbours, so only where it must
        operation = f"configure {plan.ifname} in the sandbox"
        try:
            route.transact(messages, operation)
        except KernelError as error:
            # EACCES: the sandbox's own defaults have IPv6 off. Asked last, so that the usual case pays nothing.
            if error.errno != errno.EACCES or plan.address6 is None:
                raise
            _set_disable_ipv6(plan.ifname, "0")
            route.transact(messages, operation)


def set_inner_mtu(ifname: str, netns_fd: int, mtu: int) -> None:
    """Resize the interface inside; tolerates absence."""
    with entered(netns_fd), open_route_socket() as route:
        try:
            route.transact([mtu_message(socket.if_nametoindex(ifname), mtu)], f"resize {ifname} in the sandbox")
        except OSError:
            return


def mtu_message(index: int, mtu: int) -> Message:
    """A link's MTU; tolerates its absence."""
    absent = (errno.ENODEV,)
    return link_message(RTM_SETLINK, link_header(index), attribute_u32(IFLA_MTU, mtu), what="MTU", tolerate=absent)


def _mac_message(index: int, mac: int) -> Message:
    return link_message(RTM_SETLINK, link_header(index), attribute(IFLA_ADDRESS, mac.to_bytes(6, "big")), what="MAC")


def _mac_of(route: Netlink, ifname: str) -> int:
    """0 where the interface is gone."""
    try:
        answer = fcntl.ioctl(route.fileno(), _SIOCGIFHWADDR, struct.pack("16s24x", ifname.encode()))
    except OSError:
        return 0
    return int.from_bytes(answer[18:24], "big")  # struct ifreq: the name, then a struct sockaddr


def _messages(plan: SandboxPlan, index: int) -> list[Message]:
    """In the order in which they depend on each other: routes need the link up, and it comes up silent."""
    up = link_header(index, flags=IFF_UP, change=IFF_UP)
    loopback = link_header(_LOOPBACK, flags=IFF_UP, change=IFF_UP)
    messages = [
        link_message(
            RTM_SETLINK, link_header(index), NO_GENERATED_ADDRESS, what="silence", tolerate=(errno.EAFNOSUPPORT,)
        ),
        link_message(RTM_SETLINK, loopback, what="loopback"),
        link_message(RTM_SETLINK, up, what="link"),
    ]
    mac = plan.gateway_mac
    messages += _family(index, plan.address4, plan.prefixlen4, plan.gateway4, mac)
    if plan.address6 is not None and plan.gateway6 is not None:
        messages += _family(index, plan.address6, plan.prefixlen6, plan.gateway6, mac)
        messages.append(stand_in(index, plan.address6))
    return messages


def _family(index: int, address: Address, prefixlen: int, gateway: Address, mac: int) -> list[Message]:
    v6 = isinstance(address, IPv6Address)
    family = socket.AF_INET6 if v6 else socket.AF_INET
    flags = IFA_F_NOPREFIXROUTE | (IFA_F_NODAD if v6 else 0)
    name = "IPv6" if v6 else "IPv4"
    return [
        address_message(RTM_NEWADDR, index, address, prefixlen, flags=_PUT, ifa_flags=flags, what=f"{name} address"),
        neighbour_message(RTM_NEWNEIGH, index, gateway, mac, flags=_PUT, what=f"{name} neighbour"),
        route_message(index, gateway, None, family=family, flags=_PUT, what=f"{name} gateway route"),
        route_message(index, None, gateway, family=family, flags=_PUT, what=f"{name} default route"),
    ]


def _set_disable_ipv6(ifname: str, value: str) -> None:
    """The interface's own switch: the rules of a node that cannot filter IPv6 rest on it. Only a kernel without
    IPv6 may lack it."""
    try:
        descriptor = os.open(f"/proc/sys/net/ipv6/conf/{ifname}/disable_ipv6", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        raise KernelError(error.errno or errno.EIO, f"disable_ipv6 of {ifname}") from error
    try:
        os.write(descriptor, value.encode())
    except OSError as error:
        raise KernelError(error.errno or errno.EIO, f"disable_ipv6 of {ifname}") from error
    finally:
        os.close(descriptor)
