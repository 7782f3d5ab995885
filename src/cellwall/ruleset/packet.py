"""A packet as nftables sees it: bytes, and where its headers begin.

The kernel's rules load bytes at offsets, so a packet is kept as bytes and every field is read from them: a value
that is not there (a header cut short) is absent here exactly when the load fails there. What parsing decides is
only what the kernel decides before a rule runs: one VLAN tag is taken off, and the transport header is searched
(nft_set_pktinfo_ipv4_validate, ipv6_find_hdr). Nothing here repairs or rejects a packet; whether the IP stack
would have delivered it to a hook is the caller's knowledge.
"""

from typing import Final

import msgspec

ETH_IP: Final = 0x0800
ETH_ARP: Final = 0x0806
ETH_IPV6: Final = 0x86DD
_VLAN_TAGS: Final = frozenset((0x8100, 0x88A8))
_ETHERNET: Final = 14
_LLC: Final = 4  # what eth_type_trans() calls a frame whose type field is a length

_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AH, _NONE, _DESTINATION = 0, 43, 44, 51, 59, 60
_EXTENSIONS: Final = frozenset((_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AH, _NONE, _DESTINATION))


class Transport(msgspec.Struct, frozen=True):
    """The upper protocol, where its header begins, and in which byte of it this fragment begins."""

    protocol: int
    offset: int
    fragment: int = 0


class Packet(msgspec.Struct, frozen=True):
    """`link` is the Ethernet header as on the wire, so that its type field is a tag's where there is one
    (empty: none); `protocol` is what the IP stack will take `network` for."""

    link: bytes
    protocol: int
    network: bytes
    transport: Transport | None = None

    def load(self, base: str, offset: int, length: int) -> int | None:
        """`length` bytes from the begin of a header as a number; None where the kernel's load fails."""
        if base == "transport":
            if self.transport is None:
                return None
            # Also of a later fragment, whose data is then taken for a header (seen on 6.18): ports mean something
            # only behind conntrack's defragmentation, which the bridge family does not have.
            base, offset = "network", offset + self.transport.offset
        header = self.link if base == "link" else self.network
        data = header[offset : offset + length]
        return int.from_bytes(data) if len(data) == length else None


def parse_frame(frame: bytes, *, trimmed: bool = False) -> Packet:
    """The packet of an Ethernet frame. With `trimmed`, bytes behind the end that the IP header states are cut
    off, as the IP stack does before its hooks; a bridge does not."""
    link, rest = frame[:_ETHERNET], frame[_ETHERNET:]
    protocol = int.from_bytes(link[12:14])
    if protocol in _VLAN_TAGS:
        protocol, rest = int.from_bytes(rest[2:4]), rest[4:]
    if protocol < 0x0600:
        protocol = _LLC
    return _packet(link, protocol, trim(protocol, rest) if trimmed else rest)


def parse_ip(packet: bytes) -> Packet:
    """The packet of a bare IP packet, as one that the node itself sends."""
    protocol = ETH_IPV6 if packet[:1] and packet[0] >> 4 == 6 else ETH_IP
    return _packet(b"", protocol, trim(protocol, packet))


def trim(protocol: int, network: bytes) -> bytes:
    """Without the padding that Ethernet or a sender put behind the IP packet."""
    if protocol == ETH_IP and len(network) >= 20:
        return network[: max(20, int.from_bytes(network[2:4]))]
    if protocol == ETH_IPV6 and len(network) >= 40:
        return network[: 40 + int.from_bytes(network[4:6])]
    return network


def with_destination(packet: Packet, address: int, port: int | None) -> Packet:
    """The packet after a DNAT. Checksums are left alone: no rule reads them."""
    v6 = packet.protocol == ETH_IPV6
    network = bytearray(packet.network)
    if v6:
        network[24:40] = address.to_bytes(16)
    else:
        network[16:20] = address.to_bytes(4)
    if port is not None and packet.transport is not None and not packet.transport.fragment:
        start = packet.transport.offset + 2
        network[start : start + 2] = port.to_bytes(2)
    return msgspec.structs.replace(packet, network=bytes(network))


def forwarded(packet: Packet) -> Packet:
    """The packet between routing and the forward hook: one hop older (ip_forward, ip6_forward)."""
    at = 7 if packet.protocol == ETH_IPV6 else 8
    hops = max(0, packet.network[at] - 1)
    network = packet.network[:at] + bytes((hops,)) + packet.network[at + 1 :]
    return msgspec.structs.replace(packet, network=network)


def has_extension(packet: Packet, header: int) -> bool | None:
    """Whether an IPv6 packet has an extension header of this kind; None where it is not IPv6."""
    if packet.protocol != ETH_IPV6:
        return None
    return _find_header(packet.network, header) is not None


def _packet(link: bytes, protocol: int, network: bytes) -> Packet:
    transport = None
    if protocol == ETH_IP:
        transport = _transport4(network)
    elif protocol == ETH_IPV6:
        transport = _transport6(network)
    return Packet(link, protocol, network, transport)


def _transport4(network: bytes) -> Transport | None:
    if len(network) < 20:
        return None
    header, total = (network[0] & 0x0F) * 4, int.from_bytes(network[2:4])
    if network[0] >> 4 != 4 or header < 20 or len(network) < total or total < header:
        return None
    fragment = int.from_bytes(network[6:8]) & 0x1FFF
    return Transport(network[9], header, fragment * 8)


def _transport6(network: bytes) -> Transport | None:
    if len(network) < 40 or network[0] >> 4 != 6 or 40 + int.from_bytes(network[4:6]) > len(network):
        return None
    return _find_header(network, None)


def _find_header(network: bytes, wanted: int | None) -> Transport | None:
    """ipv6_find_hdr(): the header `wanted`, or the first that is not an extension header that nft walks over.

    nft stops at AH (IP6_FH_F_AUTH), and a later fragment ends the search: what follows is data.
    """
    if len(network) < 40:
        return None
    kind, at = network[6], 40
    while True:
        found = kind == wanted
        if kind not in _EXTENSIONS or kind == _NONE:
            return Transport(kind, at) if wanted is None or found else None
        header = network[at : at + 8]
        if len(header) < (4 if kind in (_ROUTING, _FRAGMENT) else 2):
            return None
        begin = int.from_bytes(header[2:4]) & 0xFFF8 if kind == _FRAGMENT else 0
        if begin and not found:
            return _later_fragment(header[0], begin) if wanted is None else None
        if found or (kind == _AH and wanted is None):
            return Transport(kind, at)
        length = {_FRAGMENT: 8, _AH: (header[1] + 2) * 4}.get(kind, (header[1] + 1) * 8)
        kind, at = header[0], at + length


def _later_fragment(kind: int, begin: int) -> Transport | None:
    """Its header's place is never set: the kernel leaves the 0 that it began with, the begin of the packet."""
    return Transport(kind, 0, begin) if kind not in _EXTENSIONS or kind == _NONE else None
