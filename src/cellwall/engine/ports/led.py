"""What is refused of ports that are led from one family to the other: those that are one too many, those that nobody
could serve, and all where the bounds in force would not hold for them. What is served is never displaced by what comes
later."""

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

from cellwall.engine.site import Site
from cellwall.errors import Exhausted, Unsupported
from cellwall.model.endpoint import EndpointKey, PortBinding
from cellwall.model.proxied import MAX_OF_TENANT, MAX_PROXIES, unkept_bounds

Whose = str | EndpointKey
"""A tenant, or an endpoint that has none and shares with nobody."""


class Proxies(Protocol):
    """Who serves them, on one node."""

    def prepare(self, site: Site, bindings: Iterable[PortBinding]) -> None:
        """Be able to serve these, which are about to go on record. What is not on record at the end of the turn is let
        go. Conflict, Unavailable or Unsupported where one cannot be served."""

    def follow(self, site: Site, anew: bool, container: str | None = None) -> None:
        """Serve what is on record by now, at the end of a turn. `anew`: also of endpoints that had nothing proxied so
        far. `container`: nothing but what is this one's can have changed in the turn. Never fails."""


def refuse_unserved(site: Site, bindings: Iterable[PortBinding]) -> None:
    """Raise what `Proxies.prepare` does. The last of what is asked: until the end of the turn it listens there."""
    if site.proxies is not None:
        site.proxies.prepare(site, [binding for binding in bindings if binding.proxy])


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
