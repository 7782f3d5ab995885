"""The chains of a table: how many rules each has, a few dumps, and one that drops everything from now on.

Small and quick, for who looks at what somebody left of our tables before anything is compared or compiled.
"""

import errno
from collections import Counter
from collections.abc import Iterator, Mapping

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
from cellwall.ruleset.types import TableFamily

_OF_TABLE, _TABLE_FLAGS, _CHAIN_NAME, _RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS = 1, 2, 3, 1, 2, 4
_DORMANT = 0x1  # NFT_TABLE_F_DORMANT, beside which a table may have an owner


def rule_counts(netfilter: Netlink, family: TableFamily, table: str) -> Mapping[str, int]:
    """See `Rules.rule_counts`."""
    own = [one for one in _records(netfilter, NFT_MSG_GETTABLE, family) if text_of(one[_OF_TABLE]) == table]
    if not own or int.from_bytes(own[0].get(_TABLE_FLAGS, b""), "big") & _DORMANT:
        return {}
    chains = (one for one in _records(netfilter, NFT_MSG_GETCHAIN, family) if text_of(one[_OF_TABLE]) == table)
    rules = (one for one in _records(netfilter, NFT_MSG_GETRULE, family) if text_of(one[_RULE_TABLE]) == table)
    counts = Counter(text_of(one[_RULE_CHAIN]) for one in rules)
    return {name: counts[name] for name in (text_of(one[_CHAIN_NAME]) for one in chains)}


def drop_all(netfilter: Netlink, family: TableFamily, table: str, chain: str) -> bool:
    """See `Rules.drop_all`."""
    place = attribute_text(_RULE_TABLE, table) + attribute_text(_RULE_CHAIN, chain)
    messages = [
        nft_message(NFT_MSG_DELRULE, NFPROTO[family], place),
        nft_message(NFT_MSG_NEWRULE, NFPROTO[family], place + _DROP, flags=NLM_F_CREATE),
    ]
    what = f"have {family} {table} {chain} drop everything"
    refusal = run_batch(netfilter, messages, what)
    if refusal is not None and refusal.errno != errno.ENOENT:
        raise KernelError(refusal.errno, what, refusal.text)
    return refusal is None


def _records(netfilter: Netlink, kind: int, family: TableFamily) -> Iterator[dict[int, bytes]]:
    for reply in netfilter.dump(nft_message(kind, NFPROTO[family], b""), f"read the {family} chains"):
        yield attributes(reply.body, HEADER_SIZE)


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
