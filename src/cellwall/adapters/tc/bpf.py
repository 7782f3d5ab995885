"""eBPF programs: load one into the kernel (linux/bpf.h).

Owns: the system call. A program lives for as long as a descriptor, or whatever it was attached to, holds it.
"""

import ctypes
import errno
import os
import struct
import sys

import msgspec

from cellwall.errors import KernelError, NoPrivilege, Unsupported

_SYSTEM_CALLS = {"x86_64": 321, "aarch64": 280, "riscv64": 280}
_PROG_LOAD, _OBJECT_INFO = 5, 15
_SCHED_CLS = 3
_LOAD = struct.Struct("=IIQQIIQII16sII")
_INFO_OF = struct.Struct("=IIQ")
_INFO = struct.Struct("=II8s")
_LOG = 1 << 16
_libc = ctypes.CDLL(None, use_errno=True)


class Program(msgspec.Struct, frozen=True):
    """A loaded program: its descriptor, the caller's to close, and the kernel's digest of its instructions."""

    fd: int
    tag: str


def load_packet_filter(instructions: bytes, *, name: str, license: str) -> Program:
    """Have the kernel verify a program that judges packets, and load it. Unsupported where the kernel has no such
    programs, NoPrivilege, or KernelError with the last line of the verifier's objection."""
    code, words = ctypes.create_string_buffer(instructions, len(instructions)), ctypes.create_string_buffer(_LOG)
    terms = ctypes.create_string_buffer(license.encode())

    def attempt(log: int) -> int:
        fields = (_SCHED_CLS, len(instructions) // 8, ctypes.addressof(code), ctypes.addressof(terms))
        logged = (1, _LOG, ctypes.addressof(words)) if log else (0, 0, 0)
        return _bpf(_PROG_LOAD, _LOAD.pack(*fields, *logged, 0, 0, name.encode(), 0, 0))

    fd = attempt(0)
    if fd < 0:
        reason = ctypes.get_errno()
        if reason == errno.EPERM:
            raise NoPrivilege("loading a packet filter needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN")
        attempt(1)  # objections are written down on request, which makes every verification slower
        said = words.value.decode(errors="replace").strip().splitlines()
        raise KernelError(reason, "load a packet filter", said[-1] if said else "")
    return Program(fd, _tag(fd))


def _tag(fd: int) -> str:
    info = ctypes.create_string_buffer(_INFO.size)
    if _bpf(_OBJECT_INFO, _INFO_OF.pack(fd, _INFO.size, ctypes.addressof(info))) < 0:
        reason = ctypes.get_errno()
        os.close(fd)
        raise KernelError(reason, "read about a packet filter")
    tag: bytes = _INFO.unpack(info.raw)[2]
    return tag.hex()


def _bpf(command: int, attributes: bytes) -> int:
    number = _SYSTEM_CALLS.get(os.uname().machine)
    if number is None or sys.byteorder != "little":
        raise Unsupported(f"no packet filters on {os.uname().machine}")
    union = ctypes.create_string_buffer(attributes, len(attributes))
    return int(_libc.syscall(number, command, ctypes.byref(union), len(attributes)))
