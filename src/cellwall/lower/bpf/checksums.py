# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Which unfinished checksums may pass: those that end up where TCP or UDP has its checksum, and nowhere else.

Whoever sends a frame may leave its checksum to the card, and says where it begins and where it goes: in a sandbox by
PACKET_VNET_HDR, from inside a virtual machine by virtio. The card writes it after every hook. So what was judged is
what leaves only where the place is one that nobody judges. No rule of nft or iptables sees the place; a program does,
from fields of the kernel's own `struct sk_buff`.

It judges at the ingress of the bridge's own interface: every packet that a sandbox sends to or through the node comes
by there once, after the pins and before routing. It is there before any sandbox: an attach has no part in it.

What passes: what is finished already; TCP and UDP over their whole with their own checksum's place; and over UDP any
sum that begins behind the UDP header, as a tunnel leaves the inner packet's. Not a fragment: the kernel finishes the
sum before it cuts. Cut to size later by the kernel or the card (segmentation), the place is the same one.

A frame may say as well that it is many: whoever sends it names the size of its segments, into which the kernel cuts it
behind every rule, which count it as one. What a kernel merges has its checksum unfinished and no small segments by the
thousand: what is finished, and so might be a fragment of 64 KiB, ends here, and what is more than 256 segments of less
than 512 bytes. No bound counts a frame for less than a 256th of what it becomes.

The kernel lends the helpers used here only to programs under a licence that is compatible with the GPL: this module
alone, and what it makes, may be taken under either licence above.
"""

import msgspec

from cellwall.lower.bpf.instructions import (
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    STACK,
    Label,
    Line,
    Reg,
    alu,
    assemble,
    call,
    jump,
    jump_if,
    leave,
    load,
    move,
)

LICENSE = "GPL"
"""As the kernel spells it (include/linux/license.h)."""

CONTINUE, DROP = -1, 2
"""TC_ACT_UNSPEC: whatever else stands there decides; TC_ACT_SHOT (linux/pkt_cls.h)."""

_READ_KERNEL, _READ_PACKET = 113, 68  # linux/bpf.h: bpf_probe_read_kernel, bpf_skb_load_bytes_relative
_FROM_NETWORK_HEADER = 1
_PARTIAL = 3  # CHECKSUM_PARTIAL, linux/skbuff.h
_TCP, _UDP = 6, 17
_TCP_CHECK, _UDP_CHECK, _UDP_HEADER, _IPV6_HEADER = 16, 6, 8, 40
_HEADER, _HEADER_SLOT = 20, 24
_LENGTH, _SEGMENT = 0, 176  # len and gso_size of linux/bpf.h, struct __sk_buff
_SMALL = 512  # the least path that IPv4 knows leaves TCP 536, and IPv6 1,220
_MOST = 8  # 2 to this: of UDP no kernel merges more than 128, of TCP 64 KiB are as many of 256 bytes
_FRAGMENT = 0xFF3F
"""More fragments, or an offset: of the two bytes as this machine loads them."""


class Field(msgspec.Struct, frozen=True):
    """Where a field of `struct sk_buff` is, in bits, and how wide one is that is less than a byte (0: it is not)."""

    bit: int
    width: int = 0


class Layout(msgspec.Struct, frozen=True):
    """The fields that are read; 16 bits wide but for the first."""

    ip_summed: Field
    csum_start: Field
    csum_offset: Field
    network_header: Field


def checksum_filter(layout: Layout) -> bytes:
    """The program for a kernel with this layout (little-endian). Its argument is a packet, its answer `CONTINUE` or
    `DROP`."""
    return assemble(checksum_lines(layout))


def checksum_lines(layout: Layout) -> list[Line]:
    """The program before it is bytes."""
    first, span = _extent(layout)
    base = -span  # of the copy of the fields on the stack; the packet's header lies before it
    packet = base - _HEADER_SLOT
    return [
        move(R6, Reg(R1)),
        *_count_segments(),
        *_copy_fields(first, span),
        *_read_fields(layout, base - first),
        *_copy_header(packet),
        *_transport_header(packet),
        *_judgement(),
        jump("pass"),
        Label("finished"),
        load(4, R2, R6, _SEGMENT),
        jump_if(R2, "differs", 0, "drop"),
        Label("pass"),
        *leave(CONTINUE),
        Label("drop"),
        *leave(DROP),
    ]


def _count_segments() -> list[Line]:
    """More small ones than anybody merges end here."""
    return [
        load(4, R2, R6, _SEGMENT),
        jump_if(R2, "equal", 0, "counted"),
        jump_if(R2, "at least", _SMALL, "counted"),
        load(4, R3, R6, _LENGTH),
        alu("left", R2, _MOST),
        jump_if(R3, "at least", Reg(R2), "drop"),
        Label("counted"),
    ]


def _copy_fields(first: int, span: int) -> list[Line]:
    """The fields onto the top of the stack; R6 is the packet as the kernel has it."""
    return [
        move(R1, Reg(STACK)),
        alu("add", R1, -span),
        move(R2, span),
        move(R3, Reg(R6)),
        alu("add", R3, first),
        call(_READ_KERNEL),
        jump_if(R0, "differs", 0, "drop"),
    ]


def _read_fields(layout: Layout, origin: int) -> list[Line]:
    """R7: where the sum begins, from the network header on; R8: where it goes, from there."""

    def at(field: Field) -> int:
        return origin + field.bit // 8

    return [
        load(1, R2, STACK, at(layout.ip_summed)),
        alu("right", R2, layout.ip_summed.bit % 8),
        alu("and", R2, (1 << layout.ip_summed.width) - 1),
        jump_if(R2, "differs", _PARTIAL, "finished"),
        load(2, R7, STACK, at(layout.csum_start)),
        load(2, R2, STACK, at(layout.network_header)),
        alu("subtract", R7, Reg(R2)),
        load(2, R8, STACK, at(layout.csum_offset)),
    ]


def _copy_header(packet: int) -> list[Line]:
    """The beginning of the IP header onto the stack."""
    return [
        move(R1, Reg(R6)),
        move(R2, 0),
        move(R3, Reg(STACK)),
        alu("add", R3, packet),
        move(R4, _HEADER),
        move(R5, _FROM_NETWORK_HEADER),
        call(_READ_PACKET),
        jump_if(R0, "differs", 0, "drop"),
    ]


def _extent(layout: Layout) -> tuple[int, int]:
    """(first byte, length) of what holds all fields; both are multiples of 8, as the stack asks."""
    places = [getattr(layout, name).bit // 8 for name in layout.__struct_fields__]
    first = min(places) & ~7
    return first, (max(places) + 2 - first + 7) & ~7


def _transport_header(packet: int) -> list[Line]:
    """R3: where the transport header is, from the network header on; R4: which protocol it says it is."""
    return [
        load(1, R2, STACK, packet),
        move(R3, Reg(R2)),
        alu("right", R2, 4),
        jump_if(R2, "equal", 6, "ipv6"),
        jump_if(R2, "differs", 4, "drop"),
        load(2, R4, STACK, packet + 6),
        alu("and", R4, _FRAGMENT),
        jump_if(R4, "differs", 0, "drop"),
        alu("and", R3, 15),
        alu("left", R3, 2),
        load(1, R4, STACK, packet + 9),
        jump("transport"),
        Label("ipv6"),
        move(R3, _IPV6_HEADER),
        load(1, R4, STACK, packet + 6),
        Label("transport"),
    ]


def _judgement() -> list[Line]:
    """By R3, R4, R7 and R8; what falls through passes."""
    return [
        jump_if(R4, "equal", _TCP, "tcp"),
        jump_if(R4, "differs", _UDP, "drop"),
        jump_if(R7, "equal", Reg(R3), "udp"),
        alu("add", R3, _UDP_HEADER),
        jump_if(R7, "at least", Reg(R3), "pass"),
        jump("drop"),
        Label("udp"),
        jump_if(R8, "equal", _UDP_CHECK, "pass"),
        jump("drop"),
        Label("tcp"),
        jump_if(R7, "differs", Reg(R3), "drop"),
        jump_if(R8, "differs", _TCP_CHECK, "drop"),
    ]
