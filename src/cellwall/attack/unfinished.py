"""Frames that leave their checksum to whoever sends them on, and say where it begins and where it goes.

Owns: the header before a frame by which a packet socket is told so (PACKET_VNET_HDR, linux/virtio_net.h), and the
arithmetic that makes of the sum what the sender wants.
"""

import socket
import struct
from collections.abc import Sequence

import msgspec

from cellwall.lab import Host
from cellwall.lab.capture import one_cpu

ETHERNET = 14
_SOL_PACKET, _VNET_HDR = 263, 15
_NEEDS_CSUM = 1
_HEADER = struct.Struct("=BBHHHH")


class Unfinished(msgspec.Struct, frozen=True):
    """A frame whose sum begins at byte `start` of its IP header and goes `offset` bytes further on; it is to be cut
    into segments of `size` bytes where `kind` (VIRTIO_NET_HDR_GSO_*) is given."""

    frame: bytes
    start: int
    offset: int
    kind: int = 0
    size: int = 0

    def packed(self) -> bytes:
        """As a packet socket takes it."""
        cut = (self.kind, ETHERNET + self.start if self.kind else 0, self.size)
        return _HEADER.pack(_NEEDS_CSUM, *cut, ETHERNET + self.start, self.offset) + self.frame


def send_unfinished(host: Host, ifname: str, frames: Sequence[Unfinished]) -> None:
    """Send each once, in order. OSError (EINVAL) where the kernel takes no such sum of anybody."""
    with host.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock, host.enter(), one_cpu():
        sock.setsockopt(_SOL_PACKET, _VNET_HDR, 1)
        sock.bind((ifname, 0))
        for frame in frames:
            sock.send(frame.packed())


def summed(*parts: bytes) -> int:
    """The one's complement sum of what may not be of even length."""
    data = b"".join(part + bytes(len(part) % 2) for part in parts)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def filling(wanted: int, *parts: bytes) -> bytes:
    """Two bytes that make the checksum over `parts` and them `wanted`."""
    return struct.pack("!H", ((0xFFFF ^ wanted) - summed(*parts)) % 0xFFFF)
