"""What a proxy between the address families serves: clients of one, by the server's address of the other. Pure.

A proxied port is the node's own: nothing of the wall judges who comes to it, and the flow that a proxy opens is one of
the node's, with its address. So whom the binding and the policies admit is judged here, for every client, and again for
those that are connected whenever either changes.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv6Network, ip_network

import msgspec

from cellwall.model.addresses import Prefix
from cellwall.model.endpoint import Endpoint, PortBinding
from cellwall.model.floor import stranger_prefixes
from cellwall.model.settings import Settings

MAX_PROXIES = 512
"""Proxied ports of a node."""

MAX_OF_TENANT = 64
"""Of these those of one tenant, on however many endpoints: as many as one endpoint publishes at most."""

MAX_CARRIED = 4096
"""Connections of all proxied ports together (`daemon/proxy/connections.py`), and so of one tenant's."""

Place = tuple[int, int, str]
"""What a proxy listens at: the host port, the clients' family, and the bind address, "" for any."""

_LINK_LOCAL = IPv6Network("fe80::/10")
_RATES = ("new_connections", "packets", "bytes", "tenant_new_connections", "tenant_packets", "tenant_bytes")


class ProxyRule(msgspec.Struct, frozen=True):
    """One proxied port. `family` is the clients'; `bind` "": they may come by any address of the node. `target` and
    `port`: where the server is. `clients`: a client must be in a network of each of these lists; `denied`: in none of
    these. `connections`: how many its endpoint has at once. `interfaces`: those by which clients come, by their
    indices. `tenant`: the number of whom a share of all connections is for."""

    host_port: int
    family: int
    bind: str
    target: str
    port: int
    clients: tuple[tuple[str, ...], ...]
    denied: tuple[str, ...]
    connections: int
    interfaces: tuple[int, ...] = ()
    tenant: int = 0

    @property
    def place(self) -> Place:
        """One rule has it."""
        return self.host_port, self.family, self.bind


def most_proxied(descriptors: int) -> int:
    """How many ports a daemon serves that may have so many descriptors, each of which takes one: a quarter of these,
    as one that has none left neither tells of the wall nor repairs it."""
    return min(MAX_PROXIES, descriptors // 4)


def place_of(binding: PortBinding) -> Place:
    """Where its clients of the other family come to."""
    return binding.host_port, binding.proxy, "" if binding.bind is None else str(binding.bind)


def proxy_rules(
    endpoints: Iterable[Endpoint],
    denied: Sequence[Prefix],
    connections: int,
    interfaces: tuple[int, ...] = (),
    lists: "Lists | None" = None,
) -> tuple[ProxyRule, ...]:
    """All that these endpoints have proxied. `denied`: as of `refused_clients`. `connections`: at most so many at once
    of an endpoint. `lists`: texts that were made before."""
    listed = lists or Lists()
    rules = [
        _rule(endpoint, binding, denied, connections, interfaces, listed)
        for endpoint in endpoints
        for binding in endpoint.bindings
        if binding.proxy
    ]
    return tuple(rule for rule in rules if rule is not None)


def unkept_bounds(settings: Settings) -> tuple[str, ...]:
    """The bounds in force that a proxied port would not be under, as the configuration names them: the flow to the
    sandbox is the node's own, and what crosses the node alone is counted. One that is only watched keeps nobody."""
    unkept = [name for name in _RATES if getattr(settings, name)]
    if 0 < settings.tenant_connections < MAX_CARRIED:
        unkept.append("tenant_connections")
    return tuple(f"limits.{name}" for name in unkept if name not in settings.watched)


def refused_clients(settings: Settings) -> tuple[Prefix, ...]:
    """Who is no client of a published port, whatever admits it: the sandboxes, those that the wall takes for none, and
    who comes by a link-local address, from which the kernel forwards nothing."""
    four, six = stranger_prefixes(map(ip_network, settings.public_addresses))
    return settings.network.subnet4, settings.network.subnet6, *four, *six, _LINK_LOCAL


def most_connections(settings: Settings) -> int:
    """How many an endpoint's proxied ports have at once: a bound that is only watched refuses nothing."""
    return MAX_CARRIED if "connections" in settings.watched else settings.connections


def _rule(
    endpoint: Endpoint,
    binding: PortBinding,
    denied: Sequence[Prefix],
    connections: int,
    interfaces: tuple[int, ...],
    listed: "Lists",
) -> ProxyRule | None:
    target = endpoint.address4 if binding.proxy == 6 else endpoint.address6
    if target is None:
        return None
    admitted = [binding.sources] if binding.sources else []
    for _, policy in endpoint.tiers.named():
        if policy.sources is not None and not policy.monitor:
            admitted.append(policy.sources)
    host_port, family, bind = place_of(binding)
    return ProxyRule(
        host_port=host_port,
        family=family,
        bind=bind,
        target=str(target),
        port=binding.port,
        clients=tuple(listed.texts(networks, binding.proxy) for networks in admitted),
        denied=listed.texts(denied, binding.proxy),
        connections=connections,
        interfaces=interfaces,
        tenant=endpoint.tenant_number,
    )


class Lists:
    """The text of lists of networks, each once: all ports of a tenant have its policy's."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[Sequence[Prefix], tuple[str, ...]]] = {}

    def texts(self, networks: Sequence[Prefix], family: int) -> tuple[str, ...]:
        """Those of one family."""
        known = self._known.get((id(networks), family))
        if known is None:  # the list is kept with its text, so that no other one has its place in memory
            known = networks, tuple(str(network) for network in networks if network.version == family)
            self._known[id(networks), family] = known
        return known[1]
