"""Whether somebody may have taken rules or chains away, for who does nothing but close what that leaves open.

Owns: a netlink socket that nf_tables tells of each transaction, and a filter of it (networking/filter.rst of the
kernel's documentation). News of elements are most of all, each attach's a dozen, and none of them takes away what
judges: they are left in the kernel, so that who listens here takes no time of who writes in the same process.

Refuses: to know what was taken, and whose it was. A queue that overflowed counts as something. Rules of
iptables-legacy make no event at all.
"""

import _socket as socket
import struct
import sys
from contextlib import suppress

from cellwall.adapters.alarms import IPTABLES, NETFILTER, NETFILTER_GROUPS, each_message, subscribed
from cellwall.adapters.netlink import Closing
from cellwall.adapters.nfnetlink import HEADER_SIZE, NFT_MSG_DELSETELEM, NFT_MSG_NEWSETELEM
from cellwall.adapters.nlattr import attribute_of, text_of

_QUEUE = 1 << 20
_MOST = 4096
_NFTABLES = 10  # NFNL_SUBSYS_NFTABLES
_NEW_GENERATION = 15
_NOTHING = [_NFTABLES << 8 | kind for kind in (NFT_MSG_NEWSETELEM, NFT_MSG_DELSETELEM, _NEW_GENERATION)]
_SO_ATTACH_FILTER = 26
_TOLD_AT_ONCE = 64
"""What nf_tables tells in one datagram is at most a page (net/netfilter/nf_tables_api.c, nft_commit_notify), which has
room for 55 elements of a word each. Of more than these the rest is not looked at, and the datagram told."""

# linux/filter.h: loads of network order into A, at X or not; the other register, and the scratch memory.
_LOAD_BYTE_AT, _LOAD_HALF_AT, _X_LENGTH = 0x50, 0x48, 0x81
_SHIFT_LEFT, _ADD, _AND, _OR_X, _ADD_X = 0x64, 0x04, 0x54, 0x4C, 0x0C
_A_IS, _X_FROM, _A_TO, _IF_EQUAL, _IF_EQUAL_X, _RETURN = 0x00, 0x61, 0x02, 0x15, 0x1D, 0x06
_ALL = 0xFFFFFFFF
_PLACE, _HIGH = 0, 1


class RuleNews(Closing):
    """What the kernel tells of the network namespace that the creating thread is in, from now on. `tables`: the names
    of those that hold the wall."""

    def __init__(self) -> None:
        self.tables = IPTABLES
        self._socket = subscribed(NETFILTER, NETFILTER_GROUPS, _QUEUE)
        self._buffer = bytearray(1 << 16)
        if sys.byteorder == "little":
            self._leave_elements()

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        """What becomes readable when something was told."""
        return self._socket.fileno()

    def read(self) -> bool:
        """Whether there was anything since the last call. Does not wait."""
        anything = False
        for _ in range(_MOST):
            try:
                length = self._socket.recv_into(self._buffer, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError:
                anything = True
                continue
            anything = anything or self._matters(memoryview(self._buffer)[:length])
        return anything

    def _matters(self, datagram: memoryview) -> bool:
        """Whatever a message is about, the name of its table is attribute 1."""
        told = (body for kind, body in each_message(datagram) if kind not in _NOTHING)
        return any(text_of(attribute_of(body, 1, HEADER_SIZE) or b"") in self.tables for body in told)

    def _leave_elements(self) -> None:
        from array import array

        program = array("Q", b"".join(struct.pack("=HBBI", *step) for step in _filter()))
        place, length = program.buffer_info()
        with suppress(OSError):  # it is told of more then
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("=H6xQ", length, place))


def _filter() -> list[tuple[int, int, int, int]]:
    """A datagram is dropped of which all messages are about nothing here. The header of each says how long it is and
    what it is about, in this machine's order, the low byte first."""
    kinds = [int.from_bytes(kind.to_bytes(2, "little"), "big") for kind in _NOTHING]
    step = [
        (_X_FROM, 0, 0, _PLACE),
        (_LOAD_HALF_AT, 0, 0, 4),
        *((_IF_EQUAL, len(kinds) - at, 0, kind) for at, kind in enumerate(kinds)),
        (_RETURN, 0, 0, _ALL),
        (_LOAD_BYTE_AT, 0, 0, 1),
        (_SHIFT_LEFT, 0, 0, 8),
        (_A_TO, 0, 0, _HIGH),
        (_LOAD_BYTE_AT, 0, 0, 0),
        (_X_FROM, 0, 0, _HIGH),
        (_OR_X, 0, 0, 0),
        (_ADD, 0, 0, 3),
        (_AND, 0, 0, ~3 & _ALL),
        (_X_FROM, 0, 0, _PLACE),
        (_ADD_X, 0, 0, 0),
        (_A_TO, 0, 0, _PLACE),
        (_X_LENGTH, 0, 0, 0),
        (_IF_EQUAL_X, 0, 1, 0),
        (_RETURN, 0, 0, 0),
    ]
    return [(_A_IS, 0, 0, 0), (_A_TO, 0, 0, _PLACE), *step * _TOLD_AT_ONCE, (_RETURN, 0, 0, _ALL)]
