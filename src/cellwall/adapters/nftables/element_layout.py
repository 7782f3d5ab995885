"""How an element of a set lies in a message: what is the same for all elements of a set is made once.

Owns: the size and order of every key type, and the bytes between the numbers. Each attach packs ten elements, and a
batch thousands; what differs from one to the next are the numbers alone.

Refuses: ranges and names, which `elements` packs part by part.
"""

import sys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Literal

from cellwall.adapters.netlink.nlattr import ATTRIBUTE, NLA_F_NESTED, PADDING
from cellwall.ruleset.types import KeyType

LIST_ELEM = 1  # NFTA_LIST_ELEM
KEY, DATA = 1, 2  # NFTA_SET_ELEM_*
VALUE = 1  # NFTA_DATA_VALUE
SIZES: dict[KeyType, int] = {
    "iface_index": 4,
    "ifname": 16,  # IFNAMSIZ
    "ether_addr": 6,
    "ipv4_addr": 4,
    "ipv6_addr": 16,
    "inet_proto": 1,
    "inet_service": 2,
    "mark": 4,
    "ct_label": 16,
}
_Order = Literal["big", "little"]


def order_of(kind: KeyType) -> _Order:
    """That in which nf_tables loads it into its registers."""
    return sys.byteorder if kind in ("iface_index", "mark", "ct_label") else "big"


class Layout:
    """What lies before each number, how many bytes that has, in which order; and what lies behind the last."""

    __slots__ = ("_places", "_tail")

    def __init__(self, key: Sequence[KeyType], data: Sequence[KeyType]) -> None:
        room = _room(key) + (_room(data) if data else 0)
        before = ATTRIBUTE.pack(4 + room, LIST_ELEM | NLA_F_NESTED)
        self._places: list[tuple[bytes, int, _Order]] = []
        for kind, types in ((KEY, key), (DATA, data)):
            if types:
                before += ATTRIBUTE.pack(_room(types), kind | NLA_F_NESTED) + ATTRIBUTE.pack(4 + _length(types), VALUE)
            for one in types:
                self._places.append((before, SIZES[one], order_of(one)))
                before = PADDING[SIZES[one] & 3]
        self._tail = before

    def pack(self, numbers: Iterable[Any]) -> bytes:
        """The element with its key, and its data where the layout has any. AttributeError for what is no number,
        OverflowError for one that does not fit its type."""
        chunks = []
        for (before, size, order), number in zip(self._places, numbers, strict=True):
            chunks.append(before)
            chunks.append(number.to_bytes(size, order))
        chunks.append(self._tail)
        return b"".join(chunks)


@lru_cache(maxsize=256)
def layout(key: tuple[KeyType, ...], data: tuple[KeyType, ...]) -> Layout | None:
    """Of a set with this key and data; None where a name is among them."""
    return None if "ifname" in key or "ifname" in data else Layout(key, data)


def _length(types: Sequence[KeyType]) -> int:
    """How many bytes a value has: whole registers where it has several parts."""
    return SIZES[types[0]] if len(types) == 1 else sum((SIZES[kind] + 3) & ~3 for kind in types)


def _room(types: Sequence[KeyType]) -> int:
    """How many bytes it takes as an attribute in an attribute."""
    return 8 + ((_length(types) + 3) & ~3)
