"""Filters of netlink sockets (networking/filter.rst of the kernel's documentation): what of the kernel's news a socket
is not told.

Owns: the programs that judge a datagram before it is queued, and how a socket gets and loses one. They load numbers in
network order, and netlink's are in this machine's: the numbers to compare with are turned, not those that were loaded.

Refuses: big-endian machines, whose lengths would need other steps. Who gets no filter is told of everything, which is
right, only dearer.
"""

import _socket as socket
import struct
import sys
from array import array
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress

from cellwall.adapters.netlink.rtnetlink import RTM_DELLINK, RTM_NEWLINK

# linux/filter.h: loads into A, of the datagram's length, or from a place in it, which X is added to or not; then the
# scratch memory and the other register.
_LOAD_BYTE, _LOAD_HALF, _LOAD_WORD, _LOAD_LENGTH = 0x30, 0x28, 0x20, 0x80
_LOAD_BYTE_AT, _LOAD_HALF_AT = 0x50, 0x48
_A_IS, _A_TO, _X_FROM, _X_IS_A, _X_LENGTH = 0x00, 0x02, 0x61, 0x07, 0x81
_SHIFT_LEFT, _ADD, _AND, _OR_X, _ADD_X = 0x64, 0x04, 0x54, 0x4C, 0x0C
_IF_EQUAL, _IF_EQUAL_X, _RETURN = 0x15, 0x1D, 0x06
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27  # asm-generic/socket.h
_ALL = 0xFFFFFFFF
_PLACE, _HIGH = 0, 1  # of the scratch memory

_MOST_LINKS = 200  # as far as a filter's jumps reach
_TOLD_AT_ONCE = 64
"""What nf_tables tells in one datagram is at most a page (net/netfilter/nf_tables_api.c, nft_commit_notify), which has
room for 55 elements of a word each. Of more than these the rest is not looked at, and the datagram told."""

Step = tuple[int, int, int, int]
"""What is done, how many steps are skipped if so and if not, and by what number."""


def tell_of_links(sock: socket.socket, interfaces: Collection[int]) -> bool:
    """From now on `sock`, of rtnetlink, is told nothing of other links than these, by index; False where that cannot be
    and the filter is as it was."""
    return len(interfaces) <= _MOST_LINKS and _attach(sock, _others_links(interfaces))


def tell_nothing_of(sock: socket.socket, kinds: Iterable[int]) -> bool:
    """From now on `sock` is told of no datagram that has but messages of these types; False where that cannot be."""
    return _attach(sock, _only_of(kinds))


def tell_all(sock: socket.socket) -> None:
    """From now on `sock` is told of everything."""
    with suppress(OSError):  # ENOENT: there was no filter
        sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def _attach(sock: socket.socket, steps: Sequence[Step]) -> bool:
    if sys.byteorder == "big":
        return False
    program = array("Q", b"".join(struct.pack("=HBBI", *step) for step in steps))
    place, length = program.buffer_info()
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("=H6xQ", length, place))
    except OSError:
        return False
    return True


def _swapped(size: int, number: int) -> int:
    return int.from_bytes(number.to_bytes(size, "little"), "big")


def _others_links(interfaces: Collection[int]) -> list[Step]:
    """A datagram is dropped that is one message, about a link, and about none of these."""
    links = len(interfaces)
    whole = [
        (_LOAD_BYTE, 0, 0, 1),
        (_SHIFT_LEFT, 0, 0, 8),
        (_X_IS_A, 0, 0, 0),
        (_LOAD_BYTE, 0, 0, 0),
        (_OR_X, 0, 0, 0),
        (_X_IS_A, 0, 0, 0),  # X: the first message's length
        (_LOAD_LENGTH, 0, 0, 0),
        (_IF_EQUAL_X, 0, links + 2, 0),
    ]
    return [
        (_LOAD_HALF, 0, 0, 4),
        (_IF_EQUAL, 1, 0, _swapped(2, RTM_NEWLINK)),
        (_IF_EQUAL, 0, len(whole) + links + 2, _swapped(2, RTM_DELLINK)),
        *whole,
        (_LOAD_WORD, 0, 0, 20),
        *((_IF_EQUAL, links - at, 0, _swapped(4, index)) for at, index in enumerate(interfaces)),
        (_RETURN, 0, 0, 0),
        (_RETURN, 0, 0, _ALL),
    ]


def _only_of(kinds: Iterable[int]) -> list[Step]:
    """A datagram is dropped of which all messages are of these types. The header of each says how long it is and what
    it is about, the low byte first."""
    nothing = [_swapped(2, kind) for kind in kinds]
    step = [
        (_X_FROM, 0, 0, _PLACE),
        (_LOAD_HALF_AT, 0, 0, 4),
        *((_IF_EQUAL, len(nothing) - at, 0, kind) for at, kind in enumerate(nothing)),
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
