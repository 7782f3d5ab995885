"""Flows that a wall stamped for endpoints that nobody knows any more, deleted one by one.

Owns: the look through connection tracking for entries with a policy version (the kernel filters a dump by mark) and an
address of ours. Another program may mark flows in the same bits, but none of sandboxes': those it leaves alone.
"""

from _socket import AF_INET, AF_INET6
from collections.abc import Collection, Iterator, Sequence

from cellwall.adapters.conntrack.port_flows import deletion
from cellwall.adapters.netlink.nfnetlink import HEADER_SIZE, conntrack_message
from cellwall.adapters.netlink.nlattr import attribute, attributes
from cellwall.adapters.netlink.sockets import Message, Netlink
from cellwall.model.addresses import Prefix
from cellwall.model.versions import STEM

_CT_GET = 1
# linux/netfilter/nfnetlink_conntrack.h
_TUPLE_ORIG, _TUPLE_REPLY, _MARK, _MARK_MASK = 1, 2, 8, 21
_TUPLE_IP = 1


def end_stamped_flows(
    netfilter: Netlink, stamp: tuple[int, int], networks: Sequence[Prefix], keep: Collection[int]
) -> None:
    """Delete entries of these networks with that (mark, mask), but for those of the stems to keep."""
    for family, version in ((AF_INET, 4), (AF_INET6, 6)):
        own = [network for network in networks if network.version == version]
        messages = list(_deletions(netfilter, family, stamp, own, keep))
        if messages:
            netfilter.transact(messages, "end flows of a lost record")


def _deletions(
    netfilter: Netlink, family: int, stamp: tuple[int, int], networks: Sequence[Prefix], keep: Collection[int]
) -> Iterator[Message]:
    spans = [(int(network.network_address), int(network.broadcast_address)) for network in networks]
    mark, mask = stamp
    asked = attribute(_MARK, mark.to_bytes(4, "big")) + attribute(_MARK_MASK, mask.to_bytes(4, "big"))
    for reply in netfilter.dump(conntrack_message(_CT_GET, family, asked), "read flows that are stamped"):
        entry = attributes(reply.body, HEADER_SIZE)
        found = int.from_bytes(entry.get(_MARK, b""), "big")
        ends = [
            int.from_bytes(raw, "big")
            for way in (_TUPLE_ORIG, _TUPLE_REPLY)
            for raw in attributes(attributes(entry[way])[_TUPLE_IP]).values()
        ]
        ours = any(first <= end <= last for end in ends for first, last in spans)
        if ours and found & mask == mark and found & STEM not in keep:
            yield deletion(family, entry, f"flow with the mark {found:#x}")
