"""How many policies of tenants may be on record for a caller that is not root.

Whoever may set them for `ci-*` may for as many tenants as there are names, with no sandbox of theirs. They outlive
boots, and the first `up` of each reads them all.
"""

from collections.abc import Mapping

from cellwall.daemon.asker import Asker
from cellwall.errors import Exhausted

MAX_POLICIES = 1024
"""Of the tenants that a caller may set policies of, whoever set them: as many as a bridge has ports."""
MAX_OCTETS = 8 << 20
"""Of their records together."""


def refuse_over_quota(asker: Asker, tenant: str, sizes: Mapping[str, int]) -> None:
    """Raise Exhausted where the other tenants of the caller have as many policies, or as large ones, as all may.
    `sizes`: the octets of each policy on record. Pure."""
    own = {name: size for name, size in sizes.items() if name != tenant and asker.sees_tenant("policy", name)}
    if len(own) >= MAX_POLICIES:
        raise Exhausted(f"policies: {len(own)} tenants of {asker.peer} have one, and {MAX_POLICIES} may")
    if (octets := sum(own.values())) >= MAX_OCTETS:
        raise Exhausted(f"policies: those of {asker.peer} have {octets} octets on record, and {MAX_OCTETS} may be")
