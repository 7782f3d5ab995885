"""Whether the rules of iptables-legacy may have changed: its tables make no event, so somebody has to ask.

Owns: the one cheap question that the kernel answers about such a table, how many rules of how many bytes it has and
where its hooks begin (linux/netfilter_ipv4/ip_tables.h, IPT_SO_GET_INFO): a system call for each table, no program. It
asks only about tables that there are: asking would make one. Rules that were exchanged for others of the very same size
are not noticed; whoever relies on this compares the rules themselves now and then.
"""

import ctypes
import socket
from collections.abc import Iterator
from contextlib import suppress

_GET_INFO = 64  # IPT_SO_GET_INFO, and IP6T_SO_GET_INFO
_IPV4, _IPV6 = (socket.AF_INET, 0), (socket.AF_INET6, 41)  # the family, and the level of its options
_INFO = 84  # sizeof(struct ipt_getinfo)
_libc = ctypes.CDLL(None, use_errno=True)


class LegacyTables:
    """The legacy tables of the network namespace that the creating thread is in, as of the last question."""

    def __init__(self) -> None:
        self._sockets = {4: socket.socket(_IPV4[0], socket.SOCK_RAW, socket.IPPROTO_RAW)}
        with suppress(OSError):  # a kernel without IPv6
            self._sockets[6] = socket.socket(_IPV6[0], socket.SOCK_RAW, socket.IPPROTO_RAW)
        self._last = self._read()

    def close(self) -> None:
        for asked in self._sockets.values():
            asked.close()

    def changed(self) -> bool:
        """Whether a table has other rules than at the last question, as far as its size tells."""
        before, self._last = self._last, self._read()
        return before != self._last

    def _read(self) -> list[bytes]:
        found = []
        for version, level, names in ((4, _IPV4[1], "ip_tables_names"), (6, _IPV6[1], "ip6_tables_names")):
            if version in self._sockets:
                found += [_ask(self._sockets[version].fileno(), level, table) for table in _tables(names)]
        return found


def _ask(fd: int, level: int, table: str) -> bytes:
    """The kernel's answer; b"" where there is none."""
    answer = ctypes.create_string_buffer(table.encode(), _INFO)
    length = ctypes.c_uint(_INFO)
    if _libc.getsockopt(fd, level, _GET_INFO, answer, ctypes.byref(length)) != 0:
        return b""
    return answer.raw


def _tables(names: str) -> Iterator[str]:
    """Each table that there is by now, in order."""
    with suppress(OSError), open(f"/proc/thread-self/net/{names}") as lines:
        yield from sorted(line.strip() for line in lines)
