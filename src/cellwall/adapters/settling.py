"""An IPv6 address that answers when it was given, and not a moment later.

The kernel lets a worker put in the local route of a new address, also of one without duplicate address detection
(net/ipv6/addrconf.c, addrconf_dad_start to addrconf_dad_completed). Until then what is sent to the address vanishes:
on a busy machine one new sandbox in thirty lost the first packet to it, and a client waits a second for its next try.
There is no request that makes the worker's work be done, but one that tells whether it was.
"""

import errno
import os
import time
from collections.abc import Iterable
from ipaddress import IPv6Address

from cellwall.adapters.netlink import Netlink
from cellwall.adapters.rtnetlink import RTN_LOCAL, get_route_to, route_header

_YIELDS = 3
_PAUSE = 0.0002
_ATTEMPTS = 100
_NONE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL, errno.ENODEV)


def await_addresses(route: Netlink, index: int, addresses: Iterable[IPv6Address]) -> None:
    """Return when each address of an interface is answered for, or after 20 ms where the kernel does not get there. The
    worker waits for this processor as a rule, and has done its work when it is given it."""
    for address in addresses:
        for attempt in range(_ATTEMPTS):
            found = route.transact([get_route_to(index, address, tolerate=_NONE)], f"look for {address}")
            if found and route_header(found[0].body)[7] == RTN_LOCAL:
                break
            if attempt < _YIELDS:
                os.sched_yield()
            else:
                time.sleep(_PAUSE)
