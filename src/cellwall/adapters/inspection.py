"""What a sandbox's interface looks like now: whoever is root inside may have changed it."""

import errno
import socket

from cellwall.adapters.netns import entered
from cellwall.adapters.routes import default_interface, read_routes
from cellwall.adapters.rtnetlink import get_addresses, get_link, get_routes, open_route_socket, read_address, read_link
from cellwall.engine.contracts import ObservedSandbox
from cellwall.errors import KernelError


def inspect_sandbox(ifname: str, netns_fd: int) -> ObservedSandbox | None:
    """See `Links.inspect_sandbox`."""
    with entered(netns_fd), open_route_socket() as route:
        try:
            link = read_link(route.transact([get_link(ifname)], f"read {ifname} in the sandbox")[-1])
        except KernelError as error:
            if error.errno != errno.ENODEV:
                raise
            return None
        found = [read_address(reply) for reply in route.dump(get_addresses(), "read the sandbox's addresses")]
        defaults = {
            4 if family == socket.AF_INET else 6: default_interface(
                read_routes(route.dump(get_routes(family), "read the sandbox's routes"), family)
            )
            for family in (socket.AF_INET, socket.AF_INET6)
        }
    return ObservedSandbox(
        mac=link.mac,
        up=link.up,
        mtu=link.mtu,
        addresses=tuple(address for index, address, _ in found if index == link.index),
        default_routes=tuple(version for version, index in defaults.items() if index == link.index),
    )
