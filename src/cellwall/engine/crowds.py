"""What the kernel holds for one tenant: the entries of its policy, once for each of its endpoints.

A change replaces all of them in one transaction, for which every other caller waits, and they are memory of the node
that no container is charged for.
"""

from cellwall.compile.policy_forms import policy_listings
from cellwall.errors import Exhausted
from cellwall.model.policy import Policy

MAX_TENANT_ENTRIES = 1 << 18
"""Entries of a tenant's policy in the kernel: a thousand for each of 262 endpoints."""


def refuse_crowd(tenant: str, endpoints: int, policy: Policy) -> None:
    """Raise Exhausted where so many endpoints under the tenant's policy are too many entries. Pure."""
    entries = len(policy_listings("tenant", policy))
    if endpoints * entries > MAX_TENANT_ENTRIES:
        raise Exhausted(
            f"policies: of {tenant}: {endpoints} endpoints with {entries} entries each; "
            f"the policy of a tenant has at most {MAX_TENANT_ENTRIES} in the kernel"
        )
