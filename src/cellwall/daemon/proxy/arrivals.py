"""By which interface a connection came.

A socket that is bound to an interface takes nothing from the node itself, whose own connections come by the loopback,
and one that is bound to none takes what comes by every interface. The kernel notes with each connection where its first
packet came in, and tells it as an option of IP that whoever listens has asked for (ip(7), IP_PKTINFO; RFC 2292, 4.1).
"""

import socket
import struct
from contextlib import suppress

_IP_PKTINFO, _IP_PKTOPTIONS = 8, 9  # linux/in.h
_IPV6_RECVPKTINFO, _IPV6_PKTINFO, _IPV6_2292PKTOPTIONS = 49, 50, 6  # linux/in6.h
_HEADER = struct.Struct("@Nii")  # struct cmsghdr
_INDEX = struct.Struct("=I")
_ROOM = 512

LOOPBACK = 1
"""The index of every network namespace's own."""


def ask_for_arrivals(listening: socket.socket) -> None:
    """Have the kernel tell of each connection that is made from now on; before anybody listens."""
    listening.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    if listening.family == socket.AF_INET6:
        listening.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)


def came_by(connection: socket.socket) -> int:
    """The index of the interface; 0 where nobody can say, who has come by none that anybody is admitted by."""
    with suppress(OSError, struct.error):
        if connection.family == socket.AF_INET6 and not connection.getpeername()[0].startswith("::ffff:"):
            told = connection.getsockopt(socket.IPPROTO_IPV6, _IPV6_2292PKTOPTIONS, _ROOM)
            return _index(told, socket.IPPROTO_IPV6, _IPV6_PKTINFO, 16)
        return _index(
            connection.getsockopt(socket.IPPROTO_IP, _IP_PKTOPTIONS, _ROOM), socket.IPPROTO_IP, _IP_PKTINFO, 0
        )
    return 0


def _index(told: bytes, level: int, kind: int, at: int) -> int:
    """Of the first control message of a kind, the index that stands so many octets into it."""
    while len(told) >= _HEADER.size:
        length, its_level, its_kind = _HEADER.unpack_from(told)
        if length < _HEADER.size:
            break
        if (its_level, its_kind) == (level, kind):
            return int(_INDEX.unpack_from(told, _HEADER.size + at)[0])
        told = told[-(-length // struct.calcsize("@N")) * struct.calcsize("@N") :]
    return 0
