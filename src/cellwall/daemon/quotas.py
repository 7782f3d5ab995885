"""How much may be on record for a caller that is not root: of all tenants that it may ask for, whoever asked.

Whoever may ask for `ci-*` may for as many tenants as there are names, so nothing is bounded by a tenant's share.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from cellwall.api import Wall
from cellwall.daemon.asker import Asker, found
from cellwall.engine.ports.auto_ports import named_ports, with_former_ports
from cellwall.engine.requests import AttachRequest
from cellwall.errors import Exhausted
from cellwall.model.endpoint import AUTO, EndpointKey, PortBinding
from cellwall.model.reserved import Reservation, Span

MAX_POLICIES = 1024
"""Of policies: as many as a bridge has ports. They outlive boots, and the first `up` of each reads them all."""
MAX_OCTETS = 8 << 20
"""Of their records together."""

MAX_PORTS = 8192
"""Of host ports that are published, of TCP and UDP together: several groups find some on one node."""

MAX_RESERVED_OF_CALLER = 512
"""Of host ports that are reserved, half of a node's."""

MAX_PROXIED = 256
"""Of host ports that are served by a proxy, half of a node's."""


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
    refuse_published([asker], wall, [(request.key, request.tenant or "", request.bindings) for request in requests])
    return admitted


def permit_port(asker: Asker, wall: Wall, key: EndpointKey, tenant: str, binding: PortBinding) -> None:
    """Raise Forbidden for a host port that is root's, and Exhausted for more than others may have."""
    asker.authority.permit_ports(asker.peer, [binding])
    refuse_published([asker], wall, [(key, tenant, [binding])])


def permit_reservation(asker: Asker, wall: Wall, container: str, tenant: str | None, count: int) -> None:
    """Raise Forbidden where no ports may be reserved for this container, and Exhausted for more than others may."""
    asker.authority.permit_own(asker.peer, "expose", tenant, container)
    if asker.peer.root:
        return
    known = wall.reservations()
    own = sum(len(one.ports) for one in known if (one.container, one.tenant) == (container, tenant))
    refuse_reservations(asker, count - own, _by_tenant(known))


def refuse_published(
    askers: Iterable[Asker], wall: Wall, asked: Sequence[tuple[EndpointKey, str, Sequence[PortBinding]]]
) -> None:
    """Raise Exhausted where the tenants of one of these callers would have too many ports by what is asked for these
    endpoints, of these tenants: published, reserved to be published, or served by a proxy. For root there is no such
    thing."""
    members = [asker for asker in askers if not asker.peer.root]
    if not members or not any(each for *_, each in asked):
        return
    new: list[tuple[str, PortBinding]] = []
    automatic = Counter[tuple[str, str]]()
    for key, tenant, each in asked:
        endpoint = found(wall, key)
        more = not_yet_published(each, () if endpoint is None else endpoint.bindings, wall.settings.reserved_ports)
        automatic[key.container_id, tenant] += sum(one.host_port == AUTO for one in more)
        new += ((tenant, one) for one in more)
    published = wall.published_ports() if new else {}
    spared = named_ports(one for *_, each in asked for one in each) if automatic.total() else ()
    reserving = {
        whose: max(0, number - wall.unpublished_ports(*whose, spared)) for whose, number in automatic.items() if number
    }
    reserved = _by_tenant(wall.reservations()) if reserving else {}
    proxied = wall.proxied_ports() if any(one.proxy for _, one in new) else {}
    for asker in members:
        own = [one for tenant, one in new if asker.sees_tenant("expose", tenant)]
        refuse_ports(asker, own, published)
        more_reserved = (n for (_, tenant), n in reserving.items() if asker.sees_tenant("expose", tenant))
        refuse_reservations(asker, sum(more_reserved), reserved)
        refuse_proxied(asker, sum(one.proxy != 0 for one in own), proxied)


def not_yet_published(asked: Sequence[PortBinding], former: Sequence[PortBinding], span: Span) -> list[PortBinding]:
    """What of this is not among the `former` bindings of its endpoint; `span`: of which any free port is. Pure."""
    return [binding for binding in with_former_ports(asked, former, span) if binding not in former]


def refuse_ports(asker: Asker, bindings: Sequence[PortBinding], published: Mapping[str, int]) -> None:
    """Raise Exhausted where these, which are new, and what the caller's tenants have `published`, by tenant, are too
    many host ports."""
    asked = sum(binding.last - binding.host_port + 1 for binding in bindings)
    _refuse(asker, "host ports", asked, published, MAX_PORTS)


def refuse_reservations(asker: Asker, asked: int, reserved: Mapping[str, int]) -> None:
    """The same of so many more that are to be `reserved`."""
    _refuse(asker, "ports reserved", asked, reserved, MAX_RESERVED_OF_CALLER)


def refuse_proxied(asker: Asker, asked: int, proxied: Mapping[str, int]) -> None:
    """The same of so many more that are to be served by a proxy."""
    _refuse(asker, "ports served by a proxy", asked, proxied, MAX_PROXIED)


def _refuse(asker: Asker, what: str, asked: int, by_tenant: Mapping[str, int], most: int) -> None:
    own = sum(number for tenant, number in by_tenant.items() if asker.sees_tenant("expose", tenant))
    if asked > 0 and own + asked > most:
        raise Exhausted(f"expose: tenants of {asker.peer} have {own} {what} and ask for {asked}; {most} may be")


def _by_tenant(known: Sequence[Reservation]) -> Counter[str]:
    reserved = Counter[str]()
    for one in known:
        reserved[one.tenant] += len(one.ports)
    return reserved
