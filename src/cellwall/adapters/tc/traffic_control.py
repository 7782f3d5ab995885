"""rtnetlink's words for classifiers on either side of a link (linux/pkt_sched.h, linux/pkt_cls.h).

Owns: the layout of these messages, as far as `bpf` classifiers whose answer is the verdict take it ("direct action",
Linux 4.4). Which program stands where, and what follows if it does not, is for those that put it there.
"""

import _socket as socket
import errno
import struct
from collections.abc import Iterator, Mapping

from cellwall.adapters.netlink.nlattr import attribute_text, attribute_u32, attributes, nested, text_of, u32_of
from cellwall.adapters.netlink.sockets import NLM_F_CREATE, Message, Netlink

_RTM_GETQDISC = 38
RTM_NEWQDISC, RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER = 36, 44, 45, 46
INGRESS, EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
BPF_OPS_LEN, BPF_OPS, BPF_FD, BPF_NAME, BPF_FLAGS, BPF_TAG = 4, 5, 6, 7, 8, 10

_HEADER = struct.Struct("=B3xiIII")
_CLSACT, _CLSACT_HANDLE = 0xFFFFFFF1, 0xFFFF0000
_HANDLE, _ETH_P_ALL = 1, 3
_KIND, _OPTIONS = 1, 2
_DIRECT_ACTION = 1
_STATISTICS, _QUEUED = 7, 3  # TCA_STATS2, and in it TCA_STATS_QUEUE
_QUEUE = struct.Struct("=5I")  # gnet_stats_queue: length, bytes, dropped, put back, over a limit
# What the kernel says of a link without a discipline on that side, and a kernel that has none.
_NONE_THERE = (errno.ENOENT, errno.EINVAL, errno.ENODEV, errno.EOPNOTSUPP)


def classifying(index: int) -> Message:
    """A link that can have classifiers on both sides. Idempotent."""
    body = _HEADER.pack(0, index, _CLSACT_HANDLE, _CLSACT, 0) + attribute_text(_KIND, "clsact")
    return Message(RTM_NEWQDISC, NLM_F_CREATE, body, "clsact", (errno.EEXIST,))


def dropped(route: Netlink, index: int) -> int | None:
    """How many packets the classifiers on both sides of a link have dropped since it can have any, of 32 bits; None
    where it cannot."""
    # Of one link's alone it would be told to everybody who hears of changes, this program's watch among them.
    query = Message(_RTM_GETQDISC, 0, _HEADER.pack(0, index, 0, 0, 0), "what classifiers dropped")
    for reply in route.dump(query, "read what classifiers dropped"):
        _, at, _, parent, _ = _HEADER.unpack_from(reply.body)
        if (at, parent) == (index, _CLSACT):
            statistics = attributes(reply.body, _HEADER.size).get(_STATISTICS, b"")
            return int(_QUEUE.unpack_from(attributes(statistics).get(_QUEUED, bytes(_QUEUE.size)))[2])
    return None


def classifier(index: int, side: int, preference: int, *options: bytes) -> bytes:
    """The body of a message that makes or deletes one for every protocol; the lower its preference the earlier."""
    info = preference << 16 | socket.htons(_ETH_P_ALL)
    direct = attribute_u32(BPF_FLAGS, _DIRECT_ACTION)
    body = _HEADER.pack(0, index, _HANDLE, side, info) + attribute_text(_KIND, "bpf")
    return body + nested(_OPTIONS, *options, direct)


def classifiers(
    route: Netlink, index: int, side: int, preference: int, operation: str
) -> Iterator[Mapping[int, bytes]]:
    """The options by BPF_* of what stands at that place, if its answer is the verdict; none where there is no such
    link."""
    query = Message(RTM_GETTFILTER, 0, _HEADER.pack(0, index, 0, side, 0), "classifiers", _NONE_THERE)
    for reply in route.dump(query, operation):
        _, at, handle, parent, info = _HEADER.unpack_from(reply.body)
        found = attributes(reply.body, _HEADER.size)
        options = attributes(found.get(_OPTIONS, b""))
        ours = (at, handle, parent, info >> 16) == (index, _HANDLE, side, preference)
        if (
            ours
            and text_of(found.get(_KIND, b"")) == "bpf"
            and u32_of(options.get(BPF_FLAGS, bytes(4))) & _DIRECT_ACTION
        ):
            yield options
