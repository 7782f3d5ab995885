"""Policies as callers speak of them: of a tenant or of an endpoint, as a value or as a document. Each is one turn.

A change of elements needs neither what is configured nor that the node is as it was at the last `up`, so it goes the
way of what closes: to tighten a policy must work where nothing can be opened.
"""

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec

from cellwall.compile.policy_size import validate_size
from cellwall.engine.arguments import Asked, Document, Subject
from cellwall.engine.caller import Caller
from cellwall.engine.policies.in_force import (
    judge_policy,
    set_endpoint_policy,
    set_tenant_policy,
    tenant_policies,
    tenant_policy,
)
from cellwall.engine.policies.totals import refuse_more_for_endpoint, refuse_more_for_tenant
from cellwall.engine.ports.expose import attached_endpoint
from cellwall.engine.requests import AttachRequest
from cellwall.engine.site import Site
from cellwall.errors import InvalidSpec
from cellwall.model.addresses import Prefix
from cellwall.model.endpoint import EndpointKey
from cellwall.model.policy import OPEN, Policy, PolicyRecord, TierName
from cellwall.model.policy_check import ground_of, validate_policy
from cellwall.model.policy_document import Written, parse_policy, patched, policy_document
from cellwall.model.settings import Opening, Settings

T = TypeVar("T")


def set_policy(caller: Caller, subject: Subject, policy: Policy | Document, *, member: bool = False) -> PolicyRecord:
    """Replace it whole; `member`: for somebody who is not root."""
    written = written_policy(policy)
    return _turn(caller, lambda site: _set(site, subject, written, member=member))


def patch_policy(caller: Caller, subject: Subject, patch: Document, *, member: bool = False) -> PolicyRecord:
    """Change what a merge patch names (RFC 7396); without a policy it is laid over the open one. `member`: as above."""

    def act(site: Site) -> PolicyRecord:
        known = _known(site, subject)
        return _set(site, subject, patched(known.policy if known else OPEN, patch), member=member)

    return _turn(caller, act)


def remove_policy(caller: Caller, subject: Subject) -> bool:
    """Nothing but the floor and the other tier holds; False where there was none."""

    def act(site: Site) -> bool:
        known = _known(site, subject)
        if isinstance(subject, EndpointKey):
            set_endpoint_policy(site, subject, OPEN)
            return known is not None and known.policy != OPEN
        set_tenant_policy(site, subject, None)
        return known is not None

    return _turn(caller, act)


def policy_of(caller: Caller, subject: Subject) -> PolicyRecord | None:
    """What is in force; of a tenant without a policy None."""
    with caller.mutex:
        return _known(caller.site, subject)


def policies_of_tenants(caller: Caller) -> dict[str, PolicyRecord]:
    """Those of all tenants that have any."""
    with caller.mutex:
        return tenant_policies(caller.site)


def policy_sizes(caller: Caller) -> dict[str, int]:
    """How many octets the policy of each tenant has on record."""
    with caller.mutex:
        return caller.site.journal.policies.sizes()


def check_policy(policy: Policy | Document, settings: Settings, node: Iterable[Prefix], *, endpoint: bool) -> Policy:
    """Raise InvalidSpec for what would be refused on a node with these networks. Pure."""
    written = written_policy(policy).resolved(settings.openings)
    tier: TierName = "endpoint" if endpoint else "tenant"
    with written.locating():
        validate_policy(written.policy, ground_of(settings, node), tier)
        validate_size(written.policy, tier)
    return written.policy


def written_policy(policy: Policy | Document) -> Written:
    """A policy and where it was written; what is a value already was written nowhere, and is judged by its document:
    types are not checked at run time, and what no record gives back would close the journal to everybody."""
    if not isinstance(policy, Policy):
        return parse_policy(policy)
    try:
        parsed = parse_policy(policy_document(policy)).policy
    except InvalidSpec as error:
        field = re.sub(r"/(\d+)", r"[\1]", error.field).removeprefix("/").replace("/", ".")
        raise InvalidSpec(field, error.value, error.reason) from error
    except (AttributeError, TypeError, ValueError) as error:
        raise InvalidSpec("policy", repr(policy), f"is no policy: {error}") from error
    if parsed != policy:
        raise InvalidSpec("policy", repr(policy), f"is not what its document says, which is {parsed!r}")
    return Written(policy)


def own_policy(asked: Asked, openings: Iterable[Opening]) -> Written:
    """The policy that an attach names, in one way or the other."""
    named: dict[str, object] = {}
    if asked.block_network is not None:
        named["block_network"] = asked.block_network
    if asked.allow_list is not None:
        named["allow_list"] = list(asked.allow_list)
    if asked.policy is None:
        return parse_policy(named)
    if named:
        raise InvalidSpec(next(iter(named)), next(iter(named.values())), "contradicts policy, which says all of it")
    return written_policy(asked.policy).resolved(openings)


def refuse_other_values(requests: Iterable[AttachRequest]) -> None:
    """Raise InvalidSpec for the first policy of a request that its document does not give back."""
    for request in requests:
        if request.policy is None:
            continue
        try:
            written_policy(request.policy)
        except InvalidSpec as error:
            field = error.field if error.field == "policy" else f"policy.{error.field}"
            raise InvalidSpec(field, error.value, error.reason) from error


def attach_under(written: Written, request: AttachRequest, attach: Callable[[AttachRequest], T]) -> T:
    """What `attach` gives of the request with that policy, whose refusals name the place where it was written."""
    try:
        return attach(msgspec.structs.replace(request, policy=written.policy))
    except InvalidSpec as error:
        head, _, field = error.field.partition(".")
        if head != "policy":
            raise
        raise written.located(InvalidSpec(field, error.value, error.reason)) from error


def _turn(caller: Caller, act: Callable[[Site], T]) -> T:
    with caller.turn():
        if caller.site.foundation() is None:
            caller.take_configured()
            return act(caller.site)
        return caller.close(act, leaves_links=False)


def _set(site: Site, subject: Subject, written: Written, *, member: bool) -> PolicyRecord:
    if isinstance(subject, EndpointKey):
        tenant = attached_endpoint(site, subject).tenant
    written = written.resolved(site.settings.openings)
    _judge(site, written, endpoint=isinstance(subject, EndpointKey))
    if isinstance(subject, EndpointKey):
        refuse_more_for_endpoint(site, tenant, subject, written.policy)
        return set_endpoint_policy(site, subject, written.policy, member=member).own_policy
    before = tenant_policy(site, subject)
    refuse_more_for_tenant(site, subject, written.policy, before.policy if before else OPEN)
    known = set_tenant_policy(site, subject, written.policy, member=member)
    assert known is not None
    return known


def _judge(site: Site, written: Written, *, endpoint: bool) -> None:
    with written.locating():
        judge_policy(site, written.policy, "endpoint" if endpoint else "tenant")


def _known(site: Site, subject: Subject) -> PolicyRecord | None:
    if isinstance(subject, EndpointKey):
        return attached_endpoint(site, subject).own_policy
    return tenant_policy(site, subject)
