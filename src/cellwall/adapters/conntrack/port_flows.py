"""Flows to host ports, deleted one by one: those of published ports that changed hands.

The kernel filters a dump by protocol and by one port (net/netfilter/nf_conntrack_netlink.c, CTA_FILTER, Linux 5.8), a
flush by neither. Each entry is deleted by its tuple and its id, so that one that came up meanwhile is not taken for it.
"""

import errno
from _socket import AF_INET, AF_INET6
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address

from cellwall.adapters.netlink.nfnetlink import HEADER_SIZE, conntrack_message
from cellwall.adapters.netlink.nlattr import attribute, attribute_u8, attribute_u32, attributes, nested
from cellwall.adapters.netlink.sockets import Message, Netlink
from cellwall.engine.contracts import PortFlows
from cellwall.model.addresses import PROTOCOL_NUMBERS, Address, Protocol

_CT_GET, _CT_DELETE = 1, 2
# linux/netfilter/nfnetlink_conntrack.h
_TUPLE_ORIG, _TUPLE_REPLY, _ID, _ZONE, _FILTER = 1, 2, 12, 18, 25
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_SOURCE = {AF_INET: 1, AF_INET6: 3}
_DESTINATION = {AF_INET: 2, AF_INET6: 4}
_PROTO_NUM, _PROTO_DST_PORT = 1, 3
_FILTER_ORIG_FLAGS, _FILTER_REPLY_FLAGS = 1, 2
_BY_NUMBER, _BY_DESTINATION_PORT = 1 << 3, 1 << 5


def end_flows(netfilter: Netlink, flows: Sequence[PortFlows]) -> None:
    """Delete the conntrack entries of these flows; none of them need exist."""
    for protocol in sorted({row.protocol for row in flows}):
        for family, version in ((AF_INET, 4), (AF_INET6, 6)):
            rows = [row for row in flows if row.protocol == protocol]
            rows = [row for row in rows if any(address.version == version for address in row.destinations)]
            messages = list(_deletions(netfilter, protocol, family, rows)) if rows else []
            if messages:
                netfilter.transact(messages, "end flows to published ports")


def _deletions(netfilter: Netlink, protocol: Protocol, family: int, rows: Sequence[PortFlows]) -> Iterator[Message]:
    by_port: dict[int, list[PortFlows]] = {}
    for row in rows:
        for port in range(row.first, row.last + 1):
            by_port.setdefault(port, []).append(row)
    for reply in netfilter.dump(_dump(protocol, family, by_port), "read flows to published ports"):
        entry = attributes(reply.body, HEADER_SIZE)
        original, back = entry[_TUPLE_ORIG], attributes(entry[_TUPLE_REPLY])
        tuple_ = attributes(original)
        port = int.from_bytes(attributes(tuple_[_TUPLE_PROTO])[_PROTO_DST_PORT], "big")
        destination = _address(attributes(tuple_[_TUPLE_IP])[_DESTINATION[family]])
        holder = _address(attributes(back[_TUPLE_IP])[_SOURCE[family]])
        if any(destination in row.destinations and holder not in row.keep for row in by_port.get(port, ())):
            yield deletion(family, entry, f"flow to port {port}")


def deletion(family: int, entry: Mapping[int, bytes], what: str) -> Message:
    """The deletion of an entry with these attributes, and of no later one of the same tuple."""
    body = nested(_TUPLE_ORIG, entry[_TUPLE_ORIG]) + attribute(_ID, entry[_ID])
    body += attribute(_ZONE, entry[_ZONE]) if _ZONE in entry else b""
    return conntrack_message(_CT_DELETE, family, body, what=what, tolerate=(errno.ENOENT,))


def _dump(protocol: Protocol, family: int, ports: dict[int, list[PortFlows]]) -> Message:
    asked, flags = attribute_u8(_PROTO_NUM, PROTOCOL_NUMBERS[protocol]), _BY_NUMBER
    if len(ports) == 1:
        asked += attribute(_PROTO_DST_PORT, next(iter(ports)).to_bytes(2, "big"))
        flags |= _BY_DESTINATION_PORT
    limits = attribute_u32(_FILTER_ORIG_FLAGS, flags) + attribute_u32(_FILTER_REPLY_FLAGS, 0)
    return conntrack_message(
        _CT_GET, family, nested(_TUPLE_ORIG, nested(_TUPLE_PROTO, asked)) + nested(_FILTER, limits)
    )


def _address(raw: bytes) -> Address:
    return IPv4Address(raw) if len(raw) == 4 else IPv6Address(raw)
