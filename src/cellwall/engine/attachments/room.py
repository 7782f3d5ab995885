"""Room for more endpoints: addresses and bridge ports that are held by nobody who needs them.

What is closed already goes first, then what nobody is behind any more, and last the sandboxes that stand ready for who
has not come yet: a pool is there to be quick, and never why an attach is refused.
"""

from collections.abc import Container

from cellwall.engine.attachments.admission import free_ports, full_bridge
from cellwall.engine.attachments.dead import detach_vanished, evict_abandoned
from cellwall.engine.attachments.detach import detach_endpoints
from cellwall.engine.attachments.drain import collect_drained
from cellwall.engine.site import Site
from cellwall.model.endpoint import EndpointKey


def ensure_ports(site: Site, wanted: int) -> None:
    """Raise Exhausted where the bridge has no room for so many more ports, whatever is taken back."""
    collect_drained(site)  # enough as a rule, and does not ask after each of a thousand attached ones
    while free_ports(site) < wanted:
        if not make_room(site, wanted):
            raise full_bridge(site)


def make_room(site: Site, wanted: int) -> int:
    """Take back what closed endpoints still hold, and those that nobody is behind any more; where that is nothing, so
    many ready sandboxes. Returns how many addresses came free; 0: there is nothing more to take back."""
    detach_vanished(site)
    evict_abandoned(site)
    return collect_drained(site) or give_back(site, wanted)


def give_back(site: Site, count: int) -> int:
    """End so many ready sandboxes, the latest first; returns how many addresses came free."""
    keys = [endpoint.key for endpoint in reversed(site.journal.pooled())][:count]
    return _end(site, keys)


def free_addresses(site: Site, addresses: Container[int]) -> None:
    """Whatever holds one of these and can be taken back."""
    _end(site, [endpoint.key for endpoint in site.journal.pooled() if int(endpoint.address4) in addresses])
    make_room(site, 0)


def _end(site: Site, keys: list[EndpointKey]) -> int:
    if not keys:
        return 0
    detach_endpoints(site, keys)
    return collect_drained(site)
