"""Whether the rules of iptables-legacy may have changed: its tables make no event, so somebody has to ask.

Owns: the one cheap question that the kernel answers about such a table, how many rules of how many bytes it has and
where its hooks begin (linux/netfilter_ipv4/ip_tables.h, IPT_SO_GET_INFO): a system call for each table, no program. It
asks only about tables that there are: asking would make one. Rules that were exchanged for others of the very same size
are not noticed; whoever relies on this compares the rules themselves now and then.
"""

import ctypes
import socket
from contextlib import suppress
from typing import Literal

from cellwall.adapters.iptables.legacy_names import legacy_tables

_GET_INFO = 64  # IPT_SO_GET_INFO, and IP6T_SO_GET_INFO
_LEVELS: dict[Literal[4, 6], int] = {4: socket.SOL_IP, 6: 41}  # of the options; 41: SOL_IPV6
_INFO = 84  # sizeof(struct ipt_getinfo)
_libc = ctypes.CDLL(None, use_errno=True)


class LegacyTables:
    """The legacy tables of the network namespace that the creating thread is in, as of the last question."""

    def __init__(self) -> None:
        self._sockets: dict[Literal[4, 6], socket.socket] = {}
        self._sockets[4] = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        with suppress(OSError):  # a kernel without IPv6
            self._sockets[6] = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self._last = self._read()

    def close(self) -> None:
        for asked in self._sockets.values():
            asked.close()

    def changed(self) -> bool:
        """Whether a table has other rules than at the last question, as far as its size tells."""
        before, self._last = self._last, self._read()
        return before != self._last

    def _read(self) -> list[bytes]:
        return [
            _ask(asked.fileno(), _LEVELS[version], table)
            for version, asked in self._sockets.items()
            for table in sorted(legacy_tables(version))
        ]


def legacy_sizes(table: str) -> tuple[bytes, ...]:
    """What the kernel tells of a table of either family, which there is; equal as long as its size is."""
    found = []
    for version, level in _LEVELS.items():
        if table in legacy_tables(version):
            family = socket.AF_INET if version == 4 else socket.AF_INET6
            with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as asked:
                found.append(_ask(asked.fileno(), level, table))
    return tuple(found)


def _ask(fd: int, level: int, table: str) -> bytes:
    """The kernel's answer; b"" where there is none."""
    answer = ctypes.create_string_buffer(table.encode(), _INFO)
    length = ctypes.c_uint(_INFO)
    if _libc.getsockopt(fd, level, _GET_INFO, answer, ctypes.byref(length)) != 0:
        return b""
    return answer.raw
