"""Frames as an attacker makes them, by scapy.

Owns: the import of scapy, which costs most of a second, reads the routes of the machine and is told to be quiet; it
happens when the first frame is made. Everything an automatic would look up (source, next hop, MAC) is given.
"""

import logging
from functools import cache
from types import SimpleNamespace
from typing import Any

from cellwall.errors import Unsupported

BROADCAST = "ff:ff:ff:ff:ff:ff"
VLAN, SERVICE_VLAN = 0x8100, 0x88A8

Tags = tuple[tuple[int, int], ...]
"""(tag protocol, tag control information) from the outside in."""


@cache
def scapy() -> SimpleNamespace:
    """The layers that probes are built of; Unsupported where scapy is not installed."""
    logging.getLogger("scapy").setLevel(logging.ERROR)
    try:
        from scapy.layers import inet, inet6, l2
        from scapy.packet import Raw
    except ImportError as error:
        raise Unsupported("the attack suite builds its frames with scapy: install cellwall[attack]") from error
    names = {name: value for module in (inet, inet6, l2) for name, value in vars(module).items()}
    return SimpleNamespace(**{**names, "Raw": Raw})


def frame(source: str, target: str, payload: Any, *, kind: int | None = None, tags: Tags = ()) -> bytes:
    """An Ethernet frame; `tags` come between the addresses and `kind`."""
    body = payload if isinstance(payload, bytes) else bytes(payload)
    inner = kind if kind is not None else {4: 0x0800, 6: 0x86DD}[body[0] >> 4]
    head = mac_bytes(target) + mac_bytes(source)
    for protocol, vlan in tags:
        head += protocol.to_bytes(2, "big") + vlan.to_bytes(2, "big")
    return (head + inner.to_bytes(2, "big") + body).ljust(60, b"\0")


def mac_bytes(mac: str) -> bytes:
    """Six bytes of a MAC in text."""
    return bytes.fromhex(mac.replace(":", ""))


def ip(source: str, target: str, **fields: Any) -> Any:
    """The IP header of the family of `source`."""
    if ":" in source:
        renamed = {"ttl": "hlim", "proto": "nh", "tos": "tc"}
        return scapy().IPv6(src=source, dst=target, **{renamed.get(key, key): value for key, value in fields.items()})
    return scapy().IP(src=source, dst=target, **fields)


def transport(protocol: str | int, token: bytes, *, v6: bool, sport: int = 40001, dport: int = 9999) -> Any:
    """A transport layer with the token as its payload: udp, tcp (a SYN with data), icmp (an echo request), or the
    number of another protocol."""
    s = scapy()
    if protocol == "udp":
        return s.UDP(sport=sport, dport=dport) / s.Raw(token)
    if protocol == "tcp":
        return s.TCP(sport=sport, dport=dport, flags="S", seq=1000) / s.Raw(token)
    if protocol == "icmp":
        return s.ICMPv6EchoRequest(id=sport, data=token) if v6 else s.ICMP(type=8, id=sport) / s.Raw(token)
    return s.Raw(bytes(16) + token)


def packet(
    source: str, target: str, protocol: str | int, token: bytes, *, sport: int = 40001, dport: int = 9999, **fields: Any
) -> Any:
    """A whole IP packet."""
    v6 = ":" in source
    if isinstance(protocol, int):
        fields["proto"] = protocol
    elif v6:
        fields["proto"] = {"udp": 17, "tcp": 6, "icmp": 58}[protocol]
    return ip(source, target, **fields) / transport(protocol, token, v6=v6, sport=sport, dport=dport)


def arp(operation: int, sender_mac: str, sender: str, target_mac: str, target: str) -> bytes:
    """An ARP body."""
    return bytes(scapy().ARP(op=operation, hwsrc=sender_mac, psrc=sender, hwdst=target_mac, pdst=target))


def group_mac(address: str) -> str:
    """The MAC of a multicast group."""
    from ipaddress import ip_address

    packed = ip_address(address).packed
    if len(packed) == 16:
        return (b"\x33\x33" + packed[12:]).hex(":")
    return (b"\x01\x00\x5e" + bytes([packed[1] & 0x7F]) + packed[2:]).hex(":")


def solicited_group(address: str) -> str:
    """The solicited-node group of an IPv6 address."""
    from ipaddress import IPv6Address

    return str(IPv6Address(int(IPv6Address("ff02::1:ff00:0")) | int(IPv6Address(address)) & 0xFFFFFF))


def summary(data: bytes) -> str:
    """A frame in one line, for people."""
    try:
        text = scapy().Ether(data).summary()
    except Exception:  # whatever a dissector trips over, a hostile frame may be that
        text = "a frame"
    return f"{text} ({len(data)} bytes)"
