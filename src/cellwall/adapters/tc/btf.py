"""The kernel's own description of its types (Documentation/bpf/btf.rst): where a field of a structure lies.

Owns: reading /sys/kernel/btf/vmlinux, as far as it takes. A kernel without it has no answer, and no guess is made.
"""

import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from cellwall.errors import Unsupported

VMLINUX = Path("/sys/kernel/btf/vmlinux")

_MAGIC = 0xEB9F
_STRUCT, _UNION = 4, 5
_HEADER, _TYPE, _MEMBER = struct.Struct("=HBBIIIII"), struct.Struct("=III"), struct.Struct("=III")
# What follows a type by its kind: bytes, and bytes for each of its members (linux/btf.h).
_TAIL = {1: 4, 3: 12, 14: 4, 17: 4}
_EACH = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}
_KINDS = 20


def field_places(name: str, raw: bytes | None = None) -> dict[str, tuple[int, int]]:
    """Field → (bit from the beginning of the structure, width in bits where it is a part of a byte, else 0); those of
    nameless parts are the structure's own.

    `raw`: the description, the running kernel's where it is not given. Unsupported where there is none, or none of a
    structure of that name.
    """
    return dict(_kernels_places(name)) if raw is None else Description(raw).fields(name)


@cache  # of a kernel that runs they do not change, and who lays a wall again would walk thousands of types again
def _kernels_places(name: str) -> dict[str, tuple[int, int]]:
    try:
        raw = VMLINUX.read_bytes()
    except OSError as error:
        raise Unsupported(f"the kernel does not describe its types: {VMLINUX}: {error.strerror}") from error
    return Description(raw).fields(name)


class Description:
    """One description. Types are numbered in the order in which they stand, and are of different sizes: to know where
    one is, those before it must have been walked."""

    def __init__(self, raw: bytes) -> None:
        magic, version, _, length, types, types_size, strings, strings_size = _HEADER.unpack_from(raw)
        if magic != _MAGIC or version != 1:
            raise Unsupported("the kernel describes its types in a format that is not known")
        self._types = raw[length + types : length + types + types_size]
        self._strings = raw[length + strings : length + strings + strings_size]
        self._places = [0]  # type 0 is void and stands nowhere
        self._walked = 0

    def fields(self, name: str) -> dict[str, tuple[int, int]]:
        """See `field_places`."""
        spelled = self._strings.find(b"\0" + name.encode() + b"\0") + 1
        while spelled and self._walk():
            found, info, size = _TYPE.unpack_from(self._types, self._places[-1])
            if found == spelled and info >> 24 & 31 == _STRUCT and size:
                return {field: (bit, width) for field, bit, width in self._members(len(self._places) - 1, 0)}
        raise Unsupported(f"the kernel does not describe its struct {name}")

    def _members(self, number: int, base: int) -> Iterator[tuple[str, int, int]]:
        while number >= len(self._places) and self._walk():
            pass
        place = self._places[number]
        _, info, _ = _TYPE.unpack_from(self._types, place)
        if info >> 24 & 31 not in (_STRUCT, _UNION):
            return
        for index in range(info & 0xFFFF):
            name, kind, where = _MEMBER.unpack_from(self._types, place + _TYPE.size + _MEMBER.size * index)
            # With the flag, the upper byte is the width of a bit field and the rest the place.
            bit, width = (where & 0xFFFFFF, where >> 24) if info >> 31 else (where, 0)
            if name:
                yield self._text(name), base + bit, width
            else:
                yield from self._members(kind, base + bit)

    def _walk(self) -> bool:
        """Find where the next type stands; False where there is none."""
        if self._walked >= len(self._types):
            return False
        _, info, _ = _TYPE.unpack_from(self._types, self._walked)
        kind, members = info >> 24 & 31, info & 0xFFFF
        if kind >= _KINDS:
            raise Unsupported(f"the kernel describes its types with a kind that is not known: {kind}")
        self._places.append(self._walked)
        self._walked += _TYPE.size + _TAIL.get(kind, 0) + _EACH.get(kind, 0) * members
        return True

    def _text(self, place: int) -> str:
        return self._strings[place : self._strings.index(b"\0", place)].decode(errors="backslashreplace")
