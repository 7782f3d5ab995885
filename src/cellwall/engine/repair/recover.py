"""After a crash: every operation that was begun is taken back or finished, before anything else is done.

A row in phase `attaching` is taken back (its process never told anybody that it was attached), one in phase `claiming`
(it may have) or `detaching` (closing is always right) is finished, and live elements are compared with the journal as a
whole, because a dead process cannot say which of its elements it had added, nor which flows to a port that it published
or withdrew it had ended.
"""

import msgspec

from cellwall.engine.attachments.dead import vanished
from cellwall.engine.attachments.detach import finish_detach, port_plan
from cellwall.engine.policies.kept import try_to_keep_policies
from cellwall.engine.policies.versions import repair_endpoints
from cellwall.engine.ports.former_flows import end_former_flows, end_withdrawn_flows, forget_withdrawal
from cellwall.engine.site import Site
from cellwall.model.endpoint import Endpoint


def recover(site: Site) -> tuple[str, ...]:
    """Finish what others left; the caller holds the writer lock. What was repaired, a line each."""
    if not site.journal.interrupted():
        return ()
    repaired = repair_endpoints(site)
    claimed = _let_in(site)
    half_made = site.journal.endpoints("attaching")
    for endpoint in half_made:
        _take_back(site, endpoint)
    closing = site.journal.endpoints("detaching")
    if closing:
        finish_detach(site, closing)
    end_withdrawn_flows(site)
    end_former_flows(site, [(row, binding) for row in site.journal.endpoints("attached") for binding in row.bindings])
    try_to_keep_policies(site)
    with site.journal.transaction():
        site.journal.drop("pending")
        forget_withdrawal(site)
    return (
        *repaired,
        *(f"took back the half-made attachment of {endpoint.key}" for endpoint in half_made),
        *(f"finished the claim of {endpoint.key}" for endpoint in claimed),
        *(f"finished the detachment of {endpoint.key}" for endpoint in closing),
    )


def _let_in(site: Site) -> tuple[Endpoint, ...]:
    """Who was given a ready sandbox, and maybe told so, by a process that is gone. Its elements are there by now. Where
    no wall stands it waits for who lays one: nothing is opened before."""
    claimed = site.journal.claims_left()
    if not claimed or not site.backend.stands():
        return ()
    for endpoint in claimed:
        if not vanished(site, endpoint):
            site.links.let_in(site.settings.network.bridge, endpoint.host_index, endpoint.host_link, endpoint.mac)
    with site.journal.transaction():
        site.journal.set_phase([endpoint.key for endpoint in claimed], "attached")
    return claimed


def _take_back(site: Site, endpoint: Endpoint) -> None:
    """The link by name: its index was never written down. It is not draining, so it is deleted at once. What the bridge
    knows of its addresses outlives it, and is what `retire` is for."""
    link = site.links.find(endpoint.host_link)
    found = site.foundation()
    if found is not None:
        index = 0 if link is None else link.index
        site.links.retire(port_plan(found, msgspec.structs.replace(endpoint, host_index=index)), endpoint.host_link)
    if link is not None:
        site.links.delete(link)
    if endpoint.owns_netns:
        site.namespaces.remove(endpoint.netns)
    with site.journal.transaction():
        site.journal.delete_endpoints([endpoint.key])
