"""Packets made from what they say, for whoever asks what a ruleset does with them.

Only headers that rules read are filled in; checksums are left zero. To send a packet through a kernel, take
frames from a tool that builds whole ones and `parse_frame` them.
"""

from collections.abc import Callable, Mapping
from typing import Final

from cellwall.ruleset.context import FlowTuple
from cellwall.ruleset.fields import ICMP, ICMPV6, TCP, UDP
from cellwall.ruleset.packet import ETH_ARP, ETH_IP, ETH_IPV6, Packet, parse_frame

ETHERNET_BROADCAST: Final = 0xFFFFFFFFFFFF
SYN: Final = 0x02
SYN_ACK: Final = 0x12


def flow_packet(
    flow: FlowTuple, *, source_mac: int = 0, destination_mac: int = 0, hop_limit: int = 64, tcp_flags: int = SYN
) -> Packet:
    """The packet that goes from `flow.source` to `flow.destination`: of a flow's reply tuple, its answer."""
    fill = _TRANSPORTS.get(flow.protocol)
    transport = fill(flow) if fill else bytes(8)
    if flow.protocol == TCP:
        transport = _tcp(flow, tcp_flags)
    size = 4 if flow.family == "ip" else 16
    ends = flow.source.to_bytes(size) + flow.destination.to_bytes(size)
    if flow.family == "ip":
        length = (20 + len(transport)).to_bytes(2)
        head = b"\x45\0" + length + bytes(4) + bytes((hop_limit, flow.protocol, 0, 0))
        return framed(head + ends + transport, ETH_IP, source_mac, destination_mac)
    head = b"\x60\0\0\0" + len(transport).to_bytes(2) + bytes((flow.protocol, hop_limit))
    return framed(head + ends + transport, ETH_IPV6, source_mac, destination_mac)


def arp_packet(
    operation: int,
    *,
    sender_mac: int,
    sender: int,
    target: int,
    source_mac: int | None = None,
    destination_mac: int = ETHERNET_BROADCAST,
) -> Packet:
    """An ARP request (1) or reply (2); the frame's own source is the sender's MAC unless given."""
    body = b"\0\1\x08\0\6\4" + operation.to_bytes(2) + sender_mac.to_bytes(6) + sender.to_bytes(4)
    body += bytes(6) + target.to_bytes(4)
    return framed(body, ETH_ARP, sender_mac if source_mac is None else source_mac, destination_mac)


def neighbour_packet(
    kind: int,
    target: int,
    *,
    source: int,
    destination: int,
    source_mac: int,
    destination_mac: int,
    hop_limit: int = 255,
) -> Packet:
    """A neighbour solicitation (135) or advertisement (136) for `target`."""
    body = bytes((kind, 0, 0, 0)) + bytes(4) + target.to_bytes(16)
    head = b"\x60\0\0\0" + len(body).to_bytes(2) + bytes((ICMPV6, hop_limit))
    ends = source.to_bytes(16) + destination.to_bytes(16)
    return framed(head + ends + body, ETH_IPV6, source_mac, destination_mac)


def framed(network: bytes, protocol: int, source_mac: int, destination_mac: int) -> Packet:
    """The packet of a network layer in an Ethernet frame."""
    return parse_frame(destination_mac.to_bytes(6) + source_mac.to_bytes(6) + protocol.to_bytes(2) + network)


def _tcp(flow: FlowTuple, flags: int) -> bytes:
    ports = flow.source_port.to_bytes(2) + flow.destination_port.to_bytes(2)
    return ports + bytes(8) + bytes((0x50, flags)) + bytes(6)


def _udp(flow: FlowTuple) -> bytes:
    return flow.source_port.to_bytes(2) + flow.destination_port.to_bytes(2) + b"\0\x08\0\0"


def _icmp(flow: FlowTuple) -> bytes:
    return flow.destination_port.to_bytes(2) + bytes(2) + flow.source_port.to_bytes(2) + bytes(2)


_TRANSPORTS: Final[Mapping[int, Callable[[FlowTuple], bytes]]] = {
    UDP: _udp,
    ICMP: _icmp,
    ICMPV6: _icmp,
}
