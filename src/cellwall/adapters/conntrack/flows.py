"""Connection tracking: flows are removed by the block of policy versions that stamped them.

The kernel filters a flush by mark itself (net/netfilter/nf_conntrack_netlink.c, ctnetlink_flush_conntrack): no dump,
no tuple crosses into user space, both families at once. Each message walks the whole table (3 ms for 262,144
buckets), so blocks that lie together, as those of endpoints that came and go together do, share one message with a
mask. Refuses mark 0, which every flow carries that is not ours.
"""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, collapse_addresses

from cellwall.adapters.netlink.nfnetlink import conntrack_message
from cellwall.adapters.netlink.nlattr import attribute
from cellwall.adapters.netlink.sockets import Message, Netlink
from cellwall.errors import InvalidSpec
from cellwall.model.versions import BLOCK, STEM, stems

_IPCTNL_MSG_CT_DELETE = 2
_CTA_MARK, _CTA_MARK_MASK = 8, 21
_STEM_BITS = STEM.bit_count()


def purge_flows(netfilter: Netlink, versions: Iterable[int]) -> None:
    """Delete every entry whose mark is of the block of one of these versions; none of them need exist."""
    messages = [_delete_marked(mark, mask) for mark, mask in _blocks(versions)]
    if messages:
        netfilter.transact(messages, "purge flows")


def _blocks(versions: Iterable[int]) -> Iterator[tuple[int, int]]:
    """The fewest (mark, mask) that cover exactly these blocks: as prefixes cover addresses."""
    wanted = tuple(versions)
    for version in wanted:
        if not BLOCK <= version < 1 << 32:
            raise InvalidSpec("policy version", version, "is not a mark of ours")
    for block in collapse_addresses(IPv4Network((stem, _STEM_BITS)) for stem in stems(wanted)):
        yield int(block.network_address), int(block.netmask)


def _delete_marked(mark: int, mask: int) -> Message:
    body = attribute(_CTA_MARK, mark.to_bytes(4, "big")) + attribute(_CTA_MARK_MASK, mask.to_bytes(4, "big"))
    return conntrack_message(_IPCTNL_MSG_CT_DELETE, 0, body, what=f"mark {mark:#x}/{mask:#x}")
