"""The filter of unfinished checksums, run by the kernel on packets that no lab can make, and with each of its
conditions taken away.

BPF_PROG_TEST_RUN makes no unfinished checksum. But where the fields lie that say so is an argument of the program: here
it reads them in the part of a packet's control block that whoever runs a program may fill.
"""

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cellwall.adapters.tc import bpf
from cellwall.adapters.tc.btf import field_places
from cellwall.lower.bpf.checksums import CONTINUE, DROP, LICENSE, Field, Layout, checksum_lines
from cellwall.lower.bpf.instructions import R0, R2, Instruction, Line, Reg, assemble, jump, jump_if
from checksum_cases import CASES, Case

pytestmark = pytest.mark.root

_TEST_RUN = 10  # linux/bpf.h
_RUN = struct.Struct("=IIIIQQIIIIQQ")
_CONTEXT = struct.Struct("=48xBxHHH12x108xI")  # struct __sk_buff: cb, gso_size
_ETHERNET = bytes(12) + b"\x88\xb5"  # of an experiment: the kernel looks no further
_NOTHING = 0x7FFFFFFF
"""No register of the program ever has that value where a condition is asked."""


def layout() -> Layout:
    begin = field_places("sk_buff")["cb"][0] + field_places("qdisc_skb_cb")["data"][0]
    return Layout(Field(begin, 2), *(Field(begin + bits) for bits in (16, 32, 48)))


@contextmanager
def loaded(lines: list[Line]) -> Iterator[int]:
    program = bpf.load_packet_filter(assemble(lines), name="cellwall_trial", license=LICENSE)
    try:
        yield program.fd
    finally:
        os.close(program.fd)


def answer(fd: int, case: Case) -> int:
    head = 256
    data = ctypes.create_string_buffer(_ETHERNET + case.packet, len(_ETHERNET) + len(case.packet))
    context = ctypes.create_string_buffer(
        _CONTEXT.pack(case.summed, head + case.begins, case.goes, head, case.segment), _CONTEXT.size
    )
    request = ctypes.create_string_buffer(
        _RUN.pack(
            *(fd, 0, len(data), 0, ctypes.addressof(data), 0, 1, 0),
            *(len(context), 0, ctypes.addressof(context), 0),
        )
    )
    number = bpf._SYSTEM_CALLS[os.uname().machine]
    if bpf._libc.syscall(number, _TEST_RUN, request, _RUN.size) < 0:
        raise OSError(ctypes.get_errno(), "run a program")
    return ctypes.c_int32(_RUN.unpack_from(request)[1]).value


def surprises(lines: list[Line]) -> list[str]:
    """The cases of which this program judges otherwise than it should."""
    with loaded(lines) as fd:
        return [case.name for case in CASES if answer(fd, case) != (CONTINUE if case.passes else DROP)]


def unnoticed(*, taken: bool) -> list[Instruction]:
    """The conditions that may always, or never, be taken, and no case tells."""
    lines = checksum_lines(layout())
    found = []
    for at, line in enumerate(lines):
        if not isinstance(line, Instruction) or not line.to or line == jump(line.to):
            continue
        # The kernel refuses code that no jump leads to, so a condition stays one in form.
        operand = Reg(line.target) if taken else _NOTHING
        mutant = jump_if(line.target, "equal", operand, line.to)
        if not surprises([*lines[:at], mutant, *lines[at + 1 :]]):
            found.append(line)
    return found


def test_the_kernel_judges_every_case_as_it_should() -> None:
    assert surprises(checksum_lines(layout())) == []


def test_every_condition_is_noticed_that_always_holds() -> None:
    assert unnoticed(taken=True) == []


def test_every_condition_is_noticed_that_never_holds_but_what_opens_nothing() -> None:
    """What cannot be read of a packet reads as zeros, which are of no version of IP; and the fields of a packet can be
    read for as long as there is one. Large segments are not counted, so that more than 128 KiB of them may be merged,
    which this way of running a program has no room for."""
    large = jump_if(R2, "at least", 512, "counted")
    unreadable = jump_if(R0, "differs", 0, "drop")
    assert unnoticed(taken=False) == [large, unreadable, unreadable]
