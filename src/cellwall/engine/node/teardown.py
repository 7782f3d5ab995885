"""`down`: nothing of cellwall is left on the node but its record."""

import logging
from collections.abc import Callable

from cellwall.engine.attachments.detach import detach_endpoints, release_endpoints
from cellwall.engine.attachments.drain import collect_drained
from cellwall.engine.node.foundation import remove_foundation
from cellwall.engine.readiness import make_closable
from cellwall.engine.repair.orphans import delete_orphans
from cellwall.engine.site import Site
from cellwall.errors import CellwallError, Conflict, Incomplete

_log = logging.getLogger("cellwall")


def take_down(site: Site, *, force: bool) -> None:
    """Rules, bridge, links and settings gone; the caller holds the writer lock. Conflict while endpoints are attached,
    unless `force` detaches them. Goes on after a failure then, and raises everything that failed, as Incomplete."""
    failures: list[Exception] = []

    def try_to(step: Callable[[], object]) -> None:
        try:
            step()
        except (CellwallError, OSError) as error:
            if not force:
                raise
            failures.append(error)

    if site.journal.count():
        try_to(lambda: _detach_all(site, force=force))
    try_to(lambda: collect_drained(site))
    try_to(lambda: delete_orphans(site))
    remove_foundation(site)
    if failures:
        raise Incomplete("the node is down, but not everything could be cleaned up", failures)


def _detach_all(site: Site, *, force: bool) -> None:
    try:
        make_closable(site, in_force=False)  # no rules anew for those that go
    except (CellwallError, OSError) as error:
        if not force:
            raise
        _log.warning("%s", error)
    endpoints = site.journal.endpoints()
    claimed = [endpoint for endpoint in endpoints if not endpoint.key.pooled]
    if claimed and not force:
        many = "1 endpoint is" if len(claimed) == 1 else f"{len(claimed)} endpoints are"
        raise Conflict(f"{many} attached; detach first, or force")
    try:
        detach_endpoints(site, [endpoint.key for endpoint in endpoints])
    except Incomplete:  # closed, and released but for what it says
        raise
    except CellwallError as error:
        # Sets that do not take it, another program's: they go as a whole, and every link goes before they do.
        _log.warning("%s", error)
        release_endpoints(site, endpoints)
