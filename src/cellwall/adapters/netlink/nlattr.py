"""Attributes of netlink messages (struct nlattr, linux/netlink.h): length, kind and value, padded to four bytes.

Owns: their bytes, both ways; a length that no attribute has ends what is read. Knows no kind of attribute, and nothing
of the messages that they are in.
"""

import struct
from collections.abc import Collection, Iterator

NLA_F_NESTED = 0x8000

ATTRIBUTE = struct.Struct("=HH")
_U8 = struct.Struct("=HHB3x")
_U16 = struct.Struct("=HHH2x")
_U32 = struct.Struct("=HHI")
_NATIVE_U32 = struct.Struct("=I")
PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")


def attribute(kind: int, value: bytes) -> bytes:
    """An attribute with bytes as its value, padded to 4."""
    length = len(value)
    return ATTRIBUTE.pack(length + 4, kind) + value + PADDING[length & 3]


def attribute_u8(kind: int, value: int) -> bytes:
    """An attribute with a number of one byte."""
    return _U8.pack(5, kind, value)


def attribute_u16(kind: int, value: int) -> bytes:
    """An attribute with a number of two bytes, in the machine's order."""
    return _U16.pack(6, kind, value)


def attribute_u32(kind: int, value: int) -> bytes:
    """An attribute with a number of four bytes, in the machine's order."""
    return _U32.pack(8, kind, value)


def attribute_text(kind: int, value: str) -> bytes:
    """An attribute with a zero-terminated string."""
    return attribute(kind, value.encode() + b"\0")


def nested(kind: int, *parts: bytes) -> bytes:
    """An attribute that holds attributes."""
    body = b"".join(parts)
    return ATTRIBUTE.pack(len(body) + 4, kind | NLA_F_NESTED) + body


def without(body: bytes, kinds: Collection[int], offset: int = 0) -> bytes:
    """The attributes from `offset` on as they are, those of these kinds left out."""
    kept: list[bytes] = []
    end = len(body)
    while offset + 4 <= end:
        length, kind = ATTRIBUTE.unpack_from(body, offset)
        if length < 4:
            break
        if kind & 0x3FFF not in kinds:
            kept.append(body[offset : offset + length] + PADDING[length & 3])
        offset += (length + 3) & ~3
    return b"".join(kept)


def each_attribute(body: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """(kind, value) of every attribute from `offset` on, without the nesting and byte-order flags."""
    end = len(body)
    while offset + 4 <= end:
        length, kind = ATTRIBUTE.unpack_from(body, offset)
        if length < 4:
            return
        yield kind & 0x3FFF, body[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def attributes(body: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes by kind; the last one of a kind counts."""
    found: dict[int, bytes] = {}
    end = len(body) - 4
    unpack = ATTRIBUTE.unpack_from  # a link has 45 attributes: this loop is most of what reading one costs
    while offset <= end:
        length, kind = unpack(body, offset)
        if length < 4:
            break
        found[kind & 0x3FFF] = body[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def attribute_of(body: bytes, wanted: int, offset: int) -> bytes | None:
    """The first attribute of a kind, reading no further; None where there is none."""
    end = len(body) - 4
    unpack = ATTRIBUTE.unpack_from
    while offset <= end:
        length, kind = unpack(body, offset)
        if length < 4:
            return None
        if kind & 0x3FFF == wanted:
            return body[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return None


def text_of(value: bytes) -> str:
    """A zero-terminated string attribute as text; foreign names may be any bytes."""
    return value.split(b"\0", 1)[0].decode(errors="backslashreplace")


def u32_of(value: bytes) -> int:
    """A number of four bytes, in the machine's order."""
    number: int = _NATIVE_U32.unpack_from(value)[0]
    return number
