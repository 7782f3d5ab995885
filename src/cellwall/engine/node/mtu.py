"""How wide the links are: as the node interface, or as configured; and how all of them follow when that changes.

A link wider than the node interface would lose what does not fit where the ICMP error that says so is lost. So the
bridge and both ends of every pair have the node interface's MTU, from the attach on. The inner end is the sandbox's
to change: it is told the MTU once, and not compared.
"""

import logging
from collections.abc import Sequence

from cellwall.engine.contracts import ObservedLink
from cellwall.engine.site import Foundation, Site
from cellwall.errors import CellwallError
from cellwall.model.endpoint import Endpoint

_log = logging.getLogger("cellwall")


def resize_endpoints(site: Site, endpoints: Sequence[Endpoint], mtu: int, *, wider: bool) -> None:
    """Both ends of these pairs. What receives is widened before what sends, and narrowed after it, so that no frame
    in between is too long for its receiver. A sandbox that is gone is passed by."""
    for endpoint in endpoints:
        if wider:
            site.links.set_mtu(endpoint.host_index, endpoint.host_link, mtu)
        try:
            with site.namespaces.opened(endpoint.netns) as namespace:
                if (namespace.device, namespace.inode) == (endpoint.netns_device, endpoint.netns_inode):
                    site.links.set_inner_mtu(endpoint.key.ifname, namespace.fd, mtu)
        except (CellwallError, OSError) as error:
            _log.warning("MTU of %s inside the sandbox: %s", endpoint.key, error)
        if not wider:
            site.links.set_mtu(endpoint.host_index, endpoint.host_link, mtu)


def repair_mtu(site: Site, found: Foundation, endpoint: Endpoint, link: ObservedLink | None) -> None:
    """A host end that somebody resized gets its MTU back, and its peer with it."""
    if link is not None and link.mtu != found.mtu:
        resize_endpoints(site, [endpoint], found.mtu, wider=link.mtu < found.mtu)
