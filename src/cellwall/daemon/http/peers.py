"""The other end of a unix socket, from the kernel and not from what it says of itself; and the groups it is granted by.

Credentials are those of the moment of `connect`. An id that has no number in this user namespace reads as the overflow
id, which is anybody's: it is in no group.
"""

import ctypes
import errno
import grp
import socket
import struct
from collections.abc import Iterable, Sequence
from typing import Protocol

from cellwall.daemon.authority import Granted, Peer
from cellwall.errors import InvalidSpec
from cellwall.model.grants import Grant

SO_PEERGROUPS = 59  # asm-generic/socket.h, Linux 4.13
OVERFLOW_ID = 65534
_CREDENTIALS = struct.Struct("=iII")
_MOST_GROUPS = 65536  # NGROUPS_MAX
_MOST_OCTETS = 1024  # of an answer that Python itself takes


class Connected(Protocol):
    """What a socket, or asyncio's view of one, can be asked."""

    def getsockopt(self, level: int, option: int, length: int, /) -> bytes: ...
    def fileno(self) -> int: ...


def peer_of(connection: Connected) -> Peer:
    """Who is at the other end."""
    pid, uid, gid = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    groups = {gid, *_further_groups(connection)} - {OVERFLOW_ID}
    return Peer(uid, frozenset(groups), pid)


def _further_groups(connection: Connected) -> Sequence[int]:
    try:
        octets = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, _MOST_OCTETS)
    except OSError as error:
        if error.errno == errno.ERANGE:
            return _many_groups(connection.fileno())
        if error.errno in (errno.ENOPROTOOPT, errno.ENODATA):
            return ()  # an older kernel: the first group counts, and nothing that would let more in
        raise
    return struct.unpack(f"={len(octets) // 4}I", octets)


def _many_groups(fd: int) -> Sequence[int]:
    libc = ctypes.CDLL(None, use_errno=True)
    groups = (ctypes.c_uint32 * _MOST_GROUPS)()
    size = ctypes.c_uint32(ctypes.sizeof(groups))
    if libc.getsockopt(fd, socket.SOL_SOCKET, SO_PEERGROUPS, groups, ctypes.byref(size)) != 0:
        raise OSError(ctypes.get_errno(), "groups of a connection's other end")
    return groups[: size.value // 4]


def group_number(name: str, field: str, value: str = "") -> int:
    """The number of a group by name or number; InvalidSpec where there is no such group. `value`: what the name is part
    of."""
    try:
        number = int(name) if name.isdigit() else grp.getgrnam(name).gr_gid
    except KeyError as error:
        raise InvalidSpec(field, value or name, "there is no such group") from error
    if number >= 1 << 32 or number == OVERFLOW_ID:
        raise InvalidSpec(field, value or name, "is nobody's group, and so anybody's")
    return number


def granted(grants: Iterable[Grant]) -> tuple[Granted, ...]:
    """The grants with the numbers that their groups have now; InvalidSpec with the first one whose group has none."""
    return tuple(Granted(group_number(grant.group, "daemon.allow", str(grant)), grant) for grant in grants)
