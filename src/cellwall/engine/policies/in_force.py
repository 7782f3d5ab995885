"""Policies come into force: journal first, one transaction of elements second.

A changed policy gives every endpoint under it another version (`cellwall.engine.policies.versions`), so that open flows
walk the policy again at their next packet: what it denies ends there, in both directions, and what it allows is stamped
anew and pauses nowhere. A change that fails leaves the one before in force. What is on record when a process dies is
what whoever comes next brings into force.
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

import msgspec

from cellwall.compile.assemble import uplink_of
from cellwall.compile.policy_forms import policy_usage
from cellwall.compile.policy_size import validate_size
from cellwall.compile.usage import PolicyUsage, Usage
from cellwall.engine.backend import Wanted
from cellwall.engine.node.mechanisms import choose
from cellwall.engine.policies.kept import (
    keep_policies,
    next_policy_generation,
    note_unkept,
    take_over_policies,
    taken_over,
    try_to_keep_policies,
)
from cellwall.engine.policies.versions import renewed, repair_endpoints, taken_back
from cellwall.engine.ports.expose import attached_endpoint, ensure_policy_forms
from cellwall.engine.ports.former_flows import end_former_flows
from cellwall.engine.site import Foundation, Site
from cellwall.errors import CellwallError, InvalidSpec, Unsupported
from cellwall.model.addresses import Prefix
from cellwall.model.endpoint import Endpoint, EndpointKey
from cellwall.model.policy import OPEN, Policy, PolicyRecord, TierName, Tiers, interned
from cellwall.model.policy_check import Ground, ground_of, validate_policy


def ground(site: Site) -> Ground:
    """What policies of this node are judged by, as the node is now."""
    facts = site.node.observe()
    uplink = uplink_of(site.settings, facts)
    return ground_of(site.settings, facts.own_prefixes(site.settings.network.bridge, uplink))


def judge_policy(site: Site, policy: Policy, tier: TierName) -> None:
    """Raise InvalidSpec, its field a path such as `rules[3].prefix`; changes nothing. The node is only looked at for
    what its own networks may swallow."""
    allows = any(rule.action == "allow" for rule in policy.rules)
    validate_policy(policy, ground(site) if allows else ground_of(site.settings, ()), tier)
    validate_size(policy, tier)


def make_ready_for(site: Site, several: Collection[Tiers], *, member: bool) -> Foundation:
    """The foundation with rules for these policies; `member`: for somebody who is not root. InvalidSpec for the first
    of an endpoint's own that cannot be meant, its field a path such as `policy.rules[3].prefix`."""
    for tiers in several:
        try:
            judge_policy(site, tiers.endpoint, "endpoint")
        except InvalidSpec as error:
            raise InvalidSpec(f"policy.{error.field}", error.value, error.reason) from error
    return ensure_policy_forms(site, several, member=member)


def tenant_policy(site: Site, tenant: str) -> PolicyRecord | None:
    """What is in force for a tenant, or will be for its first endpoint. Changes nothing."""
    return site.journal.policies.get(tenant) if taken_over(site) else site.kept().read()[0].get(tenant)


def tenant_policies(site: Site) -> dict[str, PolicyRecord]:
    """Those of all tenants that have any. Changes nothing."""
    return site.journal.policies.all() if taken_over(site) else site.kept().read()[0]


def set_tenant_policy(site: Site, tenant: str, policy: Policy | None, *, member: bool = False) -> PolicyRecord | None:
    """In force for every endpoint of the tenant, attached or yet to be, when this returns; None takes it away.
    Idempotent: the same policy is no change. `member`: somebody asks who is not root. The caller holds the writer lock
    and has judged it."""
    take_over_policies(site)
    before = site.journal.policies.get(tenant)
    if policy == (before.policy if before else None):
        _lay_missing(site, site.journal.endpoints_of(tenant))
        return before
    former, latter = before.policy if before else OPEN, OPEN if policy is None else interned(policy)
    if site.foundation() is not None:
        ensure_policy_forms(site, [Tiers(tenant=latter)], member=member)
    elif latter != OPEN:
        _refuse_unsayable(site, policy_usage([Tiers(tenant=latter)]))
    # Not before: rules that are laid for a new form may have been changed by others, and then all versions are new.
    attached = site.journal.endpoints_of(tenant) if latter != former else ()
    known: list[PolicyRecord | None] = []

    def record() -> Sequence[Endpoint]:
        number = next_policy_generation(site)
        known.append(None if policy is None else PolicyRecord(latter, number))
        site.journal.policies.write(tenant, known[0])
        note_unkept(site, tenant)
        over = PolicyRecord(latter, number).over
        return [msgspec.structs.replace(one, tiers=over(one.tiers.endpoint)) for one in attached]

    def restore() -> None:
        site.journal.policies.write(tenant, before)
        note_unkept(site, tenant)

    _change(site, attached, record, restore)
    return known[0]


def _refuse_unsayable(site: Site, usage: PolicyUsage) -> None:
    """Raise Unsupported for what iptables has no words for, where it is what would hold the wall of this node: kept, it
    would let no sandbox of the tenant be attached."""
    if site.settings.backend == "nftables":
        return
    try:
        backend = choose(site, None)
    except Unsupported:
        return  # for `up` to say
    if backend.name == "iptables":
        facts = site.node.observe()
        backend.plan(Wanted(site.settings, facts, Usage(policies=usage), uplink_of(site.settings, facts)), (), None)


def set_endpoint_policy(site: Site, key: EndpointKey, policy: Policy, *, member: bool = False) -> Endpoint:
    """In force for one attached endpoint when this returns. Idempotent: the same policy is no change. NotFound. The
    caller holds the writer lock and has judged it."""
    before = attached_endpoint(site, key)
    if policy == before.tiers.endpoint:
        _lay_missing(site, [before])
        return before
    ensure_policy_forms(site, [Tiers(endpoint=policy)], member=member)
    before = attached_endpoint(site, key)  # again: see `set_tenant_policy`
    after = msgspec.structs.replace(before, tiers=msgspec.structs.replace(before.tiers, endpoint=interned(policy)))
    return _change(site, [before], lambda: [after], lambda: None)[0]


def _change(
    site: Site,
    before: Sequence[Endpoint],
    record: Callable[[], Sequence[Endpoint]],
    restore: Callable[[], None],
) -> Sequence[Endpoint]:
    """`record` gives the endpoints as they are to be, but for their versions. A crash leaves `pending`, by which the
    next operation goes on."""
    with site.journal.transaction():
        after = renewed(site, record())
        site.journal.write_endpoints(after, "attached")
        site.journal.put("pending", b"elements")
    try:
        keep_policies(site)  # before the kernel: what a full disk refuses has changed nothing
        if after:
            site.change(before, after)
            _lay_missing(site, after, before)
            _end_flows_of_clients(site, before, after)
    except CellwallError:
        _take_back(site, before, after, restore)
        raise
    with suppress(CellwallError), site.journal.transaction():  # it is in force; the next operation looks once more
        site.journal.drop("pending")
    return after


def _end_flows_of_clients(site: Site, before: Sequence[Endpoint], after: Sequence[Endpoint]) -> None:
    """Flows of clients to published ports that lead elsewhere, where other clients are admitted than before: iptables
    leads one that is not admitted to the node itself, and its flow would go on so."""
    changed = [now for was, now in zip(before, after, strict=True) if _sources(was.tiers) != _sources(now.tiers)]
    end_former_flows(site, [(endpoint, binding) for endpoint in changed for binding in endpoint.bindings])


def _sources(tiers: Tiers) -> list[tuple[Prefix, ...] | None]:
    return [None if policy.monitor else policy.sources for _, policy in tiers.named()]


def _lay_missing(site: Site, endpoints: Sequence[Endpoint], former: Sequence[Endpoint] = ()) -> None:
    """What a policy kept is not in force where somebody else took it out of the kernel, and a change lays the
    difference alone."""
    if endpoints and not site.has_nothing_taken_out and site.backend.missing(endpoints, former):
        repair_endpoints(site)


def _take_back(site: Site, before: Sequence[Endpoint], after: Sequence[Endpoint], restore: Callable[[], None]) -> None:
    """What was on record is so again, and live. Where even that fails `pending` stays, for the next operation."""
    with site.journal.transaction():
        restore()
        site.journal.write_endpoints(taken_back(site, before, after), "attached")
    try_to_keep_policies(site)
    with suppress(CellwallError):
        repair_endpoints(site)
        with site.journal.transaction():
            site.journal.drop("pending")
