"""As many descriptors as this process may have, and no more connections than that leaves room for.

A service starts with 1,024, which is what old programs can count to, and may raise that by itself. What is not enough
even so bounds the connections: a process without a descriptor to spare neither reads the node nor lets root in.
"""

import resource

import msgspec

from cellwall.daemon.bounds import Bounds
from cellwall.model.proxied import most_proxied
from cellwall.model.reserved import most_reserved

_OWN = 256
"""What is left for sockets, files and programs of the daemon itself."""


def with_room(bounds: Bounds) -> Bounds:
    """The bounds with no more connections than there may be descriptors for. Raises the limit of this process."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return within(bounds, most)


def within(bounds: Bounds, descriptors: int) -> Bounds:
    """The bounds where there may be so many descriptors."""
    if descriptors == resource.RLIM_INFINITY:
        return bounds
    ports = 2 * most_reserved(descriptors) + most_proxied(descriptors)
    room = max(descriptors - _OWN - ports, descriptors // 4, 4)
    return msgspec.structs.replace(bounds, connections=min(bounds.connections, room))
