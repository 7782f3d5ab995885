"""Detach: the endpoint is closed at once, the rest is cleaned up behind it.

The elements go, and from there on nothing passes. Everything about links waits for the kernel's one lock over them,
which whoever cleans up a namespace holds for tens of milliseconds, and costs more the more ports the bridge has: the
next operation retires the links of closed endpoints (`cellwall.engine.attachments.drain`), and their leases drain.
"""

import errno
from collections.abc import Collection, Sequence

from cellwall.engine.contracts import PortPlan
from cellwall.engine.site import Foundation, Site
from cellwall.errors import CellwallError, Incomplete, KernelError
from cellwall.model.endpoint import Endpoint, EndpointKey

Coming = Collection[tuple[str, str]]
"""Containers, each with its tenant or "", that are about to be attached: what is reserved for them stays so."""


def port_plan(found: Foundation, endpoint: Endpoint) -> PortPlan:
    """The bridge port of an endpoint."""
    return port_on(found.bridge_index, endpoint)


def port_on(bridge_index: int, endpoint: Endpoint) -> PortPlan:
    """Its port on that bridge."""
    return PortPlan(
        host_index=endpoint.host_index,
        bridge_index=bridge_index,
        mac=endpoint.mac,
        address4=endpoint.address4,
        address6=endpoint.address6,
        shut=endpoint.key.pooled,
    )


def detach_endpoints(site: Site, keys: Sequence[EndpointKey], coming: Coming = ()) -> int:
    """Close these endpoints and let their addresses drain; returns how many there were. The caller holds the lock.
    Goes on after a failure and raises everything that failed, as Incomplete."""
    rows = [row for key in dict.fromkeys(keys) if (row := site.journal.endpoint(key)) is not None]
    endpoints = [endpoint for endpoint, _ in rows]
    if not endpoints:
        return 0
    with site.journal.transaction():
        site.journal.set_phase([endpoint.key for endpoint in endpoints], "detaching")
    finish_detach(site, endpoints, coming)
    return len(endpoints)


def finish_detach(site: Site, endpoints: Sequence[Endpoint], coming: Coming = ()) -> None:
    """What `detach_endpoints` does after its journal entry; also what recovers a detach that was killed."""
    close_endpoints(site, endpoints)
    if site.ledger is not None:
        site.ledger.part(site, endpoints)  # here: a namespace that goes takes the links along, and their figures
    release_endpoints(site, endpoints, coming)


def release_endpoints(site: Site, endpoints: Sequence[Endpoint], coming: Coming = ()) -> None:
    """What endpoints had that nothing passes any more: namespaces go, addresses drain. Incomplete for what stays."""
    failures: list[Exception] = []
    for endpoint in endpoints:
        try:
            if endpoint.owns_netns:
                site.namespaces.remove(endpoint.netns)
        except (CellwallError, OSError) as error:
            failures.append(error)
    given_back: list[int] = []
    with site.journal.transaction():
        site.journal.delete_endpoints([endpoint.key for endpoint in endpoints])
        site.journal.draining.add(endpoints)
        if site.journal.get("reserved") is not None:
            # here and not above: few have ports reserved
            from cellwall.engine.ports.reservations import strike_reserved

            given_back = strike_reserved(site, endpoints, coming)
    for port in given_back:
        site.holds().release(port)
    if failures:
        raise Incomplete("detached, but not everything could be cleaned up", failures)


def close_endpoints(site: Site, endpoints: Sequence[Endpoint]) -> None:
    """Nothing of them passes any more, from one transaction on. Where something of them is missing already (a flush, a
    crash half way), all endpoints are compared instead: the journal no longer counts these as attached. Where no wall
    was laid that could tell them apart, their links are shut."""
    try:
        site.change(endpoints, ())
    except CellwallError as error:
        if site.foundation() is None:
            from cellwall.engine.attachments.drain import (
                shut_links,  # here and not above, as below: hardly anybody needs it
            )

            shut_links(site, endpoints)
            return
        if not isinstance(error, KernelError) or error.errno != errno.ENOENT:
            raise
        from cellwall.engine.policies.versions import repair_endpoints

        repair_endpoints(site)
