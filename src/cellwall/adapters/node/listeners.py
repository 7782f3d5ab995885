"""Sockets of the node that wait for whoever sends to them: TCP ones that listen, UDP ones without a peer.

Owns: the dialogue with sock_diag (linux/inet_diag.h), which walks the listening sockets alone, however many
connections the node has. Kernels without it have the same in /proc/net, only dearer.
"""

import _socket as socket
import errno
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

from cellwall.adapters.netlink.nlattr import attributes
from cellwall.adapters.netlink.sockets import Message, Netlink, Reply
from cellwall.engine.contracts import Listener
from cellwall.errors import KernelError
from cellwall.model.addresses import PROTOCOL_NUMBERS, Address, Protocol

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_SKV6ONLY = 11  # INET_DIAG_SKV6ONLY
_TCP_LISTEN, _TCP_CLOSE = 10, 7  # include/net/tcp_states.h; an unconnected UDP socket is in the latter
_WAITING: dict[Protocol, int] = {"tcp": _TCP_LISTEN, "udp": _TCP_CLOSE}
_REQUEST = struct.Struct("=BBBxI")  # struct inet_diag_req_v2, up to its socket
_SOCKET = struct.Struct(">H46x")  # struct inet_diag_sockid of which only the port is asked for
_MESSAGE_SIZE = 72  # struct inet_diag_msg
_INTERFACE = _INODE = struct.Struct("=I")


def read_listeners(protocol: Protocol, port: int = 0) -> tuple[Listener, ...]:
    """Of the calling thread's network namespace, both families; `port` 0: all of them."""
    try:
        with Netlink(_NETLINK_SOCK_DIAG) as diag:
            return tuple(_dumped(diag, protocol, port))
    except KernelError as error:
        if error.errno not in (errno.ENOENT, errno.EPROTONOSUPPORT, errno.EOPNOTSUPP):
            raise
    return tuple(row for row in tabled_listeners(protocol) if port in (0, row.port))


def _dumped(diag: Netlink, protocol: Protocol, port: int) -> Iterator[Listener]:
    for family in (socket.AF_INET, socket.AF_INET6):
        asked = _REQUEST.pack(family, PROTOCOL_NUMBERS[protocol], 0, 1 << _WAITING[protocol])
        message = Message(_SOCK_DIAG_BY_FAMILY, 0, asked + _SOCKET.pack(port))
        for reply in diag.dump(message, "read the node's listening sockets"):
            yield _listener(reply)


def _listener(reply: Reply) -> Listener:
    body = reply.body
    version6 = body[0] == socket.AF_INET6
    address = _address(body[8:24] if version6 else body[8:12])
    only6 = attributes(body, _MESSAGE_SIZE).get(_SKV6ONLY, b"\0") != b"\0"
    return Listener(
        address=address,
        port=int.from_bytes(body[4:6], "big"),
        both=version6 and not only6,
        interface=_INTERFACE.unpack_from(body, 40)[0],
        inode=_INODE.unpack_from(body, 68)[0],
    )


def tabled_listeners(protocol: Protocol) -> Iterator[Listener]:
    """The same from /proc, which does not tell whether an IPv6 socket takes IPv4 too, nor an interface it is bound
    to: it is taken for one that does, and is not."""
    for name, words in ((protocol, 1), (f"{protocol}6", 4)):
        try:
            with open(f"/proc/thread-self/net/{name}", encoding="ascii") as table:
                rows = table.readlines()[1:]
        except FileNotFoundError:
            continue
        for row in rows:
            _, local, _, state, _, _, _, _, _, inode, *_ = row.split()
            if int(state, 16) != _WAITING[protocol]:
                continue
            text, port = local.split(":")
            raw = struct.pack(f"={words}I", *(int(text[at : at + 8], 16) for at in range(0, 8 * words, 8)))
            yield Listener(_address(raw), int(port, 16), both=words == 4, inode=int(inode))


def _address(raw: bytes) -> Address:
    """An IPv6 socket that is bound to a mapped address serves the IPv4 one."""
    if len(raw) == 4:
        return IPv4Address(raw)
    address = IPv6Address(raw)
    return address.ipv4_mapped or address
