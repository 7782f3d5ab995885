"""Whom a proxied port admits, made ready once for all who come: a client costs no more where the lists are long. Pure.

Networks are kept as their leading bits, in a set for each length of these, so that a client is looked up as often as
there are lengths; read as text for every client, a tenant's lists were 10 ms of everybody's proxy.
"""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_address
from socket import AF_INET, AF_INET6, inet_pton

from cellwall.model.proxied import ProxyRule

_KEPT = 512
"""Lists that are kept ready: the ports of a tenant have the same ones, and are told one by one."""


class Networks:
    """A list of networks of one family."""

    def __init__(self, texts: Iterable[str], family: int) -> None:
        of, width = (AF_INET6, 128) if family == 6 else (AF_INET, 32)
        leading: dict[int, set[int]] = {}
        for text in texts:
            address, _, length = text.partition("/")
            beyond = width - (int(length) if length else width)
            leading.setdefault(beyond, set()).add(int.from_bytes(inet_pton(of, address)) >> beyond)
        self._leading = tuple(leading.items())

    def has(self, address: int) -> bool:
        """Whether the address is in one of them."""
        return any(address >> beyond in known for beyond, known in self._leading)


class Clients:
    """Who is admitted by one rule."""

    def __init__(self, rule: ProxyRule) -> None:
        self._family = rule.family
        self._lists = tuple(_ready(texts, rule.family) for texts in rule.clients)
        self._denied = _ready(rule.denied, rule.family)

    def admits(self, client: str) -> bool:
        """Whether the binding and the policies admit this address."""
        address = ip_address(client)
        number = int(address)
        if address.version != self._family or self._denied.has(number):
            return False
        return all(networks.has(number) for networks in self._lists)


@lru_cache(_KEPT)
def _ready(texts: tuple[str, ...], family: int) -> Networks:
    return Networks(texts, family)
