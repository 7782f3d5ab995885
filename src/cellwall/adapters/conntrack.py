"""Connection tracking: flows are removed by the generation that stamped them.

The kernel filters a flush by mark itself (net/netfilter/nf_conntrack_netlink.c, ctnetlink_flush_conntrack): no dump,
no tuple crosses into user space, both families at once. Each message walks the whole table (3 ms for 262,144
buckets), so generations that fill an aligned block, as those of endpoints that came and go together do, share one
message with the block's mask. Refuses mark 0, which every flow carries that is not ours.
"""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, collapse_addresses

from cellwall.adapters.netlink import Message, Netlink, attribute
from cellwall.adapters.nfnetlink import conntrack_message
from cellwall.errors import InvalidSpec

_IPCTNL_MSG_CT_DELETE = 2
_CTA_MARK, _CTA_MARK_MASK = 8, 21


def purge_flows(netfilter: Netlink, generations: Iterable[int]) -> None:
    """Delete every entry whose mark is one of `generations`; none of them need exist."""
    messages = [_delete_marked(mark, mask) for mark, mask in _blocks(generations)]
    if messages:
        netfilter.transact(messages, "purge flows")


def _blocks(generations: Iterable[int]) -> Iterator[tuple[int, int]]:
    """The fewest (mark, mask) that cover exactly these marks: as prefixes cover addresses."""
    wanted = list(generations)
    for generation in wanted:
        if not 0 < generation < 1 << 32:
            raise InvalidSpec("generation", generation, "is not a mark of ours")
    for block in collapse_addresses(IPv4Network(generation) for generation in wanted):
        yield int(block.network_address), int(block.netmask)


def _delete_marked(mark: int, mask: int) -> Message:
    body = attribute(_CTA_MARK, mark.to_bytes(4, "big")) + attribute(_CTA_MARK_MASK, mask.to_bytes(4, "big"))
    return conntrack_message(_IPCTNL_MSG_CT_DELETE, 0, body, what=f"mark {mark:#x}/{mask:#x}")
