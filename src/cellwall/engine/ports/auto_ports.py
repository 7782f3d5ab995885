"""Bindings with any host port, `auto:80`: which one each is given."""

from collections.abc import Collection, Iterable, Sequence

import msgspec

from cellwall.engine.attachments.admission import living_endpoint
from cellwall.engine.ports.free_ports import is_published
from cellwall.engine.ports.reservations import reserve_ports, reserved_for
from cellwall.engine.requests import AttachRequest
from cellwall.engine.site import Site
from cellwall.model.endpoint import AUTO, PortBinding
from cellwall.model.published import claimed_twice
from cellwall.model.reserved import DEFAULT_LEASE, Span, validate_count


def requests_with_ports(site: Site, requests: Sequence[AttachRequest]) -> list[AttachRequest]:
    """The requests of one batch with a host port for each binding that would have any, a port for no two of them."""
    spared, settled = named_ports(one for request in requests for one in request.bindings), []
    for request in requests:
        living = living_endpoint(site, request)
        former = () if living is None else living.bindings
        tenant, user = request.tenant or "", request.user
        bindings = with_free_ports(site, request.container_id, tenant, request.bindings, former, user, spared)
        spared |= {binding.host_port for binding in bindings}  # of another interface of the container, above all
        settled.append(msgspec.structs.replace(request, bindings=bindings))
    return settled


def named_ports(bindings: Iterable[PortBinding]) -> set[int]:
    """The host ports that these name, which are given to none that would have any. Pure."""
    named, reach = set[int](), 0
    for first, last in sorted((one.host_port, one.last) for one in bindings if one.host_port != AUTO):
        named.update(range(max(first, reach), last + 1))  # each once, however many ranges it is in
        reach = max(reach, last + 1)
    return named


def with_free_ports(
    site: Site,
    container: str,
    tenant: str,
    bindings: Sequence[PortBinding],
    former: Sequence[PortBinding],
    user: int | None = None,
    spared: Collection[int] = (),
) -> tuple[PortBinding, ...]:
    """The bindings with a host port for each that would have any: that of one among the `former` which is the same
    otherwise, else one that is reserved for the container and not published, else a new one, which is reserved, too,
    and none of those that are `spared`. `user`: who asks, where that is not root."""
    settled = with_former_ports(bindings, former, site.settings.reserved_ports)
    missing = sum(binding.host_port == AUTO for binding in settled)
    ports = iter(_ports_for(site, container, tenant, missing, user, spared) if missing else ())
    return tuple(
        msgspec.structs.replace(binding, host_port=next(ports)) if binding.host_port == AUTO else binding
        for binding in settled
    )


def with_former_ports(bindings: Sequence[PortBinding], former: Sequence[PortBinding], span: Span) -> list[PortBinding]:
    """The bindings, with a host port for each that would have any where one of the `former`, of that `span`, is the
    same otherwise, and its port is not named for another. Pure."""
    low, high = span
    named = [binding for binding in bindings if binding.host_port != AUTO]
    left = [one for one in former if one not in bindings and low <= one.host_port <= high]
    settled: list[PortBinding] = []
    for binding in bindings:
        alike = (one for one in left if msgspec.structs.replace(one, host_port=AUTO) == binding)
        same = (one for one in alike if claimed_twice([*named, one]) is None)
        if binding.host_port == AUTO and (found := next(same, None)) is not None:
            left.remove(found)
            binding = found
        settled.append(binding)
    return settled


def unpublished_ports(site: Site, container: str, tenant: str, spared: Collection[int] = ()) -> list[int]:
    """What is reserved for a container, not published and not `spared`: the first to be given it as any free port."""
    own = reserved_for(site, container, tenant)
    return [port for port in own if port not in spared and not is_published(site, port)]


def _ports_for(
    site: Site, container: str, tenant: str, number: int, user: int | None, spared: Collection[int]
) -> list[int]:
    free = unpublished_ports(site, container, tenant, spared)
    if len(free) < number:
        own = reserved_for(site, container, tenant)
        count = len(own) + number - len(free)
        validate_count(count)
        made = reserve_ports(site, container, tenant, count, DEFAULT_LEASE, user, spared).ports
        free += [port for port in made if port not in own]
    return free[:number]
