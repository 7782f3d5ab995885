"""Attach: journal first, kernel second, the interface up last.

A batch of requests is one journal transaction and one element transaction. What fails unwinds in reverse and leaves
nothing; what is killed leaves rows in phase `attaching`, which `cellwall.engine.repair.recover` takes back.

The order inside the kernel keeps every moment closed: the pair is made with its host end down, flags and neighbours
before any rule knows it, then its elements, then the inside, and the host end up last. An endpoint without its
elements passes nothing whatever its links do.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from ipaddress import IPv4Address

import msgspec

from cellwall.engine.attachments.admission import (
    existing_endpoint,
    free_ports,
    refuse_beyond_share,
    refuse_full_tenants,
    refuse_taken,
    refuse_twins,
)
from cellwall.engine.attachments.dead import evict_dead
from cellwall.engine.attachments.detach import port_plan
from cellwall.engine.contracts import LinkPlan, Namespace, SandboxPlan
from cellwall.engine.ports.former_flows import end_former_flows
from cellwall.engine.requests import AttachRequest, not_made_by, validate_request
from cellwall.engine.site import Foundation, Site
from cellwall.errors import (
    AlreadyExists,
    CellwallError,
    Conflict,
    Exhausted,
    Forbidden,
    InvalidSpec,
    KernelError,
    NotFound,
    Taken,
)
from cellwall.ipam import Pool
from cellwall.model.endpoint import Endpoint, EndpointKey
from cellwall.model.network import default_mac
from cellwall.model.policy import NO_TIERS, OPEN, Policy, Tiers, interned
from cellwall.names import host_link, namespace_file


class _Sandbox(msgspec.Struct, frozen=True):
    """A request with its open namespace."""

    request: AttachRequest
    namespace: Namespace


def attach_endpoints(site: Site, found: Foundation, requests: Sequence[AttachRequest]) -> tuple[Endpoint, ...]:
    """Attach every request or none; the caller holds the writer lock. Requests that are attached already, exactly as
    asked, are answered with what they have."""
    for request in requests:
        validate_request(request, site.settings)
    refuse_twins(requests)
    return place_endpoints(site, ready_for_policies(site, found, requests), requests)


def ready_for_policies(site: Site, found: Foundation, requests: Sequence[AttachRequest]) -> Foundation:
    """The foundation with rules for the policies that the requests come under, their own and their tenants': none are
    kept for a tenant without endpoints."""
    asked = {(request.tenant, request.policy) for request in requests if request.tenant or request.policy}
    tiers = {tiers_of(site, tenant, policy) for tenant, policy in asked} - {NO_TIERS}
    if not tiers:
        return found
    from cellwall.engine.policies.in_force import make_ready_for  # here and not above: most attaches have none

    return make_ready_for(site, tiers, member=any(request.user is not None for request in requests))


def place_endpoints(site: Site, found: Foundation, requests: Sequence[AttachRequest]) -> tuple[Endpoint, ...]:
    """`attach_endpoints` of requests that are valid, on a node that is ready for their policies."""
    made: dict[EndpointKey, Endpoint] = {}
    with ExitStack() as held, ExitStack() as undo:
        sandboxes: list[_Sandbox] = []
        for request in requests:
            existing = existing_endpoint(site, request)
            if existing is not None:
                made[request.key] = existing
            else:
                _refuse_ipv6(found, request)
                sandboxes.append(_open(site, request, held, undo))
        if sandboxes:
            planned = _journal(site, found, sandboxes, undo)
            wired = _wire(site, found, sandboxes, planned, undo)
            with site.journal.transaction():
                site.journal.finish_attach(wired)
            made |= {endpoint.key: endpoint for endpoint in wired}
        undo.pop_all()
    return tuple(made[request.key] for request in requests)


def _refuse_ipv6(found: Foundation, request: AttachRequest) -> None:
    """An address that was asked for is given or refused, and never left out in silence."""
    if request.address6 is not None and not found.ipv6:
        raise InvalidSpec("ip", request.address6, "sandboxes of this node have no IPv6 (see the warnings of `up`)")


def _open(site: Site, request: AttachRequest, held: ExitStack, undo: ExitStack) -> _Sandbox:
    """The sandbox's namespace, made where the request names none."""
    path = request.netns
    if path is None:
        path = f"{site.netns_directory}/{namespace_file(request.key)}"
        try:
            site.namespaces.create(path)
        except AlreadyExists:
            site.namespaces.remove(path)  # under the writer lock: left by a crash, no endpoint has it
            site.namespaces.create(path)
        undo.callback(site.namespaces.remove, path)
    try:
        namespace = held.enter_context(site.namespaces.opened(path, asked=request.netns is not None))
    except CellwallError as error:
        if request.user is None:
            raise
        raise not_made_by(request.user, path) from error  # what is at a path of the node's is not theirs to learn
    holders = site.journal.in_netns(namespace.device, namespace.inode)
    if request.netns is not None and request.user is not None:
        _refuse_foreign(site, request, namespace, request.user)  # first: that one stands ready is not theirs to learn
    if request.netns is not None:
        _refuse_ready(namespace, holders)
    holder = holders.get(request.ifname)
    if holder is not None and not evict_dead(site, holder):
        raise Taken(f"netns: {path}", f"interface {request.ifname} belongs to", holder.container_id)
    return _Sandbox(request, namespace)


def _refuse_ready(namespace: Namespace, holders: Mapping[str, EndpointKey]) -> None:
    """One that stands ready is given whole to who claims it, and to nobody by its path: it would have another's
    interface, too."""
    if any(holder.pooled for holder in holders.values()):
        raise Conflict(f"netns: {namespace.path}: is of a sandbox that stands ready to be claimed")


def _refuse_foreign(site: Site, request: AttachRequest, namespace: Namespace, user: int) -> None:
    """Who is not root joins its own namespaces to its tenants, and nobody else's: not one whose path it merely knows,
    nor one that another tenant has an interface in."""
    if not site.namespaces.made_by(namespace, user):
        raise not_made_by(user, request.netns)
    here = (namespace.device, namespace.inode)
    for endpoint in site.journal.endpoints():
        if (endpoint.netns_device, endpoint.netns_inode) == here and endpoint.tenant != request.tenant:
            raise Forbidden(f"netns: {namespace.path}: another tenant has an interface in it")


def _journal(site: Site, found: Foundation, sandboxes: Sequence[_Sandbox], undo: ExitStack) -> list[Endpoint]:
    """Lease, name and number every endpoint, and put them on record before the kernel is touched."""
    held = site.journal.held()
    if free_ports(site, held) < len(sandboxes):
        from cellwall.engine.attachments.room import ensure_ports  # here and not above: most nodes have room

        ensure_ports(site, len(sandboxes))
        held = site.journal.held()
    requests = [sandbox.request for sandbox in sandboxes]
    refuse_beyond_share(site, requests)
    refuse_taken(site, found, requests)
    refuse_full_tenants(site, requests)
    asked = {int(address) for sandbox in sandboxes if (address := _asked_address(site, sandbox.request)) is not None}
    leased, draining = site.journal.leased(), site.journal.draining.addresses()
    if any(address in leased or address in draining for address in asked):
        from cellwall.engine.attachments.room import free_addresses

        free_addresses(site, asked)
        held = site.journal.held()
    while True:
        cursor = int(site.journal.get("cursor") or b"1")
        pool = Pool(site.settings.network, leased, draining, cursor, held=held)
        try:
            return _lease(site, found, sandboxes, pool, undo)
        except Exhausted:
            from cellwall.engine.attachments.room import make_room

            if not make_room(site, len(sandboxes)):
                raise
            held = site.journal.held()


def _lease(site: Site, found: Foundation, sandboxes: Sequence[_Sandbox], pool: Pool, undo: ExitStack) -> list[Endpoint]:
    with site.journal.transaction():
        generations = site.next_versions(len(sandboxes))
        addresses = [_address(site, sandbox.request, pool) for sandbox in sandboxes]
        endpoints = []
        for sandbox, address4, generation in zip(sandboxes, addresses, generations, strict=True):
            endpoints.append(_planned(site, found, sandbox, address4, generation))
            site.journal.add_endpoint(endpoints[-1], "attaching")
        site.journal.put("cursor", str(pool.cursor).encode())
    undo.callback(_forget, site, [endpoint.key for endpoint in endpoints])
    return endpoints


def _forget(site: Site, keys: list[EndpointKey]) -> None:
    with site.journal.transaction():
        site.journal.delete_endpoints(keys)


def _address(site: Site, request: AttachRequest, pool: Pool) -> IPv4Address:
    asked = _asked_address(site, request)
    return pool.lease() if asked is None else pool.lease_address(asked, request.address4 or request.address6)


def _asked_address(site: Site, request: AttachRequest) -> IPv4Address | None:
    """The IPv4 address that a request names, itself or by its IPv6 counterpart."""
    if request.address4 is not None or request.address6 is None:
        return request.address4
    network = site.settings.network
    return network.subnet4.network_address + (int(request.address6) - int(network.subnet6.network_address))


def _planned(site: Site, found: Foundation, sandbox: _Sandbox, address4: IPv4Address, generation: int) -> Endpoint:
    request = sandbox.request
    attempt = 0
    while site.journal.host_link_taken(name := host_link(site.settings.network.veth_prefix, request.key, attempt)):
        attempt += 1
    return Endpoint(
        key=request.key,
        tenant=request.tenant or "",
        host_link=name,
        host_index=0,
        mac=request.mac or default_mac(address4),
        address4=address4,
        address6=site.settings.network.address6(address4) if found.ipv6 else None,
        generation=generation,
        netns=sandbox.namespace.path,
        netns_device=sandbox.namespace.device,
        netns_inode=sandbox.namespace.inode,
        owns_netns=request.netns is None,
        bindings=request.bindings,
        tiers=tiers_of(site, request.tenant, request.policy),
        tenant_number=tenant_number_of(site, request, generation),
        member=request.user is not None,
    )


def tenant_number_of(site: Site, request: AttachRequest, generation: int) -> int:
    """That of its tenant's other endpoints, else its own block's."""
    known = site.journal.number_of(request.tenant) if request.tenant else None
    return generation if known is None else known


def tiers_of(site: Site, tenant: str | None, policy: Policy | None) -> Tiers:
    """What an endpoint of that tenant, if of any, comes under that has this policy of its own, as it is on record."""
    known = site.journal.policies.get(tenant) if tenant else None
    if known is None and policy is None:
        return NO_TIERS
    own = OPEN if policy is None else interned(policy)
    return Tiers(endpoint=own) if known is None else known.over(own)


def _wire(
    site: Site,
    found: Foundation,
    sandboxes: Sequence[_Sandbox],
    planned: Sequence[Endpoint],
    undo: ExitStack,
) -> list[Endpoint]:
    """Everything the kernel has of these endpoints; each step's undoing is on the stack before the next begins."""
    wired = []
    for sandbox, endpoint in zip(sandboxes, planned, strict=True):
        link = LinkPlan(endpoint.host_link, endpoint.key.ifname, endpoint.mac, found.mtu, found.bridge_index)
        try:
            index = _create_pair(site, link, sandbox.namespace.fd)
            endpoint = msgspec.structs.replace(endpoint, host_index=index)
            plan = port_plan(found, endpoint)
            undo.callback(site.links.reap)
            undo.callback(site.links.retire, plan, endpoint.host_link)
            site.links.lock_port(plan)
        except KernelError as error:
            _refuse_meddled(endpoint, error, inside=False)
            raise
        wired.append(endpoint)
    site.change((), wired)
    undo.callback(site.change, wired, ())
    _finish(site, sandboxes, wired)
    end_former_flows(site, [(endpoint, binding) for endpoint in wired for binding in endpoint.bindings])
    return wired


def _finish(site: Site, sandboxes: Sequence[_Sandbox], wired: Sequence[Endpoint]) -> None:
    """The inside of each, and the host ends up."""
    for sandbox, endpoint in zip(sandboxes, wired, strict=True):
        try:
            site.links.configure_sandbox(sandbox_plan(site, endpoint), sandbox.namespace.fd)
        except (KernelError, NotFound) as error:
            _refuse_meddled(endpoint, error)
            raise
    for endpoint in wired:
        try:
            site.links.open_port(endpoint.host_index)
        except KernelError as error:
            _refuse_meddled(endpoint, error, inside=False)
            raise


def _refuse_meddled(endpoint: Endpoint, error: KernelError | NotFound, *, inside: bool = True) -> None:
    """Raise Conflict where somebody inside a namespace that is not of our making had this fail, `inside` or on the
    node."""
    if not endpoint.owns_netns:
        from cellwall.engine.attachments.meddling import refuse_meddled  # here and not above: hardly anybody does

        refuse_meddled(endpoint, error, inside=inside)


def _create_pair(site: Site, link: LinkPlan, netns_fd: int) -> int:
    """A retired pair may still hold the name inside a sandbox that is attached again: reap, and try once more. A link
    of that very name on our bridge is none of the journal's, which was asked for it: it is left over from one that was
    lost. One that is not on the bridge is somebody else's, and stays."""
    try:
        return site.links.create_pair(link, netns_fd)
    except AlreadyExists:
        reaped = site.links.reap()
        left_over = site.links.find(link.host_link)
        if left_over is not None and left_over.master == link.bridge_index:
            site.links.delete(left_over)
        elif not reaped:
            raise
    return site.links.create_pair(link, netns_fd)


def sandbox_plan(site: Site, endpoint: Endpoint) -> SandboxPlan:
    """The inside of an endpoint's sandbox."""
    network = site.settings.network
    return SandboxPlan(
        ifname=endpoint.key.ifname,
        address4=endpoint.address4,
        prefixlen4=network.subnet4.prefixlen,
        gateway4=network.gateway4,
        gateway_mac=network.bridge_mac,
        address6=endpoint.address6,
        prefixlen6=network.subnet6.prefixlen,
        gateway6=network.gateway6 if endpoint.address6 is not None else None,
    )
