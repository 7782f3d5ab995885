"""Address families as data: what differs between IPv4 and IPv6 in nft, once."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal

import msgspec

from cellwall.ruleset.types import FieldName, KeyType


class Family(msgspec.Struct, frozen=True):
    """`suffix` ends the names of this family's sets; `bits` is the width of an address."""

    version: Literal[4, 6]
    suffix: Literal["4", "6"]
    bits: int
    nfproto: Literal["ipv4", "ipv6"]
    nft: Literal["ip", "ip6"]
    key: KeyType
    icmp: int
    source: FieldName
    destination: FieldName
    original_source: FieldName
    original_destination: FieldName
    reply_source: FieldName
    reply_destination: FieldName

    def prefix(self, network: IPv4Network | IPv6Network) -> tuple[int, int]:
        """(network address, mask) as ints."""
        return int(network.network_address), self.mask(network.prefixlen)

    def mask(self, length: int) -> int:
        """The netmask of a prefix length as an int."""
        return ((1 << length) - 1) << (self.bits - length)

    def holds(self, address: IPv4Address | IPv6Address) -> bool:
        """The address is of this family."""
        return address.version == self.version


IPV4 = Family(
    version=4,
    suffix="4",
    bits=32,
    nfproto="ipv4",
    nft="ip",
    key="ipv4_addr",
    icmp=1,
    source="ip saddr",
    destination="ip daddr",
    original_source="ct original ip saddr",
    original_destination="ct original ip daddr",
    reply_source="ct reply ip saddr",
    reply_destination="ct reply ip daddr",
)
IPV6 = Family(
    version=6,
    suffix="6",
    bits=128,
    nfproto="ipv6",
    nft="ip6",
    key="ipv6_addr",
    icmp=58,
    source="ip6 saddr",
    destination="ip6 daddr",
    original_source="ct original ip6 saddr",
    original_destination="ct original ip6 daddr",
    reply_source="ct reply ip6 saddr",
    reply_destination="ct reply ip6 daddr",
)
FAMILIES = (IPV4, IPV6)
