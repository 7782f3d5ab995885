"""An IPv6 address that answers when it was given, and not a moment later.

The kernel lets a worker put in the local route of a new address, also of one without duplicate address detection
(net/ipv6/addrconf.c, addrconf_dad_start to addrconf_dad_completed). Until then what is sent to the address vanishes,
and a client waits a second for its next try. The worker waits for the lock of all links, which whoever ends many
namespaces holds for long: it was 0.03 ms late as a rule, 4.5 ms once in a hundred, and 325 ms on a machine that was
hardly busy, so no wait for it is short and long enough. There is no request that makes its work be done.

So the address gets a local route of ours beside the one to come. The kernel's goes before it (its metric is 0, that of
a route that is asked for 1024), and when ours ends nobody notices. It ends by itself, so that an address which
is taken away is not answered for any longer than that.
"""

from ipaddress import IPv6Address

from cellwall.adapters.netlink.rtnetlink import local_route
from cellwall.adapters.netlink.sockets import NLM_F_CREATE, NLM_F_REPLACE, Message

_SECONDS = 60
"""Long after the latest worker."""


def stand_in(index: int, address: IPv6Address) -> Message:
    """What has an address answered for that was just given to a link, which is up. Idempotent."""
    return local_route(index, address, _SECONDS, flags=NLM_F_CREATE | NLM_F_REPLACE, what=f"local route of {address}")
