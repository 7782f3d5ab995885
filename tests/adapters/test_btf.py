"""The kernel's description of its types, read from one that is written here."""

import struct

import pytest

from cellwall.adapters.tc.btf import VMLINUX, field_places
from cellwall.errors import Unsupported

INT, STRUCT, UNION, PROTOTYPE = 1, 4, 5, 13
NAMES = ("int", "packet", "length", "kind", "first", "second")


def described(*types: bytes, magic: int = 0xEB9F) -> bytes:
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in NAMES)
    body = b"".join(types)
    return struct.pack("=HBBIIIII", magic, 1, 0, 24, 0, len(body), len(body), len(strings)) + body + strings


def name_of(name: str) -> int:
    return 1 + sum(len(other) + 1 for other in NAMES[: NAMES.index(name)]) if name else 0


def a_type(name: str, kind: int, size: int, *members: tuple[str, int, int], flag: bool = False) -> bytes:
    packed = b"".join(struct.pack("=III", name_of(field), number, place) for field, number, place in members)
    return struct.pack("=III", name_of(name), int(flag) << 31 | kind << 24 | len(members), size) + packed


AN_INT = struct.pack("=IIII", name_of("int"), INT << 24, 4, 32)
A_PROTOTYPE = struct.pack("=III", 0, PROTOTYPE << 24 | 2, 1) + bytes(16)


def test_a_field_is_where_its_structure_says() -> None:
    raw = described(AN_INT, a_type("packet", STRUCT, 8, ("length", 1, 0), ("kind", 1, 32)))
    assert field_places("packet", raw) == {"length": (0, 0), "kind": (32, 0)}


def test_what_is_in_a_nameless_part_is_the_structures_own_also_where_that_stands_behind_it() -> None:
    outer = a_type("packet", STRUCT, 12, ("length", 1, 0), ("", 4, 32))
    raw = described(AN_INT, A_PROTOTYPE, outer, a_type("", UNION, 8, ("first", 1, 0), ("second", 1, 32)))
    assert field_places("packet", raw) == {"length": (0, 0), "first": (32, 0), "second": (64, 0)}


def test_a_part_of_a_byte_has_a_width() -> None:
    raw = described(AN_INT, a_type("packet", STRUCT, 4, ("kind", 1, 2 << 24 | 5), flag=True))
    assert field_places("packet", raw) == {"kind": (5, 2)}


def test_a_structure_that_is_only_announced_is_not_the_one() -> None:
    raw = described(a_type("packet", STRUCT, 0))
    with pytest.raises(Unsupported):
        field_places("packet", raw)


@pytest.mark.parametrize("raw", [described(AN_INT), described(AN_INT, magic=0x9FEB), described(b"\0\0\0\x1f" * 3)])
def test_what_does_not_describe_it_is_no_ground_for_a_guess(raw: bytes) -> None:
    with pytest.raises(Unsupported):
        field_places("packet", raw)


@pytest.mark.skipif(not VMLINUX.exists(), reason="this kernel does not describe its types")
def test_this_kernel_describes_its_packets() -> None:
    places = field_places("sk_buff")
    assert places["ip_summed"][1] == 2
    assert places["csum_offset"] == (places["csum_start"][0] + 16, 0)
