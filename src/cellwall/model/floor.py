"""The floor: destinations that no tenant's rule can open, with the source of each.

A table and not `ipaddress.is_global`: that property is true for 168.63.129.16, 64:ff9b::a9fe:a9fe, fec0::1 and
5f00::1 in Python 3.11 and 3.13. IPv6 is an allow-list of one prefix, 2000::/3, less what stands here; everything
outside it (loopback, mapped, NAT64, discard, unique local, link-local, site-local, multicast) falls with it.
"""

from collections.abc import Collection, Iterable
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_interface, ip_network

import msgspec

from cellwall.model.addresses import Address, Prefix

GLOBAL6 = IPv6Network("2000::/3")
"""The only IPv6 unicast space that IANA assigns from (RFC 4291 2.4)."""


class FloorRange(msgspec.Struct, frozen=True):
    """One denied prefix: what it is, and where that is laid down."""

    prefix: Prefix
    name: str
    source: str


def _ranges(rows: Iterable[tuple[str, str, str]]) -> tuple[FloorRange, ...]:
    return tuple(FloorRange(ip_network(prefix), name, source) for prefix, name, source in rows)


SPECIAL_PURPOSE = _ranges(
    (
        ("0.0.0.0/8", "this network", "RFC 791 3.2"),
        ("10.0.0.0/8", "private use", "RFC 1918"),
        ("100.64.0.0/10", "shared address space", "RFC 6598"),
        ("127.0.0.0/8", "loopback", "RFC 1122 3.2.1.3"),
        ("169.254.0.0/16", "link-local", "RFC 3927"),
        ("172.16.0.0/12", "private use", "RFC 1918"),
        ("192.0.0.0/24", "IETF protocol assignments", "RFC 6890 2.1"),
        ("192.0.2.0/24", "TEST-NET-1", "RFC 5737"),
        ("192.31.196.0/24", "AS112-v4", "RFC 7535"),
        ("192.52.193.0/24", "AMT", "RFC 7450"),
        ("192.88.99.0/24", "6to4 relay anycast (deprecated)", "RFC 7526"),
        ("192.168.0.0/16", "private use", "RFC 1918"),
        ("192.175.48.0/24", "direct delegation AS112", "RFC 7534"),
        ("198.18.0.0/15", "benchmarking", "RFC 2544"),
        ("198.51.100.0/24", "TEST-NET-2", "RFC 5737"),
        ("203.0.113.0/24", "TEST-NET-3", "RFC 5737"),
        ("224.0.0.0/4", "multicast", "RFC 5771"),
        ("240.0.0.0/4", "reserved and limited broadcast", "RFC 1112 4, RFC 8190"),
        ("2001::/23", "IETF protocol assignments, Teredo, ORCHID", "RFC 2928, RFC 4380, RFC 7343"),
        ("2001:db8::/32", "documentation", "RFC 3849"),
        ("2002::/16", "6to4", "RFC 3056"),
        ("2620:4f:8000::/48", "direct delegation AS112", "RFC 7534"),
        ("3fff::/20", "documentation", "RFC 9637"),
    )
)

METADATA = _ranges(
    (
        ("169.254.169.254/32", "instance metadata (AWS, GCP, Azure, OpenStack and others)", "AWS EC2 IMDS"),
        ("169.254.170.2/32", "ECS task credentials", "AWS ECS"),
        ("169.254.170.23/32", "EKS pod identity", "AWS EKS"),
        ("169.254.42.42/32", "instance metadata", "Scaleway"),
        ("168.63.129.16/32", "wire server and DNS, a public address", "Azure"),
        ("100.100.100.200/32", "instance metadata", "Alibaba Cloud"),
        ("192.0.0.192/32", "instance metadata", "Oracle Cloud"),
        ("fd00:ec2::254/128", "instance metadata", "AWS EC2 IMDS"),
        ("fd00:ec2::23/128", "EKS pod identity", "AWS EKS"),
        ("fd20:ce::254/128", "instance metadata", "GCP"),
        ("fd00:42::42/128", "instance metadata", "Scaleway"),
        ("fe80::a9fe:a9fe/128", "instance metadata", "OpenStack, Hetzner"),
    )
)


_CARRIERS = tuple(
    (IPv6Network(prefix), shift)
    for prefix, shift in (
        ("::/96", 0),  # IPv4-compatible (RFC 4291 2.5.5.1)
        ("::ffff:0:0/96", 0),  # IPv4-mapped (RFC 4291 2.5.5.2)
        ("64:ff9b::/96", 0),  # NAT64 (RFC 6052)
        ("64:ff9b:1::/48", 0),  # NAT64 of the site's own (RFC 8215), with a /96 inside
        ("2002::/16", 80),  # 6to4 (RFC 3056)
    )
)
"""IPv6 prefixes whose addresses carry an IPv4 address, and how many bits from the right it ends."""


def metadata_address(address: Address) -> bool:
    """The address is a cloud's metadata service, or an IPv6 address by which a translator would lead to one."""
    meant = (address, _carried(address)) if isinstance(address, IPv6Address) else (address,)
    return any(candidate in row.prefix for row in METADATA for candidate in meant if candidate is not None)


def _carried(address: IPv6Address) -> IPv4Address | None:
    shift = next((shift for prefix, shift in _CARRIERS if address in prefix), None)
    return None if shift is None else IPv4Address(int(address) >> shift & 0xFFFFFFFF)


def floor_prefixes(extra: Iterable[Prefix]) -> tuple[tuple[IPv4Network, ...], tuple[IPv6Network, ...]]:
    """The denied prefixes of both families: the built-in table and `extra` (the node's own networks and addresses,
    the operator's), overlapping ones merged. IPv6 rows outside 2000::/3 are left out: the allow-list denies them."""
    prefixes = [row.prefix for row in SPECIAL_PURPOSE + METADATA]
    prefixes += list(extra)
    four = [prefix for prefix in prefixes if isinstance(prefix, IPv4Network)]
    six = [prefix for prefix in prefixes if isinstance(prefix, IPv6Network) and prefix.overlaps(GLOBAL6)]
    return tuple(collapse_addresses(four)), tuple(collapse_addresses(six))


_UNROUTED = tuple(IPv4Network(prefix) for prefix in ("0.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "240.0.0.0/4"))
"""Rows of the floor in which no routed client has its address; link-local ones are resolvers and clocks of clouds."""


def stranger_prefixes(extra: Iterable[Prefix]) -> tuple[tuple[IPv4Network, ...], tuple[IPv6Network, ...]]:
    """What no client of a published port asks from: metadata services, link-local and reserved IPv4, IPv6 addresses
    by which a translator would lead to IPv4 ones, and `extra`. Private networks are not among it: clients are there."""
    services = [row.prefix for row in METADATA if isinstance(row.prefix, IPv4Network)]
    four = [*services, *_UNROUTED]
    six = [row.prefix for row in METADATA if isinstance(row.prefix, IPv6Network)]
    for carrier, shift in _CARRIERS:
        if carrier == IPv6Network("::ffff:0:0/96"):
            continue  # no IPv6 stack takes a mapped source from the wire
        if shift:
            six += [IPv6Network((int(carrier[0]) | int(row[0]) << shift, 128 - shift)) for row in services]
        else:
            six.append(carrier)
    rest = list(extra)
    four += [prefix for prefix in rest if isinstance(prefix, IPv4Network)]
    six += [prefix for prefix in rest if isinstance(prefix, IPv6Network)]
    return tuple(collapse_addresses(four)), tuple(collapse_addresses(six))


ALWAYS_DENIED: dict[int, Address] = {4: IPv4Address("0.0.0.1"), 6: IPv6Address("2001:db8::1")}
"""An address of each family that the table of every floor denies, whatever is configured."""


def floor_denies(address: Address, extra: Iterable[Prefix] = ()) -> bool:
    """Whether the floor denies a destination; text forms of an address are the caller's to parse."""
    if address.version == 6 and address not in GLOBAL6:
        return True
    four, six = floor_prefixes(extra)
    table: tuple[Prefix, ...] = four if address.version == 4 else six
    return any(address in prefix for prefix in table)


def always_denied(version: int, first: int, prefixlen: int) -> bool:
    """Whether every floor denies a prefix whole, whatever is configured; `first`: its first address as a number. In
    numbers, for whoever has hundreds of routes to ask about."""
    from bisect import bisect_right  # here and not above: most attaches have no such route

    begins, ends = _always_denied(version)
    at = bisect_right(begins, first) - 1
    return at >= 0 and first + (1 << (32 if version == 4 else 128) - prefixlen) <= ends[at]


@cache
def _always_denied(version: int) -> tuple[list[int], list[int]]:
    """Where what every floor denies of a family begins and, behind it, ends; in order."""
    four, six = floor_prefixes(())
    rows: Iterable[Prefix] = four if version == 4 else (*IPv6Network("::/0").address_exclude(GLOBAL6), *six)
    spans = sorted((int(row[0]), int(row[-1]) + 1) for row in rows)
    return [begin for begin, _ in spans], [end for _, end in spans]


def lonely_addresses(
    interface: str,
    addresses: Iterable[tuple[str, str]],
    networks: Iterable[tuple[str, str]],
    protected: Collection[Prefix],
) -> tuple[Address, ...]:
    """The addresses of an interface around which the node knows no network, though the Internet has them: it cannot be
    told from the Internet who is beside it. Those are left out that lie in a protected network. Addresses and networks
    are rows of (interface, prefix); a default route is no network."""
    near = [ip_network(prefix) for name, prefix in networks if name == interface]
    around = [*protected, *(network for network in near if 0 < network.prefixlen < network.max_prefixlen)]
    own = [ip_interface(address).ip for name, address in addresses if name == interface]
    return tuple(ip for ip in own if not floor_denies(ip) and not any(ip in network for network in around))
