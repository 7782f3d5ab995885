"""eBPF instructions as bytes (Documentation/bpf/standardization/instruction-set.rst), jumps by label.

Owns: the encoding of the few instructions that a filter of packets needs. Knows nothing of packets, and not whether
the kernel's verifier takes what it writes.
"""

import struct
from collections.abc import Sequence

import msgspec

_INSTRUCTION = struct.Struct("<BBhi")
_ALU64, _JUMP, _LOAD = 0x07, 0x05, 0x61
_REGISTER = 0x08
_SIZES = {1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18}
_OPERATIONS = {"add": 0x00, "subtract": 0x10, "and": 0x50, "left": 0x60, "right": 0x70, "move": 0xB0}
_CONDITIONS = {"always": 0x00, "equal": 0x10, "differs": 0x50, "at least": 0x70}
"""`at least` is signed."""

R0, R1, R2, R3, R4, R5, R6, R7, R8, STACK = 0, 1, 2, 3, 4, 5, 6, 7, 8, 10


class Reg(msgspec.Struct, frozen=True):
    """A register as an operand, where a number is a constant."""

    number: int


class Label(msgspec.Struct, frozen=True):
    """Where a jump leads."""

    name: str


class Instruction(msgspec.Struct, frozen=True):
    """One instruction; `to` is the label that it jumps to."""

    code: int
    target: int = 0
    source: int = 0
    offset: int = 0
    constant: int = 0
    to: str = ""


Line = Instruction | Label


def alu(operation: str, target: int, operand: int | Reg) -> Instruction:
    """`target` becomes itself, `operation`, `operand`, in 64 bits."""
    return _with_operand(_ALU64 | _OPERATIONS[operation], target, operand)


def move(target: int, operand: int | Reg) -> Instruction:
    """`target` becomes `operand`."""
    return alu("move", target, operand)


def load(size: int, target: int, base: int, offset: int) -> Instruction:
    """`target` becomes the `size` bytes at an address, in the machine's order."""
    return Instruction(_LOAD | _SIZES[size], target, base, offset)


def call(function: int) -> Instruction:
    """Call one of the kernel's helpers: arguments in R1 to R5, the answer in R0."""
    return Instruction(_JUMP | 0x80, constant=function)


def jump(to: str) -> Instruction:
    """Go on at a label."""
    return Instruction(_JUMP, to=to)


def jump_if(register: int, condition: str, operand: int | Reg, to: str) -> Instruction:
    """Go on at a label where the condition holds between register and operand, else with what follows."""
    found = _with_operand(_JUMP | _CONDITIONS[condition], register, operand)
    return msgspec.structs.replace(found, to=to)


def leave(answer: int) -> tuple[Instruction, Instruction]:
    """The end of the program, with its answer."""
    return move(R0, answer), Instruction(_JUMP | 0x90)


def assemble(lines: Sequence[Line]) -> bytes:
    """The program as the kernel takes it. KeyError where a jump leads to no label."""
    places: dict[str, int] = {}
    instructions: list[Instruction] = []
    for line in lines:
        if isinstance(line, Label):
            places[line.name] = len(instructions)
        else:
            instructions.append(line)
    packed = []
    for position, found in enumerate(instructions):
        offset = places[found.to] - position - 1 if found.to else found.offset
        packed.append(_INSTRUCTION.pack(found.code, found.target | found.source << 4, offset, found.constant))
    return b"".join(packed)


def _with_operand(code: int, target: int, operand: int | Reg) -> Instruction:
    if isinstance(operand, Reg):
        return Instruction(code | _REGISTER, target, operand.number)
    return Instruction(code, target, constant=operand)
