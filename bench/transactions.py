"""What nf_tables itself counts: transactions, chains, rules. iptables is nf_tables here, so peers' rules count too."""

import msgspec

from cellwall.adapters.netlink.nfnetlink import (
    HEADER_SIZE,
    NFT_MSG_GETCHAIN,
    NFT_MSG_GETRULE,
    nft_message,
    open_netfilter_socket,
)
from cellwall.adapters.netlink.nlattr import attributes
from cellwall.adapters.netlink.sockets import Netlink
from cellwall.lab import Host

_GETGEN, _GEN_ID = 16, 1  # NFT_MSG_GETGEN, NFTA_GEN_ID
_EVERY_FAMILY = 0


class RuleCount(msgspec.Struct, frozen=True):
    """What a contestant's node holds while so many are attached."""

    contestant: str
    attached: int
    chains: int
    rules: int


def count_rules(contestant: str, attached: int, node: Host) -> RuleCount:
    """Of all tables of the node, whoever made them."""
    with node.enter(), open_netfilter_socket() as netfilter:
        chains, rules = (
            len(netfilter.dump(nft_message(kind, _EVERY_FAMILY, b""), "count"))
            for kind in (NFT_MSG_GETCHAIN, NFT_MSG_GETRULE)
        )
    return RuleCount(contestant, attached, chains, rules)


def generation(netfilter: Netlink) -> int:
    """The number of transactions that nf_tables has committed in the socket's namespace."""
    (reply,) = netfilter.transact([nft_message(_GETGEN, _EVERY_FAMILY, b"")], "read the generation")
    return int.from_bytes(attributes(reply.body, HEADER_SIZE)[_GEN_ID], "big")
