"""Bindings with any host port, `auto:80`: which one each is given."""

from collections.abc import Sequence

import msgspec

from cellwall.engine.ports.free_ports import is_published
from cellwall.engine.ports.reservations import reserve_ports, reserved_for
from cellwall.engine.site import Site
from cellwall.model.endpoint import AUTO, PortBinding
from cellwall.model.reserved import DEFAULT_LEASE, Span, validate_count


def with_free_ports(
    site: Site,
    container: str,
    tenant: str,
    bindings: Sequence[PortBinding],
    former: Sequence[PortBinding],
    user: int | None = None,
) -> tuple[PortBinding, ...]:
    """The bindings with a host port for each that would have any: that of one among the `former` which is the same
    otherwise, else one that is reserved for the container and not published, else a new one, which is reserved, too.
    `user`: who asks, where that is not root."""
    settled = with_former_ports(bindings, former, site.settings.reserved_ports)
    missing = sum(binding.host_port == AUTO for binding in settled)
    ports = iter(_ports_for(site, container, tenant, missing, user) if missing else ())
    return tuple(
        msgspec.structs.replace(binding, host_port=next(ports)) if binding.host_port == AUTO else binding
        for binding in settled
    )


def with_former_ports(bindings: Sequence[PortBinding], former: Sequence[PortBinding], span: Span) -> list[PortBinding]:
    """The bindings, with a host port for each that would have any where one of the `former`, of that `span`, is the
    same otherwise. Pure."""
    low, high = span
    left = [one for one in former if one not in bindings and low <= one.host_port <= high]
    settled: list[PortBinding] = []
    for binding in bindings:
        same = (one for one in left if msgspec.structs.replace(one, host_port=AUTO) == binding)
        if binding.host_port == AUTO and (found := next(same, None)) is not None:
            left.remove(found)
            binding = found
        settled.append(binding)
    return settled


def unpublished_ports(site: Site, container: str, tenant: str) -> list[int]:
    """What is reserved for a container and not published: the first to be given it as any free port."""
    return [port for port in reserved_for(site, container, tenant) if not is_published(site, port)]


def _ports_for(site: Site, container: str, tenant: str, number: int, user: int | None) -> list[int]:
    free = unpublished_ports(site, container, tenant)
    if len(free) < number:
        own = reserved_for(site, container, tenant)
        count = len(own) + number - len(free)
        validate_count(count)
        made = reserve_ports(site, container, tenant, count, DEFAULT_LEASE, user).ports
        free += [port for port in made if port not in own]
    return free[:number]
