"""Addresses, MACs and protocols as parsed values; text exists only at the edges."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal

from cellwall.errors import InvalidSpec

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network
Protocol = Literal["tcp", "udp"]

PROTOCOL_NUMBERS: dict[str, int] = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58}
"""IANA protocol numbers of the only protocols that a tenant may use."""

_HEXADECIMAL = frozenset("0123456789abcdefABCDEF")


def is_number(text: str, longest: int) -> bool:
    """Up to so many decimal digits, as every program reads them: with a zero before them readers differ in what they
    are (010 is 8 to inet_aton(3) and YAML 1.1), and Python reads those of other scripts, too."""
    return text.isascii() and text.isdigit() and len(text) <= longest and (text == "0" or text[0] != "0")


def parse_address(value: str, field: str) -> Address:
    """An IPv4 or IPv6 address without zone and prefix length, one of IPv4 as such."""
    try:
        address = ip_address(value)
    except ValueError as error:
        raise InvalidSpec(field, value, "is not an IP address") from error
    if isinstance(address, IPv6Address):
        _refuse_odd_address(address, value, field)
    return address


def parse_prefix(value: str, field: str) -> Prefix:
    """A network in CIDR form; host bits and masks are refused, a bare address is its /32 or /128."""
    refuse_odd_length(value, field)
    try:
        prefix = ip_network(value)
    except ValueError as error:
        raise InvalidSpec(field, value, "is not a network in CIDR form without host bits") from error
    if isinstance(prefix, IPv6Network):
        _refuse_odd_address(prefix.network_address, value, field)
    return prefix


def refuse_odd_length(value: str, field: str) -> None:
    """Raise InvalidSpec for what stands behind a slash and is no prefix length in plain digits. Python would take 032,
    and a mask, of the network or of the host: 0.0.0.0 is either."""
    _, slash, length = value.partition("/")
    if slash and not is_number(length, 3):
        raise InvalidSpec(field, value, "is not a network in CIDR form: a length in plain digits follows the slash")


def _refuse_odd_address(address: IPv6Address, value: str, field: str) -> None:
    if address.scope_id is not None:
        raise InvalidSpec(field, value, "must not carry a zone")
    if address.ipv4_mapped is not None:  # as the name of an IPv4 host it would match none of its packets
        raise InvalidSpec(field, value, "is IPv4 written as IPv6 (RFC 4291 2.5.5.2); write it as IPv4")


def _is_mac(value: str) -> bool:
    octets = value.split(":")
    return len(octets) == 6 and all(len(octet) == 2 and _HEXADECIMAL.issuperset(octet) for octet in octets)


def parse_mac(value: str, field: str = "mac") -> int:
    """A unicast, non-zero Ethernet address as an int (IEEE 802: bit 0 of the first octet marks groups)."""
    if not isinstance(value, str) or not _is_mac(value):
        raise InvalidSpec(field, value, "is not a MAC address of the form 02:00:00:00:00:01")
    number = int(value.replace(":", ""), 16)
    if number == 0:
        raise InvalidSpec(field, value, "is the zero address")
    if number >> 40 & 1:
        raise InvalidSpec(field, value, "is a group address; a sandbox needs a unicast one")
    return number


def mac_text(mac: int) -> str:
    """The usual text of a MAC: lower case, colons. Of what is none, its number: errors show it."""
    return mac.to_bytes(6, "big").hex(":") if 0 <= mac < 1 << 48 else str(mac)


def link_local(mac: int) -> IPv6Address:
    """The modified EUI-64 link-local address of a MAC (RFC 4291 appendix A)."""
    raw = mac.to_bytes(6, "big")
    host = bytes([raw[0] ^ 2]) + raw[1:3] + b"\xff\xfe" + raw[3:]
    return IPv6Address(b"\xfe\x80" + bytes(6) + host)


LISTENER_REPORTS = IPv6Address("ff02::16")
"""Where a kernel says which groups it listens to, whenever an interface comes up (RFC 9777 5.2.14)."""
LISTENER_REPORTS_MAC = 0x333300000016


def solicited_node_mac(address: IPv6Address) -> int:
    """The Ethernet group of an address's solicited-node multicast address (RFC 4291 2.7.1, RFC 2464 7)."""
    return 0x3333FF000000 | (int(address) & 0xFFFFFF)
