"""C01-C04: destinations that no tenant's rule can open, each by several protocols and in every form it can be written.

The list is the lab's and not the wall's: a prefix that the wall forgot must not be missing here too.
"""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import product

from cellwall.attack.probe import Layer, Place, Probe, layers
from cellwall.attack.rows.routed import attackers, between, by_gateway, fixed, surroundings, volley
from cellwall.attack.rows.shapes import FAMILIES
from cellwall.lab import addresses as at

Service = tuple[str, str | int, int]
"""Name, protocol and destination port."""

_EVERY_WAY: tuple[Service, ...] = (
    ("http", "tcp", 80),
    ("https", "tcp", 443),
    ("dns-tcp", "tcp", 53),
    ("dns", "udp", 53),
    ("quic", "udp", 443),
    ("high", "udp", 32526),
    ("ping", "icmp", 0),
)
_PLAIN: tuple[Service, ...] = (("udp", "udp", 9020), ("tcp", "tcp", 9020), ("icmp", "icmp", 0))
_ONCE: tuple[Service, ...] = (("udp", "udp", 9020),)


_IMPASSABLE: dict[str, str] = {
    "224.0.0.0/4": "the kernel forwards multicast for a multicast router only",
    "ff00::/8": "the kernel forwards multicast for a multicast router only",
    "0.0.0.0/32": "the kernel forwards nothing to the unspecified address",
    "255.255.255.255/32": "the kernel forwards nothing to the limited broadcast",
    "127.0.0.0/8": "the kernel forwards nothing to the loopback; see D02",
    "::1/128": "the kernel forwards nothing to the loopback; see D02",
    "fe80::/10": "the kernel looks a link-local address up on the link it came from, where nobody has it",
}
"""Why the kernel sends nothing there, whatever the wall does."""
_UNTYPED = tuple(map(ip_network, ("::/128", "::ffff:0:0/96")))
"""For the kernel's lookup of address types none that packets are for; it forwards them all the same."""


def _within(address: str, prefix: IPv4Network | IPv6Network) -> bool:
    # Not the properties of ipaddress: they follow a mapped address to what it wraps, on some versions of Python.
    host = ip_address(address)
    return host.version == prefix.version and host in prefix


def _kernel(address: str) -> str:
    return next((why for prefix, why in _IMPASSABLE.items() if _within(address, ip_network(prefix))), "")


def _stops(address: str) -> frozenset[Layer]:
    untyped = any(_within(address, prefix) for prefix in _UNTYPED)
    return layers("PRE", "FWD") if untyped else layers("FWD")


def _aimed(name: str, what: str, target: str, services: tuple[Service, ...]) -> Iterator[Probe]:
    """Packets to one address; `name` has the row in front."""
    family = ip_address(target).version
    for service, protocol, port in services:
        yield volley(
            f"{name}-{service}",
            f"{what}: {target} by {service}",
            _stops(target),
            by_gateway(between(attackers(family), fixed(target), protocol, dport=port)),
            "internet",
            family=family,
            kernel=_kernel(target),
            gentle=True,
        )


# ---------------------------------------------------------------- C01: metadata


def _wrapped(address: str) -> Iterator[tuple[str, str]]:
    """Every IPv6 form that a translator or a tunnel end would take for this IPv4 address."""
    low = int(IPv4Address(address))
    for name, base, shift in (
        ("compatible", "::", 0),
        ("mapped", "::ffff:0:0", 0),
        ("translated", "::ffff:0:0:0", 0),  # RFC 2765
        ("nat64", "64:ff9b::", 0),
        ("nat64-local", "64:ff9b:1::", 0),
        ("6to4", "2002::", 80),
        ("isatap", "fe80:0:0:1:0:5efe::", 0),
    ):
        yield name, str(IPv6Address(int(IPv6Address(base)) | low << shift))
    # Teredo carries the client's address inverted, and the server's plain (RFC 4380 4).
    yield "teredo", str(IPv6Address(int(IPv6Address("2001::")) | low << 64 | low ^ 0xFFFFFFFF))


def _metadata() -> Iterator[Probe]:
    for cloud, address in (*at.METADATA4.items(), *at.METADATA6.items(), ("OpenStack", "fe80::a9fe:a9fe")):
        name = cloud.lower().replace(" ", "-")
        family = ip_address(address).version
        yield from _aimed(f"C01-{name}-v{family}", f"metadata of {cloud}", address, _EVERY_WAY)
        for form, wrapped in _wrapped(address) if family == 4 else ():
            yield from _aimed(f"C01-{name}-{form}", f"metadata of {cloud}, {form}", wrapped, _EVERY_WAY[:1] + _ONCE)


# ---------------------------------------------------------------- C02, C03: special purpose


def _special() -> Iterator[Probe]:
    for row, owned in (("C02", {**at.SPECIAL4, **at.UNOWNED4}), ("C03", {**at.SPECIAL6, **at.UNOWNED6})):
        for prefix, address in owned.items():
            name = f"{row}-{prefix.replace('/', '-')}"
            yield from _aimed(name, f"special purpose {prefix}", address, _PLAIN)
            for edge, target in _edges(prefix):
                if target != address:
                    yield from _aimed(f"{name}-{edge}", f"{edge} of {prefix}", target, _ONCE)


def _edges(prefix: str) -> Iterator[tuple[str, str]]:
    network = ip_network(prefix)
    if network.num_addresses > 1:
        # 192.168.0.0 is the sandboxes' own network, whose first address is nobody's.
        first = "192.168.16.0" if prefix == "192.168.0.0/16" else str(network[0])
        yield "first", first
        yield "last", str(network[-1])


# ---------------------------------------------------------------- C04: around the node


_AROUND: tuple[tuple[str, str, Place], ...] = (
    ("hidden-public", "the node's public address behind 1:1 NAT", "internet"),
    ("protected", "a network the operator named", "internet"),
    ("protected-first", "the first address of a network the operator named", "internet"),
    ("protected-last", "the last address of a network the operator named", "internet"),
    ("lan", "a neighbour on the LAN", "lan"),
    ("router", "the LAN's router", "internet"),
    ("infra", "a host behind another interface", "infra"),
    ("other-bridge", "a container on another bridge", "other"),
)


def _around() -> Iterator[Probe]:
    for (name, what, where), family, (service, protocol, port) in product(_AROUND, FAMILIES, _EVERY_WAY):
        yield volley(
            f"C04-{name}-v{family}-{service}",
            f"{what} by {service}, IPv{family}",
            layers("FWD"),
            by_gateway(between(attackers(family), surroundings(name, family), protocol, dport=port)),
            where,
            family=family,
            gentle=True,
            needs=name,
        )


PROBES: tuple[Probe, ...] = (*_metadata(), *_special(), *_around())
