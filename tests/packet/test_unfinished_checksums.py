"""A checksum that a sandbox leaves unfinished, and where it says that it goes.

With PACKET_VNET_HDR whoever sends a frame tells the kernel from where on to sum, and where the sum is to be written.
The kernel or the card does it as the packet leaves the node, behind every hook: two bytes of the packet are then others
than those that were judged. The sum is made to be what the sender wants by two bytes behind the end of the datagram.

What stops it is a filter at the bridge's own interface, which no rule can be: it lets a checksum be unfinished where
that is TCP's or UDP's own. The controls take it away.
"""

import socket
import struct
from ipaddress import IPv6Address

import pytest

from cellwall.attack.frames import frame
from cellwall.errors import LabError
from cellwall.lab import Host
from cellwall.lab import addresses as at
from cellwall.model.addresses import mac_text
from world import Stream, World, open_world

pytestmark = pytest.mark.root
ACCOMPLICE, METADATA = IPv6Address("2600:ec2::254"), IPv6Address("fd00:ec2::254")
"""They differ in their first two bytes."""
GATEWAY_MAC = "02:00:00:00:00:01"
BRIDGE = "b9_br0"
SPORT, DPORT = 7777, 5000
FIRST, TARGET = 6, 24
"""Bytes of the IPv6 header: where the sum begins (the next header: the kernel takes no earlier one), where it goes."""


def summed(*parts: bytes) -> int:
    """The one's complement sum; each part has an even length."""
    total = sum(sum(struct.unpack(f"!{len(part) // 2}H", part)) for part in parts)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def datagram(sport: int, checksum: int, payload: bytes) -> bytes:
    return struct.pack("!HHHH", sport, DPORT, 8 + len(payload), checksum) + payload


def forged(own: IPv6Address, node: IPv6Address, node_port: int, payload: bytes, hops: int = 64) -> bytes:
    """A packet to the accomplice that is one to the metadata service once the node has translated and finished it."""
    length = 8 + len(payload)
    pseudo = struct.pack("!II", length, socket.IPPROTO_UDP)
    final = 0xFFFF ^ summed(node.packed, METADATA.packed, pseudo, datagram(node_port, 0, payload)) or 0xFFFF
    # Of an unfinished checksum the node's translation changes the part of the address alone.
    before = summed(struct.pack("!HH", final, 0xFFFF ^ summed(node.packed)), own.packed)
    leaving = struct.pack("!BB", socket.IPPROTO_UDP, hops - 1) + node.packed + ACCOMPLICE.packed
    wanted = 0xFFFF ^ int.from_bytes(METADATA.packed[:2])
    rest = summed(leaving, datagram(node_port, final, payload))
    filler = struct.pack("!H", (wanted - rest) % 0xFFFF)
    head = struct.pack("!IHBB", 6 << 28, length + len(filler), socket.IPPROTO_UDP, hops)
    return head + own.packed + ACCOMPLICE.packed + datagram(SPORT, before, payload) + filler


def send_unfinished(host: Host, data: bytes) -> None:
    with host.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock, host.enter():
        sock.setsockopt(263, 15, 1)  # SOL_PACKET, PACKET_VNET_HDR
        sock.bind(("eth0", 0))
        # flags: VIRTIO_NET_HDR_F_NEEDS_CSUM; no segmentation; the sum's beginning, and its place from there
        sock.send(struct.pack("=BBHHHH", 1, 0, 0, 0, 14 + FIRST, TARGET - FIRST) + data)


def heard(stream: Stream, token: bytes) -> None:
    """No assertion: that the lab works is not what fails here."""
    if not stream.ask(token):
        raise LabError("the accomplice does not answer")


def leads_past_the_floor(world: World) -> bool:
    """Whether a datagram to the accomplice became one to the metadata service."""
    internet, tenant = world.lab.internet, world.attach("tenant")
    internet.run(["ip", "address", "add", f"{ACCOMPLICE}/128", "dev", "lo"])
    services = internet.serve(udp=[DPORT])
    with Stream(tenant.host, str(ACCOMPLICE), DPORT, udp=True, source_port=SPORT) as stream:
        asked = world.token()
        heard(stream, asked)
        node_port = next(seen for seen in services.seen if asked in seen).peer[1]
        token, sentinel = world.token(), world.token("sentinel")
        body = forged(IPv6Address(tenant.address(6)), IPv6Address(at.NODE6), node_port, token.ljust(32))
        send_unfinished(tenant.host, frame(mac_text(tenant.endpoint.mac), GATEWAY_MAC, body))
        heard(stream, sentinel)
    return any(token in seen and seen.local[0] != str(ACCOMPLICE) for seen in services.seen)


def test_what_a_card_writes_last_leads_nowhere_that_the_floor_denies() -> None:
    with open_world() as world:
        assert not leads_past_the_floor(world)


def test_without_the_filter_a_card_does_lead_past_the_floor() -> None:
    with open_world() as world:
        world.lab.node.run(["tc", "filter", "del", "dev", BRIDGE, "ingress"])
        assert leads_past_the_floor(world)
