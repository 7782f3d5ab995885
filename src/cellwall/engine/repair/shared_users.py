"""Sandboxes whose network namespace belongs to the node's user namespace.

The kernel numbers the node's network namespace inside every sandbox, as where the other end of its veth is, and lets
who has CAP_NET_ADMIN in the user namespace that owns it act there by that number (net/core/rtnetlink.c,
rtnl_get_net_ns_capable). No rule sees any of that, so it is for the runtime to give no such capability.
"""

from collections.abc import Sequence

from cellwall.engine.site import Site
from cellwall.errors import CellwallError
from cellwall.model.endpoint import Endpoint

_NAMED = 5


def shared_users(site: Site, endpoints: Sequence[Endpoint]) -> tuple[str, ...]:
    """A line that says how many these are, and some of them by name; none where each has users of its own."""
    shared = [str(endpoint.key) for endpoint in endpoints if _shared(site, endpoint)]
    if not shared:
        return ()
    names = ", ".join(shared[:_NAMED]) + (", …" if len(shared) > _NAMED else "")
    count = "1 sandbox shares" if len(shared) == 1 else f"{len(shared)} sandboxes share"
    return (f"{count} the node's user namespace, where CAP_NET_ADMIN inside is CAP_NET_ADMIN on the node: {names}",)


def _shared(site: Site, endpoint: Endpoint) -> bool:
    identity = endpoint.netns_device, endpoint.netns_inode
    try:
        with site.namespaces.attached(endpoint.netns, identity) as namespace:
            return (namespace.device, namespace.inode) == identity and site.namespaces.shares_users(namespace)
    except CellwallError:
        return False  # it is gone, and whoever could have used it
