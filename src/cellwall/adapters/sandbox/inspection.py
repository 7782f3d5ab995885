"""What a sandbox's interface looks like now: whoever is root inside may have changed it.

Whoever is root inside may also have filled its tables, and what it filled them with is nobody's business: of each only
the beginning is read. The kernel lists IPv4's default routes first, and IPv6's last, so where that has no end it is
asked for a route to where only a default one leads. An address before which thousands were put is a finding, as if it
were gone.
"""

import errno
import socket
from ipaddress import IPv6Address

from cellwall.adapters.netlink.rtnetlink import (
    get_addresses,
    get_link,
    get_next_hops,
    get_routes,
    match_route,
    open_route_socket,
    read_address,
    read_link,
)
from cellwall.adapters.netlink.sockets import Message, Reply
from cellwall.adapters.node.routes import default_interface, led_by_objects, read_next_hops, read_routes
from cellwall.adapters.sandbox.netns import entered
from cellwall.engine.contracts import ObservedSandbox
from cellwall.errors import KernelError

_FAMILIES = {socket.AF_INET: 4, socket.AF_INET6: 6}
_MOST = 4096
_NOWHERE = IPv6Address("4000::1")  # no unicast address is assigned there (RFC 4291 2.4, IANA's registry)


def _default(family: int) -> int:
    replies = _beginning(get_routes(family), "read the sandbox's routes")
    found = _led_to(replies, family)
    if found or len(replies) < _MOST or family != socket.AF_INET6:
        return found
    with open_route_socket() as route:
        return _led_to(route.transact([match_route(_NOWHERE)], "ask for a default route"), family)


def _led_to(replies: list[Reply], family: int) -> int:
    """The interface of the default route; next-hop objects are asked about where a route names one."""
    named = led_by_objects(replies)
    objects = read_next_hops(_beginning(get_next_hops(), "read the sandbox's next hops")) if named else {}
    return default_interface(read_routes(replies, (family,), objects))


def _beginning(message: Message, operation: str) -> list[Reply]:
    with open_route_socket() as route:
        return route.beginning(message, operation, _MOST)


def inspect_sandbox(ifname: str, netns_fd: int) -> ObservedSandbox | None:
    """See `Links.inspect_sandbox`."""
    with entered(netns_fd), open_route_socket() as route:
        try:
            link = read_link(route.transact([get_link(ifname)], f"read {ifname} in the sandbox")[-1])
        except KernelError as error:
            if error.errno != errno.ENODEV:
                raise
            return None
        found = [
            read_address(reply)
            for family in _FAMILIES
            for reply in _beginning(get_addresses(link.index, family), "read the sandbox's addresses")
        ]
        defaults = {version: _default(family) for family, version in _FAMILIES.items()}
    return ObservedSandbox(
        mac=link.mac,
        up=link.up,
        mtu=link.mtu,
        addresses=tuple(address for index, address, _ in found if index == link.index),
        default_routes=tuple(version for version, index in defaults.items() if index == link.index),
    )
