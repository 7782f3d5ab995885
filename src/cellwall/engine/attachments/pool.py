"""Ready sandboxes: made whole ahead of time but that their bridge port is shut until a container claims one.

Until then one is an endpoint of nobody, under a key that no caller can name (`cellwall.model.pool`): what is done about
endpoints, by a repair, a laying, a resize or a recovery, is done about it, too. A claim gives it to a container: the
record first, as `attaching`, so that one that dies is taken back like an attach; then the elements that its tenant,
policy or ports add; the link last. One that comes alone is on record as `claiming`, in the only transaction that it
takes, and is finished where it dies. Nobody has a sandbox twice: one that was claimed ends with its container.
"""

from collections.abc import Sequence
from contextlib import ExitStack

import msgspec

from cellwall.engine.attachments.admission import (
    existing_endpoint,
    free_ports,
    refuse_beyond_share,
    refuse_full_tenants,
    refuse_taken,
    refuse_twins,
)
from cellwall.engine.attachments.attach import place_endpoints, ready_for_policies, tenant_number_of, tiers_of
from cellwall.engine.attachments.dead import evict_abandoned, vanished
from cellwall.engine.attachments.detach import detach_endpoints
from cellwall.engine.attachments.drain import collect_drained
from cellwall.engine.ports.former_flows import end_former_flows
from cellwall.engine.requests import AttachRequest, validate_request
from cellwall.engine.site import Foundation, Site
from cellwall.model.endpoint import Endpoint, EndpointKey
from cellwall.model.policy import NO_TIERS, Tiers
from cellwall.model.pool import pooled_key, room

_NUMBER = "pool"
_IFNAME = "eth0"


def fill_pool(site: Site, found: Foundation, wanted: int) -> int:
    """Make so many more, in one transaction, or as many as there is room for; returns how many. The caller holds the
    writer lock, and the foundation holds."""
    count = _room(site, wanted)
    if count < wanted and collect_drained(site):
        count = _room(site, wanted)
    if not count:
        return 0
    with site.journal.transaction():  # beforehand: no two of one boot have a number, and with it a namespace's name
        first = int(site.journal.get(_NUMBER) or b"0")
        site.journal.put(_NUMBER, str(first + count).encode())
    keys = [pooled_key(first + number) for number in range(count)]
    place_endpoints(site, found, [AttachRequest(key.container_id, ifname=_IFNAME) for key in keys])
    return count


def _room(site: Site, wanted: int) -> int:
    taken = len(site.journal.leased()) + len(site.journal.draining.addresses())
    free = min(site.settings.network.subnet4.num_addresses - 4 - taken, free_ports(site))
    return room(free, wanted, site.journal.pooled_count())


def end_ready(site: Site, count: int) -> None:
    """End so many ready sandboxes, the latest first."""
    detach_endpoints(site, [endpoint.key for endpoint in reversed(site.journal.pooled())][:count])


def claim_endpoints(site: Site, found: Foundation, requests: Sequence[AttachRequest]) -> tuple[Endpoint, ...]:
    """Attach every request or none, as `attach_endpoints` does, each to a ready sandbox where there is one and it is
    all that the request needs."""
    for request in requests:
        validate_request(request, site.settings)
    refuse_twins(requests)
    found = ready_for_policies(site, found, requests)
    made: dict[EndpointKey, Endpoint] = {}
    for request in requests:
        existing = existing_endpoint(site, request)
        if existing is not None:
            made[request.key] = existing
    fresh = [request for request in requests if request.key not in made]
    with ExitStack() as undo:
        ready = _ready(site, sum(map(_fits, fresh)))
        pairs = list(zip(filter(_fits, fresh), ready, strict=False))
        if pairs:
            made |= {endpoint.key: endpoint for endpoint in _claim(site, found, pairs, undo)}
        rest = [request for request in fresh if request.key not in made]
        if rest:
            made |= {endpoint.key: endpoint for endpoint in place_endpoints(site, found, rest)}
        undo.pop_all()
    return tuple(made[request.key] for request in requests)


def claim_at_once(site: Site, request: AttachRequest) -> Endpoint | None:
    """What `claim_endpoints` gives for one that asks for nothing but a ready sandbox, where there is one, of a tenant
    without a policy; None, and nothing was written, where that is not all, or it is on record already.

    In one transaction, by which its row is `claiming` until the next one is written. Only for who is a node's one
    writer and has its turn, on a node that stands: another would take such a claim for interrupted."""
    validate_request(request, site.settings)
    if not _fits(request) or request.bindings or request.policy is not None:
        return None
    found = site.journal.claimable(request.key, request.tenant or "")  # it asks for nothing that another could have
    if found is None or not _stands(site, found[0]):
        return None
    # Of another interface: nothing is written where this gives None.
    evict_abandoned(site, request.container_id, [(request.container_id, request.tenant or "")])
    refuse_beyond_share(site, [request])
    endpoint, number = found
    claimed = _claimed(request, endpoint, NO_TIERS, endpoint.generation if number is None else number)
    with ExitStack() as undo:
        with site.journal.transaction():
            site.journal.rename_endpoint(endpoint.key, claimed, "claiming")
        _let_in(site, [endpoint], [claimed], undo)
        site.journal.finish_claims([claimed.key])
        undo.pop_all()
    return claimed


def _fits(request: AttachRequest) -> bool:
    """A ready sandbox has all that it names."""
    own = (request.netns, request.address4, request.address6, request.mac)
    return request.ifname == _IFNAME and own == (None, None, None, None)


def _ready(site: Site, count: int) -> list[Endpoint]:
    """So many ready sandboxes, the oldest first, or all there are. One whose namespace or link somebody took away is
    ended."""
    ready: list[Endpoint] = []
    while len(ready) < count:
        found = site.journal.pooled(count)
        lost = [endpoint for endpoint in found if not _stands(site, endpoint) or vanished(site, endpoint)]
        if not lost:
            return [*found]
        detach_endpoints(site, [endpoint.key for endpoint in lost])
    return ready


def _stands(site: Site, endpoint: Endpoint) -> bool:
    return site.namespaces.identity_of_own(endpoint.netns) == (endpoint.netns_device, endpoint.netns_inode)


def _claim(
    site: Site, found: Foundation, pairs: Sequence[tuple[AttachRequest, Endpoint]], undo: ExitStack
) -> list[Endpoint]:
    requests = [request for request, _ in pairs]
    refuse_beyond_share(site, requests)
    refuse_taken(site, found, requests)
    refuse_full_tenants(site, requests)
    under = [tiers_of(site, request.tenant, request.policy) for request in requests]
    former, claimed = [endpoint for _, endpoint in pairs], list[Endpoint]()
    with site.journal.transaction():
        for (request, endpoint), tiers in zip(pairs, under, strict=True):
            number = tenant_number_of(site, request, endpoint.generation)  # the first's is on record for the second
            claimed.append(_claimed(request, endpoint, tiers, number))
            site.journal.rename_endpoint(endpoint.key, claimed[-1], "attaching")
    _let_in(site, former, claimed, undo)
    with site.journal.transaction():
        site.journal.set_phase([endpoint.key for endpoint in claimed], "attached")
    return claimed


def _let_in(site: Site, former: Sequence[Endpoint], claimed: Sequence[Endpoint], undo: ExitStack) -> None:
    """Packets of these, which are on record by now, pass when this returns."""
    coming = [(one.key.container_id, one.tenant) for one in claimed]
    undo.callback(detach_endpoints, site, [one.key for one in claimed], coming)  # nobody gets one that somebody had
    site.change(former, claimed)
    for endpoint in claimed:
        site.links.let_in(site.settings.network.bridge, endpoint.host_index, endpoint.host_link, endpoint.mac)
    end_former_flows(site, [(endpoint, binding) for endpoint in claimed for binding in endpoint.bindings])


def _claimed(request: AttachRequest, endpoint: Endpoint, tiers: Tiers, number: int) -> Endpoint:
    return msgspec.structs.replace(
        endpoint,
        key=request.key,
        tenant=request.tenant or "",
        bindings=request.bindings,
        tiers=tiers,
        tenant_number=number,
        member=request.user is not None,
    )
