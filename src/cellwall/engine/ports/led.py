"""What is refused of ports that are led from one family to the other: those that are one too many, and all where the
bounds in force would not hold for them. What is served is never displaced by what comes later."""

from collections import Counter
from collections.abc import Iterable

from cellwall.engine.site import Site
from cellwall.errors import Exhausted, Unsupported
from cellwall.model.endpoint import EndpointKey, PortBinding
from cellwall.model.proxied import MAX_OF_TENANT, MAX_PROXIES, unkept_bounds

Whose = str | EndpointKey
"""A tenant, or an endpoint that has none and shares with nobody."""


def refuse_unbounded(site: Site, binding: PortBinding) -> None:
    """Raise Unsupported where bounds are in force that a proxy would carry past."""
    if bounds := unkept_bounds(site.settings):
        raise Unsupported(f"expose.proxy: {binding}: {', '.join(bounds)} would not hold for what a proxy carries")


def refuse_more_proxies(site: Site, asked: Iterable[tuple[Whose, PortBinding, int | None]]) -> None:
    """Raise Exhausted for the first of these, which are not on record yet, that would be one too many. With each is who
    asks for it, where that is not root: a quarter of all is root's."""
    held: Counter[Whose] = Counter()
    for endpoint in site.journal.proxied():
        held[endpoint.tenant or endpoint.key] += sum(binding.proxy != 0 for binding in endpoint.bindings)
    total = held.total()
    for whose, binding, user in asked:
        if not binding.proxy:
            continue
        held[whose] += 1
        total += 1
        if held[whose] > MAX_OF_TENANT:
            raise Exhausted(f"expose.proxy: {binding}: a tenant has at most {MAX_OF_TENANT} ports served by a proxy")
        most, whom = (MAX_PROXIES, "") if user is None else (MAX_PROXIES * 3 // 4, " for others than root")
        if total > most:
            raise Exhausted(f"expose.proxy: {binding}: a node has at most {most} ports served by a proxy{whom}")
