"""Publish and withdraw ports of an attached endpoint, each in one element transaction.

Withdrawing gives the endpoint a new policy version: flows that the old one decided walk the policy again at their
next packet, and those that came by the withdrawn port end there.
"""

from collections.abc import Iterable, Sequence

import msgspec

from cellwall.compile.usage import Usage, usage_of, usage_of_endpoints
from cellwall.engine.attachments.admission import refuse_bound
from cellwall.engine.policies.versions import renewed, repair_endpoints, taken_back
from cellwall.engine.ports.bind_addresses import refuse_strange_addresses
from cellwall.engine.ports.captures import refuse_captures
from cellwall.engine.ports.former_flows import end_former_flows, end_withdrawn_flows, forget_withdrawal, note_withdrawal
from cellwall.engine.requests import validate_host_ports
from cellwall.engine.site import Foundation, Site
from cellwall.errors import Conflict, KernelError, NotFound
from cellwall.model.endpoint import AUTO, Endpoint, EndpointKey, PortBinding
from cellwall.model.policy import Tiers


def expose_port(
    site: Site, found: Foundation, key: EndpointKey, binding: PortBinding, user: int | None = None
) -> Endpoint:
    """Publish a port; idempotent. `user`: who asks, where that is not root. What is refused leaves no port reserved
    that was not before. The caller holds the writer lock and has seen to `ensure_forms`."""
    endpoint = attached_endpoint(site, key)
    if binding.host_port != AUTO:
        return _expose(site, found, endpoint, binding, user)
    from cellwall.engine.ports.auto_ports import with_free_ports  # here and not above: an attach reads this module, too
    from cellwall.engine.ports.reservations import taken_back_if_refused

    with taken_back_if_refused(site):
        former = endpoint.bindings
        (free,) = with_free_ports(site, key.container_id, endpoint.tenant, [binding], former, user)
        return _expose(site, found, endpoint, free, user)


def _expose(site: Site, found: Foundation, endpoint: Endpoint, binding: PortBinding, user: int | None) -> Endpoint:
    if binding in endpoint.bindings:
        return endpoint
    validate_host_ports(binding, site.settings)
    if user is not None:
        from cellwall.engine.attachments.shares import refuse_own_ports  # here and not above, as below

        refuse_own_ports(site, [binding])
    refuse_bound(site, binding)
    attached_endpoint(site, endpoint.key)  # still: a dead one that had the port may have been this very one
    from cellwall.engine.ports.reservations import (
        refuse_reserved,  # here and not above: an attach reads this module, too
    )

    refuse_reserved(site, endpoint.key.container_id, endpoint.tenant, [binding])
    refuse_captures(site, found, [binding], ipv6=endpoint.address6 is not None)
    refuse_strange_addresses(site, [binding])
    _refuse_foreign_family(endpoint, binding)
    from cellwall.model.published import refuse_one_more  # here and not above: an attach reads this module, too

    exposed = msgspec.structs.replace(endpoint, bindings=(*endpoint.bindings, binding))
    refuse_one_more(exposed.bindings)
    if binding.proxy:
        from cellwall.engine.ports.led import refuse_more_proxies, refuse_unserved  # as above

        refuse_more_proxies(site, [(endpoint.tenant or endpoint.key, binding, user)])
        refuse_unserved(site, [binding])
    return _change(site, endpoint, exposed, published=(binding,))


def unexpose_port(site: Site, key: EndpointKey, binding: PortBinding) -> Endpoint:
    """Withdraw a port; open flows that came by it stop at their next packet. Tolerates absence."""
    endpoint = attached_endpoint(site, key)
    if binding not in endpoint.bindings:
        return endpoint
    left = tuple(other for other in endpoint.bindings if other != binding)
    with site.journal.transaction():
        (renewed_one,) = renewed(site, [msgspec.structs.replace(endpoint, bindings=left)])
    return _change(site, endpoint, renewed_one, withdrawn=binding)


def ensure_forms(site: Site, found: Foundation, bindings: Iterable[PortBinding]) -> None:
    """Load the rules that these bindings need, before anything is journalled, where no binding needed them yet."""
    needed = usage_of(bindings)
    if found.usage.union(needed) != found.usage:
        # here and not above: it needs the whole compiler, and it is rare that rules change
        from cellwall.engine.node.foundation import lay_foundation

        lay_foundation(site, needed)


def ensure_policy_forms(site: Site, tiers: Iterable[Tiers], *, member: bool = False) -> Foundation:
    """The foundation with rules for these policies, which are laid before anything is journalled where none needed them
    yet; `member`: for somebody who is not root. The node is up."""
    from cellwall.compile.policy_forms import policy_usage  # here and not above: most endpoints have no policy

    found = site.foundation()
    assert found is not None
    needed = Usage(policies=policy_usage(tiers))
    if found.usage.union(needed) != found.usage:
        from cellwall.engine.node.foundation import lay_foundation

        if member:
            from cellwall.engine.policies.forms import MEMBERS_FORMS, refuse_too_many

            in_need = usage_of_endpoints(site.journal.endpoints("attached")).policies
            refuse_too_many({*in_need.forms, *needed.policies.forms}, MEMBERS_FORMS)
        lay_foundation(site, needed)
        found = site.foundation()
        assert found is not None
    return found


def attached_endpoint(site: Site, key: EndpointKey) -> Endpoint:
    """The endpoint, or NotFound: what is half attached, or half detached, by another process or a dead one, is none."""
    row = site.journal.endpoint(key)
    if row is None or row[1] != "attached":
        raise NotFound(f"container id: {key}: is not attached")
    return row[0]


def _change(
    site: Site,
    before: Endpoint,
    after: Endpoint,
    *,
    published: Sequence[PortBinding] = (),
    withdrawn: PortBinding | None = None,
) -> Endpoint:
    """From one state of an endpoint to another: journal, then one transaction of the difference, then the end of former
    flows to what is published, or by what is withdrawn. A crash between these leaves live elements that differ from the
    journal, or flows; `pending` makes the next operation see to both."""
    with site.journal.transaction():
        site.journal.write_endpoints([after], "attached")
        site.journal.put("pending", b"elements")
        if withdrawn is not None:
            note_withdrawal(site, withdrawn)
    try:
        site.change([before], [after])
        end_former_flows(site, [(after, binding) for binding in published])
    except KernelError:
        with site.journal.transaction():
            site.journal.write_endpoints(taken_back(site, [before], [after]), "attached")
            forget_withdrawal(site)
        repair_endpoints(site)
        raise
    end_withdrawn_flows(site)  # where that fails the port stays closed, and the next operation ends them
    with site.journal.transaction():
        site.journal.drop("pending")
        forget_withdrawal(site)
    return after


def _refuse_foreign_family(endpoint: Endpoint, binding: PortBinding) -> None:
    if endpoint.address6 is not None:
        return
    if binding.proxy == 4:
        raise Conflict(f"expose.proxy: {binding}: the endpoint has no IPv6 address")
    if binding.bind is not None and binding.bind.version == 6 and not binding.proxy:
        raise Conflict(f"expose.bind: {binding.bind}: the endpoint has no IPv6 address")
