"""The name servers that sandboxes are told. Pure."""

from collections.abc import Iterable

from cellwall.model.addresses import Address
from cellwall.model.facts import NodeFacts
from cellwall.model.resolvers import askable
from cellwall.model.settings import PUBLIC_RESOLVERS, Settings

_DENIED = "which the floor denies as the node's own; open port 53 over udp,tcp in network.exceptions"


def choose_resolvers(settings: Settings, facts: NodeFacts, *, ipv6: bool) -> tuple[tuple[Address, ...], str]:
    """(resolvers, where they come from): configured, else the node's own as far as the floor lets a tenant reach
    them, else a public pair; and of configured ones, which this node denies: they may be elsewhere another day."""
    node = tuple(facts.own_prefixes(settings.network.bridge))
    if settings.dns:
        denied = [str(address) for address in settings.dns if not askable(settings, address, node)]
        return settings.dns, f"{', '.join(denied)} (network.dns), {_DENIED}" if denied else "network.dns"
    own = tuple(address for address in facts.resolvers if askable(settings, address, node))
    if own := _of_family(own, ipv6):
        return own, "the node's resolv.conf"
    return _of_family(PUBLIC_RESOLVERS, ipv6), "public resolvers, as the floor allows none of the node's own"


def _of_family(addresses: Iterable[Address], ipv6: bool) -> tuple[Address, ...]:
    return tuple(address for address in addresses if ipv6 or address.version == 4)
