"""The latch: what the bridge itself lets through when no rule is left.

Owns: a classifier on either side of the bridge device, in traffic control and so outside netfilter: no flush of rules
reaches it. It passes what carries the mark by which our rules say that they judged a packet, and drops the rest. A
frame from a sandbox meets it after the pins of the bridge family and before the node's IP has seen it, so that the
node's own services are closed as well. No routing rule could do that: the local table is asked before every other.

The classifier is classic BPF, carried in the netlink message and run by `cls_bpf` with a verdict of its own ("direct
action", Linux 4.4): no program to load, no descriptor to keep, no action module, and it reads back as it was written.
"""

import errno
import struct

from cellwall.adapters.netlink.nlattr import attribute, attribute_text, attribute_u16
from cellwall.adapters.netlink.sockets import NLM_F_CREATE, Message, Netlink
from cellwall.adapters.tc.traffic_control import (
    BPF_NAME,
    BPF_OPS,
    BPF_OPS_LEN,
    EGRESS,
    INGRESS,
    RTM_DELTFILTER,
    RTM_NEWTFILTER,
    classifier,
    classifiers,
    classifying,
)
from cellwall.errors import KernelError

_PREFERENCE = 2  # `adapters.tc.checksums` is before it
_ETH_P_ARP = 0x0806

# linux/filter.h: classic instructions, and the offsets at which a load gives what is no byte of the packet.
_INSTRUCTION = struct.Struct("=HBBI")
_LOAD, _IF_EQUAL, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_PROTOCOL, _MARK = 0xFFFFF000, 0xFFFFF000 + 20
_GO_ON, _DROP = 0xFFFFFFFF, 2  # TC_ACT_UNSPEC, TC_ACT_SHOT

_SHUT = _INSTRUCTION.pack(_RETURN, 0, 0, _DROP)

# No scheduler, no classifier of this kind, none with a verdict of its own.
_NO_SUCH_KIND = (errno.ENOENT, errno.EOPNOTSUPP, errno.EINVAL)


def ensure_latch(route: Netlink, index: int, mark: int, *, frames: bool) -> bool:
    """Put the latch on the bridge with this index, in place of what another mark left; without `frames` on what goes to
    sandboxes alone. Idempotent; False where the kernel has no such classifier. KernelError where the bridge is gone."""
    if not latch_differences(route, index, mark, frames=frames):
        return True
    # Over one that exists, the kernel puts the new one in its place in one step (net/sched/cls_bpf.c, cls_bpf_change).
    messages = [
        classifying(index),
        Message(RTM_NEWTFILTER, NLM_F_CREATE, _filter(index, EGRESS, program(EGRESS, mark)), "to sandboxes"),
        Message(RTM_NEWTFILTER, NLM_F_CREATE, _filter(index, INGRESS, program(INGRESS, mark)), "from sandboxes")
        if frames
        else Message(
            RTM_DELTFILTER, 0, _filter(index, INGRESS, program(INGRESS, mark)), "from sandboxes", _NO_SUCH_KIND
        ),
    ]
    try:
        route.transact(messages, "latch the bridge")
    except KernelError as error:
        if error.errno in _NO_SUCH_KIND:
            return False
        raise
    return True


def shut_latch(route: Netlink, index: int) -> None:
    """Let the bridge pass nothing in or out, marked or not, until `ensure_latch`. Idempotent; KernelError where the
    bridge is gone, or the kernel has no such classifier."""
    sides = [Message(RTM_NEWTFILTER, NLM_F_CREATE, _filter(index, side, _SHUT), "shut") for side in (EGRESS, INGRESS)]
    route.transact([classifying(index), *sides], "shut the bridge")


def latch_differences(route: Netlink, index: int, mark: int, *, frames: bool) -> tuple[str, ...]:
    """What `ensure_latch` would change, a few words each; changes nothing."""
    missing = [
        f"lets nothing {where} sandboxes, as it was closed"
        if _SHUT in _standing(route, index, side)
        else f"does not latch what goes {where} sandboxes without a rule"
        for where, side in (("from", INGRESS), ("to", EGRESS))
        if (frames or side == EGRESS) and program(side, mark) not in _standing(route, index, side)
    ]
    if not frames and _standing(route, index, INGRESS):
        missing.append("latches what comes from sandboxes, which nobody marks")
    return tuple(missing)


def program(side: int, mark: int) -> bytes:
    """The classifier of one side. The node answers ARP by itself, past every hook that could mark the answer; IPv6's
    neighbour discovery is sent like any packet."""
    judged = [(_LOAD, 0, 0, _MARK), (_IF_ANY_BIT, 0, 1, mark), (_RETURN, 0, 0, _GO_ON), (_RETURN, 0, 0, _DROP)]
    spare_arp = [(_LOAD, 0, 0, _PROTOCOL), (_IF_EQUAL, 2, 0, _ETH_P_ARP)] if side == EGRESS else []
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in spare_arp + judged)


def _standing(route: Netlink, index: int, side: int) -> list[bytes]:
    """The program of our place on one side; none where nobody, or a classifier without a verdict, has it."""
    found = classifiers(route, index, side, _PREFERENCE, "read the latch")
    return [options[BPF_OPS] for options in found if BPF_OPS in options]


def _filter(index: int, side: int, operations: bytes) -> bytes:
    length = attribute_u16(BPF_OPS_LEN, len(operations) // _INSTRUCTION.size)
    name = attribute_text(BPF_NAME, "cellwall")
    return classifier(index, side, _PREFERENCE, length, attribute(BPF_OPS, operations), name)
