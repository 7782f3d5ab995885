"""What is left of our tables where somebody took away those that judge: pins that vouch for frames nobody judges.

The mark that they set is all that the latch asks for, so the wall is open then, unlike where everything is flushed.
Owns: the look at it, a few dumps, and the one transaction by which the pins vouch for nobody any more: milliseconds,
where to compile and to lay the wall takes some hundred.
"""

import errno
from collections.abc import Iterable

from cellwall.adapters.netlink import NLM_F_CREATE, Netlink, attribute_text, attribute_u32, attributes, nested, text_of
from cellwall.adapters.nfnetlink import (
    HEADER_SIZE,
    NFPROTO,
    NFT_MSG_DELRULE,
    NFT_MSG_GETCHAIN,
    NFT_MSG_GETRULE,
    NFT_MSG_GETTABLE,
    NFT_MSG_NEWRULE,
    nft_message,
    run_batch,
)
from cellwall.errors import KernelError
from cellwall.names import SPARE_TABLE, TABLE

_VOUCHING = "port"  # the chain of the bridge family through which every frame of a sandbox goes (`compile/pins.py`)
_OF_TABLE, _TABLE_FLAGS, _CHAIN_NAME, _RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS = 1, 2, 3, 1, 2, 4
_DORMANT = b"\x01"  # NFT_TABLE_F_DORMANT, the least of four bytes in network order
_CLOSED = 1
"""How many rules a chain has that drops everything."""


def close_unjudged(netfilter: Netlink) -> bool:
    """See `Rules.close_unjudged`. Idempotent."""
    rules = _rules(netfilter, "inet")
    if any(_is_whole(netfilter, table, rules) for table in (TABLE, SPARE_TABLE)):
        return False
    pins = _rules(netfilter, "bridge")
    closed = [_close(netfilter, table) for table in (TABLE, SPARE_TABLE) if pins.count((table, _VOUCHING)) > _CLOSED]
    return any(closed)


def _is_whole(netfilter: Netlink, table: str, rules: Iterable[tuple[str, str]]) -> bool:
    """The table is awake and has chains, and none is without a rule: none of ours is."""
    request = nft_message(NFT_MSG_GETTABLE, NFPROTO["inet"], b"")
    tables = [attributes(reply.body, HEADER_SIZE) for reply in netfilter.dump(request, "read the inet tables")]
    if any(text_of(one[_OF_TABLE]) == table and one.get(_TABLE_FLAGS, b"")[-1:] == _DORMANT for one in tables):
        return False
    request = nft_message(NFT_MSG_GETCHAIN, NFPROTO["inet"], b"")
    records = [attributes(reply.body, HEADER_SIZE) for reply in netfilter.dump(request, "read the inet chains")]
    chains = {text_of(one[_CHAIN_NAME]) for one in records if text_of(one[_OF_TABLE]) == table}
    return bool(chains) and chains <= {chain for of_table, chain in rules if of_table == table}


def _rules(netfilter: Netlink, family: str) -> list[tuple[str, str]]:
    """Table and chain of every rule."""
    request = nft_message(NFT_MSG_GETRULE, NFPROTO[family], b"")
    records = (attributes(reply.body, HEADER_SIZE) for reply in netfilter.dump(request, f"read the {family} rules"))
    return [(text_of(one[_RULE_TABLE]), text_of(one[_RULE_CHAIN])) for one in records]


def _close(netfilter: Netlink, table: str) -> bool:
    """Instead of what it has, the chain drops. False where it is gone by now."""
    place = attribute_text(_RULE_TABLE, table) + attribute_text(_RULE_CHAIN, _VOUCHING)
    messages = [
        nft_message(NFT_MSG_DELRULE, NFPROTO["bridge"], place),
        nft_message(NFT_MSG_NEWRULE, NFPROTO["bridge"], place + _DROP, flags=NLM_F_CREATE),
    ]
    refusal = run_batch(netfilter, messages, "close what nobody judges")
    if refusal is not None and refusal.errno != errno.ENOENT:
        raise KernelError(refusal.errno, "close what nobody judges", refusal.text)
    return refusal is None


# linux/netfilter/nf_tables.h: NFTA_LIST_ELEM of NFTA_EXPR_NAME and _DATA; NFTA_IMMEDIATE_DREG, _DATA;
# NFTA_DATA_VERDICT, NFTA_VERDICT_CODE. NFT_REG_VERDICT and NF_DROP are 0, which has no order of bytes.
_DROP = nested(
    _RULE_EXPRESSIONS,
    nested(
        1,
        attribute_text(1, "immediate"),
        nested(2, attribute_u32(1, 0), nested(2, nested(2, attribute_u32(1, 0)))),
    ),
)
