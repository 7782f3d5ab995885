"""Endpoints that nobody detached although nobody is behind them any more: the sandbox is gone, or the process that
attached for its own lifetime.

Reconcile detaches them, status names the latter, and a live request that would lose to one of them, over a name, an
address, a MAC or a port, has it detached on its way.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cellwall.engine.attachments.detach import Coming, detach_endpoints
from cellwall.engine.site import Site
from cellwall.model.endpoint import Endpoint, EndpointKey

if TYPE_CHECKING:
    from cellwall.engine.record import Owner


def vanished(site: Site, endpoint: Endpoint) -> bool:
    """Its host link is gone, so its namespace is: the kernel deletes a pair with the namespace of either end. A path
    that no longer leads anywhere says less: a namespace lives as long as anybody holds it."""
    index = site.links.index_of(endpoint.host_link)
    return index == 0 or index != endpoint.host_index


def evict_dead(site: Site, key: EndpointKey, coming: Coming = ()) -> bool:
    """Detach an endpoint that nobody is behind; False where it is alive. The caller holds the writer lock."""
    row = site.journal.endpoint(key)
    if row is None:
        return False
    if key.pooled or vanished(site, row[0]):
        return detach_endpoints(site, [key], coming) == 1
    return bool(evict_abandoned(site, key.container_id, coming))


def detach_vanished(site: Site) -> tuple[Endpoint, ...]:
    """Detach every endpoint whose sandbox is gone; which they were."""
    gone = tuple(endpoint for endpoint in site.journal.endpoints("attached") if vanished(site, endpoint))
    detach_endpoints(site, [endpoint.key for endpoint in gone])
    return gone


def evict_abandoned(site: Site, container_id: str = "", coming: Coming = ()) -> list[str]:
    """Detach what belonged to a process that died, this container or all; what was detached, a line each. Who attaches
    a name calls this first, whether or not it is attached: what the dead process left would be held against the new
    endpoint."""
    owners = site.owners.abandoned(container_id)
    lines = []
    try:
        for owner in owners:
            keys = [endpoint.key for endpoint in _attached_by(site, [owner])]
            if keys:
                detach_endpoints(site, keys, coming)
                lines.append(f"detached {owner.container_id}: the process that ran it is gone")
            owner.forget()
    finally:
        for owner in owners:
            owner.release()
    return lines


def abandoned_endpoints(site: Site) -> tuple[Endpoint, ...]:
    """Those that `evict_abandoned` would detach; touches nothing."""
    owners = site.owners.abandoned()
    for owner in owners:
        owner.release()
    return _attached_by(site, owners)


def _attached_by(site: Site, owners: "Sequence[Owner]") -> tuple[Endpoint, ...]:
    names = {owner.container_id for owner in owners}
    if not names:
        return ()
    return tuple(endpoint for endpoint in site.journal.endpoints("attached") if endpoint.key.container_id in names)
