"""eBPF: instructions as the kernel's documentation spells them, and the filter of checksums run on made-up packets."""

import operator
import struct
from collections.abc import Callable, Mapping

import pytest

from cellwall.lower.bpf.checksums import CONTINUE, DROP, Field, Layout, checksum_filter
from cellwall.lower.bpf.instructions import (
    R1,
    R2,
    STACK,
    Label,
    Line,
    Reg,
    alu,
    assemble,
    call,
    jump,
    jump_if,
    leave,
    load,
)
from checksum_cases import CASES, Case

LAYOUT = Layout(Field(1029, 2), Field(1088), Field(1104), Field(1440))
HEAD = 64
"""Where the network header of every packet lies, from the beginning of its buffer."""


# ---------------------------------------------------------------- encoding


@pytest.mark.parametrize(
    ("line", "encoded"),
    [
        (alu("move", R1, 7), "b7 01 0000 07000000"),
        (alu("move", R1, Reg(R2)), "bf 21 0000 00000000"),
        (alu("right", R2, 4), "77 02 0000 04000000"),
        (load(1, R2, STACK, -8), "71 a2 f8ff 00000000"),
        (load(2, R2, STACK, -8), "69 a2 f8ff 00000000"),
        (call(113), "85 00 0000 71000000"),
    ],
)
def test_an_instruction_is_eight_bytes(line: Line, encoded: str) -> None:
    assert assemble([line]) == bytes.fromhex(encoded)


def test_a_jump_counts_from_the_instruction_behind_it() -> None:
    program = assemble([jump_if(R1, "equal", 1, "out"), *leave(0), Label("out"), jump("out")])
    assert [struct.unpack_from("<h", program, 2 + 8 * at)[0] for at in (0, 3)] == [2, -1]


def test_a_jump_to_nowhere_is_an_error() -> None:
    with pytest.raises(KeyError):
        assemble([jump("nowhere")])


# ---------------------------------------------------------------- the filter, by a machine that knows what it uses


class Machine:
    """Runs a program on a packet: its registers, its stack, and the two helpers that read."""

    def __init__(self, fields: Mapping[int, bytes], packet: bytes, shown: Mapping[int, int]) -> None:
        self._packet, self._shown = packet, shown
        self._buffer = bytearray(256)
        for place, value in fields.items():
            self._buffer[place : place + len(value)] = value
        self._stack = bytearray(512)

    def run(self, program: bytes) -> int:
        registers = [0] * 11
        registers[R1], registers[STACK] = 1 << 20, 512
        at = 0
        for _ in range(200):
            code, both, offset, constant = struct.unpack_from("<BBhi", program, 8 * at)
            at += 1
            target, source = both & 15, both >> 4
            operand = registers[source] if code & 8 else constant
            if code == 0x95:
                return registers[0]
            if code == 0x85:
                registers[0] = self._call(constant, registers)
            elif code & 7 == 1:
                registers[target] = self._load({0x71: 1, 0x69: 2, 0x61: 4}[code], registers[source] + offset)
            elif code & 7 == 7:
                registers[target] = _OPERATIONS[code & 0xF0](registers[target], operand)
            elif _CONDITIONS[code & 0xF0](registers[target], operand):
                at += offset
        raise AssertionError("the program has no end")

    def _load(self, size: int, begin: int) -> int:
        if begin >= 1 << 20:  # what the kernel shows of a packet: struct __sk_buff
            assert size == 4
            return self._shown[begin - (1 << 20)]
        return int.from_bytes(self._stack[begin : begin + size], "little")

    def _call(self, function: int, registers: list[int]) -> int:
        if function == 113:  # bpf_probe_read_kernel: to, size, from
            to, size, begin = registers[1], registers[2], registers[3] - (1 << 20)
            self._stack[to : to + size] = self._buffer[begin : begin + size]
            return 0
        assert function == 68  # bpf_skb_load_bytes_relative: packet, offset, to, size
        begin, to, size = registers[2:5]
        if begin + size > len(self._packet):
            return -14
        self._stack[to : to + size] = self._packet[begin : begin + size]
        return 0


_OPERATIONS: dict[int, Callable[[int, int], int]] = {
    0x00: operator.add,
    0x10: operator.sub,
    0x50: operator.and_,
    0x60: operator.lshift,
    0x70: operator.rshift,
    0xB0: lambda left, right: right,
}
_CONDITIONS: dict[int, Callable[[int, int], bool]] = {
    0x00: lambda left, right: True,
    0x10: operator.eq,
    0x50: operator.ne,
    0x70: operator.ge,
}


def verdict(packet: bytes, begins: int, goes: int, *, summed: int, length: int = 100, segment: int = 0) -> int:
    fields = {
        128: bytes([summed << 5]),
        136: struct.pack("<H", HEAD + begins),
        138: struct.pack("<H", goes),
        180: struct.pack("<H", HEAD),
    }
    return Machine(fields, packet, {0: length, 176: segment}).run(checksum_filter(LAYOUT))


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_sum_passes_that_is_finished_or_goes_where_it_belongs_and_no_other(case: Case) -> None:
    wanted = CONTINUE if case.passes else DROP
    length = 14 + len(case.packet)
    found = verdict(case.packet, case.begins, case.goes, summed=case.summed, length=length, segment=case.segment)
    assert found == wanted


TCP4 = CASES[0]


@pytest.mark.parametrize(
    ("length", "segment", "wanted"),
    [
        (65_549, 1448, CONTINUE),  # as TCP sends it
        (65_549, 536, CONTINUE),  # by the least path
        (524_000, 1428, CONTINUE),  # BIG TCP
        (8_000, 96, CONTINUE),  # small datagrams of a tunnel
        (60_000, 8, DROP),
        (2_048, 8, DROP),
        (65_549, 255, DROP),
        (65_535, 256, CONTINUE),
    ],
)
def test_a_frame_that_is_more_segments_than_any_kernel_merges_ends(length: int, segment: int, wanted: int) -> None:
    found = verdict(TCP4.packet, TCP4.begins, TCP4.goes, summed=3, length=length, segment=segment)
    assert found == wanted
