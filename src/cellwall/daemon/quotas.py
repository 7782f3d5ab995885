"""How much may be on record for a caller that is not root: of all tenants that it may ask for, whoever asked.

Whoever may ask for `ci-*` may for as many tenants as there are names, so nothing is bounded by a tenant's share.
"""

from collections.abc import Mapping, Sequence

from cellwall.api import Wall
from cellwall.daemon.asker import Asker
from cellwall.engine.requests import AttachRequest
from cellwall.errors import Exhausted
from cellwall.model.endpoint import PortBinding

MAX_POLICIES = 1024
"""Of policies: as many as a bridge has ports. They outlive boots, and the first `up` of each reads them all."""
MAX_OCTETS = 8 << 20
"""Of their records together."""

MAX_PORTS = 8192
"""Of host ports that are published, of TCP and UDP together: several groups find some on one node."""


def refuse_policies(asker: Asker, tenant: str, sizes: Mapping[str, int]) -> None:
    """Raise Exhausted where the other tenants of the caller have as many policies, or as large ones, as all may.
    `sizes`: the octets of each policy on record."""
    own = {name: size for name, size in sizes.items() if name != tenant and asker.sees_tenant("policy", name)}
    if len(own) >= MAX_POLICIES:
        raise Exhausted(f"policies: {len(own)} tenants of {asker.peer} have one, and {MAX_POLICIES} may")
    if (octets := sum(own.values())) >= MAX_OCTETS:
        raise Exhausted(f"policies: those of {asker.peer} have {octets} octets on record, and {MAX_OCTETS} may be")


def admit(asker: Asker, wall: Wall, requests: Sequence[AttachRequest]) -> tuple[AttachRequest, ...]:
    """What of these goes to the wall (`Authority.admit`), as its record stands. Forbidden, Exhausted."""
    admitted = asker.authority.admit(asker.peer, requests)
    if bindings := [binding for request in requests for binding in request.bindings]:
        permit_ports(asker, wall, bindings)
    return admitted


def permit_ports(asker: Asker, wall: Wall, bindings: Sequence[PortBinding]) -> None:
    """Raise Forbidden for host ports that are root's, and Exhausted for more than others may have."""
    asker.authority.permit_ports(asker.peer, bindings)
    if not asker.peer.root:
        refuse_ports(asker, bindings, wall.published_ports())


def refuse_ports(asker: Asker, bindings: Sequence[PortBinding], published: Mapping[str, int]) -> None:
    """Raise Exhausted where these and what the caller's tenants have `published`, by tenant, are too many host ports.
    What is asked for again is counted twice."""
    asked = sum(binding.last - binding.host_port + 1 for binding in bindings)
    own = sum(ports for tenant, ports in published.items() if asker.sees_tenant("expose", tenant))
    if own + asked > MAX_PORTS:
        raise Exhausted(
            f"expose: tenants of {asker.peer} have {own} host ports and ask for {asked}; {MAX_PORTS} may be"
        )
