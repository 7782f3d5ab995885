"""Reads the links of a network namespace over rtnetlink, with code of its own.

Owns: two requests, the dump of all links and the id that one namespace has in another. The lab judges the
code under test, so it does not read the kernel through that code's adapters; and a gate that runs at every
start of a lab must not cost a process per namespace.
"""

import os
import socket
import struct
from collections.abc import Iterator

import msgspec

from cellwall.errors import LabError

_RTM_GETLINK, _RTM_GETNSID = 18, 90
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REQUEST, _DUMP = 0x1, 0x300
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER, _IFLA_OPERSTATE = 1, 3, 4, 5, 10, 16
_IFLA_LINK_NETNSID = 37
_NETNSA_NSID, _NETNSA_FD = 1, 3
_IFF_UP = 0x1
_NLA_TYPE = 0x3FFF


class Link(msgspec.Struct, frozen=True):
    """One link. `peer_netns` is the local id of the namespace with the other end, None for the same one."""

    index: int
    name: str
    mac: str
    mtu: int
    up: bool
    operstate: int
    master: int
    peer: int
    peer_netns: int | None


def links() -> list[Link]:
    """All links of the calling thread's namespace, by index."""
    body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, 0, 0, 0)
    return sorted((_link(message) for message in _ask(_RTM_GETLINK, _DUMP, body)), key=lambda link: link.index)


def netns_id(fd: int) -> int:
    """The id that the namespace `fd` has in the calling thread's namespace; -1 where it has none."""
    body = struct.pack("=Bxxx", 0) + struct.pack("=HHi", 8, _NETNSA_FD, fd)
    for message in _ask(_RTM_GETNSID, 0, body):
        return int(struct.unpack("=i", _attributes(message[4:])[_NETNSA_NSID])[0])
    raise LabError("the kernel gave no answer to RTM_GETNSID")


def _link(message: bytes) -> Link:
    _, _, index, flags, _ = struct.unpack_from("=BxHiII", message)
    attributes = _attributes(message[16:])
    netns = attributes.get(_IFLA_LINK_NETNSID)
    return Link(
        index=index,
        name=attributes[_IFLA_IFNAME].rstrip(b"\0").decode(errors="surrogateescape"),
        mac=attributes.get(_IFLA_ADDRESS, b"").hex(":"),
        mtu=_number(attributes.get(_IFLA_MTU)),
        up=bool(flags & _IFF_UP),
        operstate=attributes.get(_IFLA_OPERSTATE, b"\0")[0],
        master=_number(attributes.get(_IFLA_MASTER)),
        peer=_number(attributes.get(_IFLA_LINK)),
        peer_netns=None if netns is None else _number(netns),
    )


def _number(raw: bytes | None) -> int:
    return 0 if raw is None else int(struct.unpack("=i", raw)[0])


def _attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            break
        found[kind & _NLA_TYPE] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def _ask(kind: int, flags: int, body: bytes) -> Iterator[bytes]:
    """The bodies of all messages the kernel answers with, up to the end of the dump or the only answer."""
    request = struct.pack("=IHHII", 16 + len(body), kind, _REQUEST | flags, 1, 0) + body
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.settimeout(30.0)
        netlink.send(request)
        while True:
            data = netlink.recv(1 << 18)
            at = 0
            while at < len(data):
                length, answer = struct.unpack_from("=IH", data, at)
                message = data[at + 16 : at + length]
                at += (length + 3) & ~3
                if answer == _NLMSG_DONE:
                    return
                if answer == _NLMSG_ERROR:
                    number = -struct.unpack_from("=i", message)[0]
                    raise LabError(f"rtnetlink request {kind}: {os.strerror(number)}")
                yield message
            if not flags & _DUMP:
                return
