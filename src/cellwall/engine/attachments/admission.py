"""Whether requests may be carried out as the record is: what is taken, by whom, and what is there already.

Pure but for those whom nobody is behind any more: a live request that would lose to one of them has it detached.
"""

import errno
from collections.abc import Callable, Sequence
from typing import TypeVar

from cellwall.engine.attachments.dead import evict_abandoned, evict_dead
from cellwall.engine.requests import AttachRequest
from cellwall.engine.site import Foundation, Site
from cellwall.errors import AlreadyExists, Conflict, Exhausted, InvalidSpec, KernelError, Taken
from cellwall.model.addresses import mac_text
from cellwall.model.endpoint import AUTO, Endpoint, EndpointKey, PortBinding
from cellwall.model.policy import OPEN

T = TypeVar("T")

MAX_BRIDGE_PORTS = 1023
"""BR_MAX_PORTS less one (net/bridge/br_private.h: 10 bits, port 0 is none)."""


def free_ports(site: Site, held: tuple[int, int] | None = None) -> int:
    """How many more there may be at least: the link of a closed endpoint is one until it is deleted. `held`: as the
    journal has it, for who has asked."""
    return MAX_BRIDGE_PORTS - sum(held or site.journal.held())


def full_bridge(site: Site) -> Exhausted:
    """What to say where there is none."""
    return Exhausted(f"network.bridge: {site.settings.network.bridge}: a bridge has {MAX_BRIDGE_PORTS} ports")


def refuse_twins(requests: Sequence[AttachRequest]) -> None:
    """Two requests of one batch must not be one endpoint, nor share an address, a MAC or a port."""
    keys: set[EndpointKey] = set()
    for field, values in (
        ("ip", [request.address4 for request in requests]),
        ("mac", [request.mac for request in requests]),
    ):
        given = [value for value in values if value is not None]
        if len(set(given)) != len(given):
            raise InvalidSpec(field, ", ".join(map(str, given)), "one value is asked for twice in one batch")
    bindings: list[PortBinding] = []
    for request in requests:
        if request.key in keys:
            raise InvalidSpec("container id", str(request.key), "is asked for twice in one batch")
        keys.add(request.key)
        bindings += request.bindings
    if bindings and len(requests) > 1:
        from cellwall.model.published import validate_together  # here and not above: most attaches publish nothing

        validate_together(bindings)


def living_endpoint(site: Site, request: AttachRequest) -> Endpoint | None:
    """The endpoint of this key; one that nobody is behind is detached, and who comes has what was reserved for it."""
    coming = [(request.container_id, request.tenant or "")]
    evict_abandoned(site, request.container_id, coming)
    row = site.journal.endpoint(request.key)
    return None if row is None or evict_dead(site, request.key, coming) else row[0]


def existing_endpoint(site: Site, request: AttachRequest) -> Endpoint | None:
    """The endpoint of this key if it is attached as asked; AlreadyExists if it is not as asked."""
    endpoint = living_endpoint(site, request)
    if endpoint is None:
        return None
    if request.user is not None and endpoint.tenant != request.tenant:
        raise AlreadyExists(f"container id: {request.key}: is taken")  # by whom is not this user's to know
    same_place = (
        endpoint.owns_netns
        if request.netns is None
        else site.namespaces.identity_of(request.netns) == (endpoint.netns_device, endpoint.netns_inode)
    )
    if not same_place:
        raise AlreadyExists(f"container id: {request.key}: is attached to {endpoint.netns}")
    asked = (
        request.tenant in (None, endpoint.tenant)
        and request.address4 in (None, endpoint.address4)
        and request.address6 in (None, endpoint.address6)
        and request.mac in (None, endpoint.mac)
        and (not request.bindings or set(request.bindings) == set(endpoint.bindings))
        and request.policy in (None, endpoint.tiers.endpoint)
    )
    if not asked:
        raise AlreadyExists(f"container id: {request.key}: is attached already, with other parameters")
    _refuse_unopened(site, endpoint)
    return endpoint


def _refuse_unopened(site: Site, endpoint: Endpoint) -> None:
    """Raise KernelError (ENOENT) where a process died of its claim, and no wall has stood since: all else that was
    begun is finished before anything is asked for."""
    if site.journal.interrupted() and endpoint in site.journal.claims_left():
        raise KernelError(errno.ENOENT, f"open {endpoint.host_link}", "the wall was flushed")


def with_ports(site: Site, requests: Sequence[AttachRequest], place: Callable[[Sequence[AttachRequest]], T]) -> T:
    """What `place` gives for the requests with a port for each binding that would have any: those that the endpoint has
    by now, for who asks again, else free ones. What it refuses leaves no port reserved that was not before."""
    if not any(binding.host_port == AUTO for request in requests for binding in request.bindings):
        return place(requests)
    from cellwall.engine.ports.auto_ports import requests_with_ports  # here and not above: most publish nothing
    from cellwall.engine.ports.reservations import taken_back_if_refused

    with taken_back_if_refused(site):
        return place(requests_with_ports(site, requests))


def refuse_beyond_share(site: Site, requests: Sequence[AttachRequest]) -> None:
    """Raise InvalidSpec or Exhausted for what is not for somebody who is not root."""
    if any(request.user is not None for request in requests):
        from cellwall.engine.attachments.shares import (  # here and not above: most are root's
            refuse_last_quarter,
            refuse_own_ports,
        )

        refuse_last_quarter(site, requests, MAX_BRIDGE_PORTS)
        refuse_own_ports(site, [one for request in requests if request.user is not None for one in request.bindings])


def refuse_taken(site: Site, found: Foundation, requests: Sequence[AttachRequest]) -> None:
    """Raise Conflict where somebody else holds a MAC or a host port of these."""
    for request in requests:
        if request.mac is not None:
            _refuse_worn(site, request.mac)
        if request.bindings:
            _refuse_published(site, found, request)
    bindings = [binding for request in requests for binding in request.bindings]
    if any(binding.proxy for binding in bindings):
        from cellwall.engine.ports.led import refuse_more_proxies  # as below

        asked = [(one.tenant or one.key, binding, one.user) for one in requests for binding in one.bindings]
        refuse_more_proxies(site, asked)
    if bindings:
        # here and not above: most attaches publish nothing
        from cellwall.engine.ports.bind_addresses import refuse_strange_addresses
        from cellwall.engine.ports.captures import refuse_captures

        refuse_captures(site, found, bindings, ipv6=found.ipv6)
        refuse_strange_addresses(site, bindings)
    if any(binding.proxy for binding in bindings):
        from cellwall.engine.ports.led import refuse_unserved  # as above

        refuse_unserved(site, bindings)


def _refuse_worn(site: Site, mac: int) -> None:
    """Raise Conflict where another endpoint has this MAC."""
    holder = site.journal.mac_holder(mac)
    if holder is not None and not evict_dead(site, holder):
        raise Taken(f"mac: {mac_text(mac)}", "belongs to", holder.container_id)


def _refuse_published(site: Site, found: Foundation, request: AttachRequest) -> None:
    """Raise Conflict where a host port is somebody else's, or reserved for another, or where its proxy would lead to
    addresses that sandboxes have not got."""
    from cellwall.engine.ports.reservations import refuse_reserved  # here and not above: most attaches publish nothing

    for binding in request.bindings:
        refuse_bound(site, binding)
    refuse_reserved(site, request.container_id, request.tenant or "", request.bindings)
    for binding in request.bindings:
        if binding.proxy == 4 and not found.ipv6:
            raise Conflict(f"expose.proxy: {binding}: sandboxes of this node have no IPv6")


def refuse_bound(site: Site, binding: PortBinding) -> None:
    """Raise Conflict where another endpoint holds one of the host ports."""
    while (holder := site.journal.binding_holder(binding)) is not None:
        if evict_dead(site, holder):
            continue
        raise Taken(f"expose.host_port: {binding}", "is taken by", holder.container_id)


def refuse_full_tenants(site: Site, requests: Sequence[AttachRequest]) -> None:
    """Raise Exhausted where a tenant would have more endpoints, or policies of theirs, than one has room for. Before
    they are on record: room is made for what finds no address, and no room helps against this."""
    for tenant in {request.tenant for request in requests if request.tenant}:
        known, new = site.journal.policies.get(tenant), [request for request in requests if request.tenant == tenant]
        own = [request.policy for request in new if request.policy is not None]
        if known is None and not own:
            continue
        # Here and not above: most tenants have no policy.
        from cellwall.engine.policies.totals import policy_total, refuse_total

        endpoints = site.journal.count_of(tenant) + len(new)
        all_own = [*site.journal.own_policies_of(tenant).values(), *own]
        refuse_total(tenant, policy_total(known.policy if known else OPEN, endpoints, all_own))
