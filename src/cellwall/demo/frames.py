"""The few frames that a tenant forges in the demo, made by hand: scapy is no dependency of the product."""

import socket
import struct
from ipaddress import IPv4Address

_ETHERNET = struct.Struct("!6s6sH")
_ETH_P_IP, _ETH_P_ARP = 0x0800, 0x0806


def udp_frame(source_mac: int, target_mac: int, source: IPv4Address, target: str, port: int, payload: bytes) -> bytes:
    """A datagram in one frame; its source address is whatever the sender claims."""
    # A checksum of 0 means "none" for UDP over IPv4 (RFC 768).
    datagram = struct.pack("!HHHH", 40000, port, 8 + len(payload), 0) + payload
    header = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(datagram), 0, 0, 64, 17, 0, source.packed, socket.inet_aton(target)
    )
    header = header[:10] + struct.pack("!H", _checksum(header)) + header[12:]
    return _ethernet(source_mac, target_mac, _ETH_P_IP) + header + datagram


def arp_announcement(mac: int, target_mac: int, address: IPv4Address) -> bytes:
    """Gratuitous ARP: "`address` is at `mac`". Of all forms only this request replaces an entry that is fresher than
    a second (net/ipv4/arp.c, arp_process: is_garp overrides the lock time)."""
    body = struct.pack("!HHBBH6s4s6s4s", 1, _ETH_P_IP, 6, 4, 1, _raw(mac), address.packed, bytes(6), address.packed)
    return _ethernet(mac, target_mac, _ETH_P_ARP) + body


def _ethernet(source: int, target: int, kind: int) -> bytes:
    return _ETHERNET.pack(_raw(target), _raw(source), kind)


def _raw(mac: int) -> bytes:
    return mac.to_bytes(6, "big")


def _checksum(header: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
