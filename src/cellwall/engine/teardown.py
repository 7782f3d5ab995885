"""`down`: nothing of cellwall is left on the node but its record."""

from cellwall.engine.detach import detach_endpoints
from cellwall.engine.drain import collect_drained
from cellwall.engine.foundation import remove_foundation
from cellwall.engine.orphans import delete_orphans
from cellwall.engine.readiness import make_closable
from cellwall.engine.site import Site
from cellwall.errors import Conflict


def take_down(site: Site, *, force: bool) -> None:
    """Rules, bridge, links and settings gone; the caller holds the writer lock. Conflict while endpoints are attached,
    unless `force` detaches them."""
    if site.journal.count():
        _detach_all(site, force=force)
    collect_drained(site)
    delete_orphans(site)
    remove_foundation(site)


def _detach_all(site: Site, *, force: bool) -> None:
    make_closable(site)
    endpoints = site.journal.endpoints()
    if endpoints and not force:
        many = "1 endpoint is" if len(endpoints) == 1 else f"{len(endpoints)} endpoints are"
        raise Conflict(f"{many} attached; detach first, or force")
    detach_endpoints(site, [endpoint.key for endpoint in endpoints])
