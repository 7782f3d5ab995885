"""The name servers that sandboxes are told. Pure."""

from collections.abc import Iterable

from cellwall.compile.assemble import uplink_of
from cellwall.model.addresses import Address
from cellwall.model.facts import NodeFacts
from cellwall.model.resolvers import askable
from cellwall.model.settings import PUBLIC_RESOLVERS, Settings

_PUBLIC = "public resolvers, as the floor allows none of the node's own"
_DENIED = "which the floor denies as the node's own; open port 53 over udp,tcp in network.exceptions"


def choose_resolvers(settings: Settings, facts: NodeFacts, *, ipv6: bool) -> tuple[tuple[Address, ...], str]:
    """(resolvers, where they come from): configured, else the node's own as far as the floor lets a tenant reach
    them, else those of a public pair; and of configured ones, or where none is left, which this node denies: they may
    be elsewhere another day."""
    node = tuple(facts.own_prefixes(settings.network.bridge, uplink_of(settings, facts)))

    def allowed(addresses: Iterable[Address]) -> tuple[Address, ...]:
        return tuple(address for address in addresses if askable(settings, address, node))

    if settings.dns:
        reached = allowed(settings.dns)
        return settings.dns, _origin("network.dns", [one for one in settings.dns if one not in reached])
    if own := _of_family(allowed(facts.resolvers), ipv6):
        return own, "the node's resolv.conf"
    public = _of_family(PUBLIC_RESOLVERS, ipv6)
    reached = allowed(public)
    return reached or public, _origin(_PUBLIC, () if reached else public)


def _origin(origin: str, denied: Iterable[Address]) -> str:
    texts = [str(address) for address in denied]
    return f"{', '.join(texts)} ({origin}), {_DENIED}" if texts else origin


def _of_family(addresses: Iterable[Address], ipv6: bool) -> tuple[Address, ...]:
    return tuple(address for address in addresses if ipv6 or address.version == 4)
