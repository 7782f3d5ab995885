"""Frames byte by byte, with right checksums where the kernel looks at them."""

from ipaddress import ip_address

MAC_A, MAC_B = 0x020000000A0A, 0x020000000B0B


def ether(
    payload: bytes,
    kind: int,
    *,
    source: int = MAC_A,
    destination: int = MAC_B,
    tags: tuple[tuple[int, int], ...] = (),
) -> bytes:
    head = destination.to_bytes(6) + source.to_bytes(6)
    for protocol, vid in tags:
        head += protocol.to_bytes(2) + vid.to_bytes(2)
    return head + kind.to_bytes(2) + payload


def ip4(
    payload: bytes,
    source: int,
    destination: int,
    protocol: int,
    *,
    options: bytes = b"",
    fragment: int = 0,
    more: bool = False,
    total: int | None = None,
    ttl: int = 64,
) -> bytes:
    """`fragment` is the offset in bytes; `total` overrides the length that the header states."""
    header = bytearray(20 + len(options))
    header[0] = 0x40 | len(header) // 4
    header[2:4] = (len(header) + len(payload) if total is None else total).to_bytes(2)
    header[4:6] = b"\x12\x34"
    header[6:8] = ((0x2000 if more else 0) | fragment // 8).to_bytes(2)
    header[8], header[9] = ttl, protocol
    header[12:16], header[16:20] = source.to_bytes(4), destination.to_bytes(4)
    header[20:] = options
    header[10:12] = checksum(bytes(header)).to_bytes(2)
    return bytes(header) + payload


def ip6(
    payload: bytes,
    source: int,
    destination: int,
    next_header: int,
    *,
    hop_limit: int = 64,
    length: int | None = None,
) -> bytes:
    size = len(payload) if length is None else length
    head = b"\x60\0\0\0" + size.to_bytes(2) + bytes((next_header, hop_limit))
    return head + source.to_bytes(16) + destination.to_bytes(16) + payload


def extension(next_header: int, payload: bytes) -> bytes:
    """An empty hop-by-hop or destination options header (PadN)."""
    return bytes((next_header, 0, 1, 4, 0, 0, 0, 0)) + payload


def routing(next_header: int, payload: bytes) -> bytes:
    """A routing header without segments left: nodes on the way ignore it."""
    return bytes((next_header, 0, 253, 0, 0, 0, 0, 0)) + payload


def fragment6(next_header: int, payload: bytes, *, begin: int = 0, more: bool = False) -> bytes:
    return bytes((next_header, 0)) + (begin | int(more)).to_bytes(2) + b"\0\0\0\x07" + payload


def udp(source_port: int, destination_port: int, data: bytes = b"x" * 8) -> bytes:
    """Checksum 0: none. Valid over IPv4; over IPv6 only where nobody verifies it."""
    return source_port.to_bytes(2) + destination_port.to_bytes(2) + (8 + len(data)).to_bytes(2) + b"\0\0" + data


def tcp(source_port: int, destination_port: int, *, flags: int = 2, sequence: int = 1, ack: int = 0) -> bytes:
    ports = source_port.to_bytes(2) + destination_port.to_bytes(2)
    return ports + sequence.to_bytes(4) + ack.to_bytes(4) + bytes((0x50, flags)) + b"\x20\0\0\0\0\0"


def icmp(kind: int, identifier: int, data: bytes = b"abcdefgh") -> bytes:
    return bytes((kind, 0, 0, 0)) + identifier.to_bytes(2) + b"\0\x01" + data


def icmp6_target(kind: int, target: int) -> bytes:
    return bytes((kind, 0, 0, 0)) + b"\0\0\0\0" + target.to_bytes(16)


def arp(operation: int, sender_mac: int, sender: int, target: int, *, hardware: int = 1) -> bytes:
    head = hardware.to_bytes(2) + b"\x08\x00\x06\x04" + operation.to_bytes(2)
    return head + sender_mac.to_bytes(6) + sender.to_bytes(4) + bytes(6) + target.to_bytes(4)


def with_checksum(transport: bytes, source: int, destination: int, protocol: int, *, v6: bool) -> bytes:
    """`transport` with its checksum field filled in."""
    place = {6: 16, 17: 6, 1: 2, 58: 2}[protocol]
    size = 16 if v6 else 4
    pseudo = source.to_bytes(size) + destination.to_bytes(size)
    pseudo += len(transport).to_bytes(4) + protocol.to_bytes(4)
    blank = transport[:place] + b"\0\0" + transport[place + 2 :]
    total = checksum(blank if protocol == 1 else pseudo + blank) or 0xFFFF
    return transport[:place] + total.to_bytes(2) + transport[place + 2 :]


def checksum(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    total = sum(int.from_bytes(data[at : at + 2]) for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def address(text: str) -> int:
    return int(ip_address(text))
