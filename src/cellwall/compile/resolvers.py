"""The name servers that sandboxes are told. Pure."""

from collections.abc import Iterable

from cellwall.compile.assemble import denied_prefixes
from cellwall.model.addresses import Address
from cellwall.model.facts import NodeFacts
from cellwall.model.floor import floor_denies
from cellwall.model.settings import PUBLIC_RESOLVERS, Settings


def choose_resolvers(settings: Settings, facts: NodeFacts, *, ipv6: bool) -> tuple[tuple[Address, ...], str]:
    """(resolvers, where they come from): configured, else the node's own as far as the floor lets a tenant reach
    them, else a public pair. A resolver that the operator opened by an exception is reachable."""
    if settings.dns:
        return settings.dns, "network.dns"
    own = tuple(address for address in facts.resolvers if reachable(settings, facts, address))
    if own := _of_family(own, ipv6):
        return own, "the node's resolv.conf"
    return _of_family(PUBLIC_RESOLVERS, ipv6), "public resolvers, as the floor allows none of the node's own"


def reachable(settings: Settings, facts: NodeFacts, address: Address) -> bool:
    """A tenant may ask this resolver over both UDP and TCP."""
    opened = {
        row.protocol for row in (*settings.exceptions, *settings.services) if row.address == address and row.port == 53
    }
    return opened == {"tcp", "udp"} or not floor_denies(address, denied_prefixes(settings, facts))


def _of_family(addresses: Iterable[Address], ipv6: bool) -> tuple[Address, ...]:
    return tuple(address for address in addresses if ipv6 or address.version == 4)
