"""What one tenant takes of the kernel and of everybody's rules: by its policy, once for each endpoint, and by those
that its endpoints have for themselves.

Entries are replaced in one transaction, for which every other caller waits, are read by whoever compares the node, and
are memory of the node that no container is charged for. Forms are look-ups of everybody's new flows.
"""

from collections.abc import Iterable

import msgspec

from cellwall.compile.policy_size import MAX_FORMS_OF_ONE, policy_size
from cellwall.compile.usage import PolicyForm
from cellwall.engine.site import Site
from cellwall.errors import Exhausted
from cellwall.model.endpoint import EndpointKey
from cellwall.model.policy import Policy

MAX_TENANT_ENTRIES = 1 << 18
"""Entries of a tenant's policies in the kernel: a thousand for each of 262 endpoints."""


class PolicyTotal(msgspec.Struct, frozen=True):
    """What the policies of a tenant and of its endpoints come to."""

    entries: int
    forms: frozenset[PolicyForm]


def policy_total(policy: Policy, endpoints: int, own: Iterable[Policy]) -> PolicyTotal:
    """Of a tenant with so many endpoints, some of which have an `own` policy. Pure."""
    shared = policy_size("tenant", policy)
    alone = [policy_size("endpoint", each) for each in own]
    return PolicyTotal(
        endpoints * shared.entries + sum(size.entries for size in alone),
        shared.forms.union(*(size.forms for size in alone)),
    )


def refuse_total(tenant: str, after: PolicyTotal, before: PolicyTotal | None = None) -> None:
    """Raise Exhausted where that is too much for one tenant, and no less than it was `before`. Pure."""
    if after.entries > MAX_TENANT_ENTRIES and (before is None or after.entries > before.entries):
        raise Exhausted(
            f"policies: of {tenant}: {after.entries} entries, those of its policy for each endpoint and those of its "
            f"endpoints' own; a tenant has at most {MAX_TENANT_ENTRIES} in the kernel"
        )
    if len(after.forms) > MAX_FORMS_OF_ONE and (before is None or not after.forms <= before.forms):
        raise Exhausted(
            f"policies: of {tenant}: its policy and those of its endpoints need {len(after.forms)} forms of rules; "
            f"a tenant has {MAX_FORMS_OF_ONE}"
        )


def refuse_more_for_tenant(site: Site, tenant: str, policy: Policy, before: Policy) -> None:
    """The same, where a policy of the tenant takes the place of the one `before`."""
    own, endpoints = site.journal.own_policies_of(tenant).values(), site.journal.count_of(tenant)
    refuse_total(tenant, policy_total(policy, endpoints, own), policy_total(before, endpoints, own))


def refuse_more_for_endpoint(site: Site, tenant: str, key: EndpointKey, policy: Policy) -> None:
    """The same, where a policy of one endpoint changes. Who is of no tenant is root's, and shares with nobody."""
    if not tenant:
        return
    known = site.journal.policies.get(tenant)
    shared, endpoints = known.policy if known else Policy(), site.journal.count_of(tenant)
    own = site.journal.own_policies_of(tenant)
    refuse_total(
        tenant,
        policy_total(shared, endpoints, {**own, key: policy}.values()),
        policy_total(shared, endpoints, own.values()),
    )
