"""Connection tracking: flows are removed by the generation that stamped them.

The kernel filters a flush by mark itself (net/netfilter/nf_conntrack_netlink.c, ctnetlink_flush_conntrack): one
message per generation, both families, no dump, no tuple crosses into user space. Refuses mark 0, which every flow
carries that is not ours.
"""

from collections.abc import Iterable

from cellwall.adapters.netlink import Message, Netlink, attribute
from cellwall.adapters.nfnetlink import conntrack_message
from cellwall.errors import InvalidSpec

_IPCTNL_MSG_CT_DELETE = 2
_CTA_MARK, _CTA_MARK_MASK = 8, 21
_EVERY_BIT = b"\xff\xff\xff\xff"


def purge_flows(netfilter: Netlink, generations: Iterable[int]) -> None:
    """Delete every entry whose mark is one of `generations`; none of them need exist."""
    messages = [_delete_marked(generation) for generation in generations]
    if messages:
        netfilter.transact(messages, "purge flows")


def _delete_marked(generation: int) -> Message:
    if not 0 < generation < 1 << 32:
        raise InvalidSpec("generation", generation, "is not a mark of ours")
    mark = attribute(_CTA_MARK, generation.to_bytes(4, "big"))
    body = mark + attribute(_CTA_MARK_MASK, _EVERY_BIT)
    return conntrack_message(_IPCTNL_MSG_CT_DELETE, 0, body, what=f"mark {generation:#x}")
