"""The chains of a table: which have rules, and how many, and one that drops everything from now on.

Small and quick, for who looks at what somebody left of our tables before anything is compared or compiled: a question
of microseconds that every attach asks, and dumps of all chains.
"""

import errno
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Literal

from cellwall.adapters.netlink.nfnetlink import (
    HEADER_SIZE,
    NFPROTO,
    NFT_MSG_DELRULE,
    NFT_MSG_GETCHAIN,
    NFT_MSG_GETRULE,
    NFT_MSG_GETTABLE,
    NFT_MSG_NEWCHAIN,
    NFT_MSG_NEWRULE,
    NFT_MSG_NEWTABLE,
    nft_message,
    run_batch,
)
from cellwall.adapters.netlink.nlattr import attribute_text, attribute_u32, attributes, nested, text_of
from cellwall.adapters.netlink.sockets import NLM_F_CREATE, Message, Netlink
from cellwall.engine.nftables.contracts import LiveChain, Met
from cellwall.errors import KernelError
from cellwall.ruleset.types import Hook, TableFamily

_OF_TABLE, _TABLE_FLAGS, _CHAIN_NAME, _RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS = 1, 2, 3, 1, 2, 4
_CHAIN_HOOK, _CHAIN_USE, _CHAIN_TYPE, _HOOK_NUMBER, _HOOK_PRIORITY = 4, 6, 7, 1, 2
_Chain = tuple[Literal["inet", "bridge"], str]
_DORMANT = 0x1  # NFT_TABLE_F_DORMANT, beside which a table may have an owner
_NAMES: dict[int, Literal["inet", "bridge"]] = {1: "inet", 7: "bridge"}
_PLACES = ("prerouting", "input", "forward", "output", "postrouting")  # NF_INET_*, which bridges number alike


def is_met(netfilter: Netlink, table: str, met: Met, more: Sequence[Message]) -> bool:
    """Whether the tables of that name are awake, and these chains have rules and base chains a hook; whatever `more`
    asks for is there as well. One exchange."""
    asked = [*_questions(table, tuple(met)), *more]
    replies, refusals = netfilter.exchange(asked, len(asked) - 1, "look at the wall")
    for refusal in refusals:
        if refusal.errno != errno.ENOENT:
            raise KernelError(refusal.errno, "look at the wall", refusal.text)
    return not refusals and _are_met(tuple((reply.type, reply.body) for reply in replies), tuple(met.items()))


@lru_cache(maxsize=4)
def _are_met(told: tuple[tuple[int, bytes], ...], met: tuple[tuple[_Chain, int], ...]) -> bool:
    """Every attach asks, and is told the same as long as nobody changes a rule: to read it takes longer than to ask."""
    return all(_is_met(kind & 0xFF, body, dict(met)) for kind, body in told)


@lru_cache(maxsize=2)
def _questions(table: str, chains: tuple[tuple[Literal["inet", "bridge"], str], ...]) -> tuple[Message, ...]:
    named = attribute_text(_OF_TABLE, table)
    tables = (nft_message(NFT_MSG_GETTABLE, NFPROTO[family], named) for family in dict(chains))
    each = (
        nft_message(NFT_MSG_GETCHAIN, NFPROTO[family], named + attribute_text(_CHAIN_NAME, name))
        for family, name in chains
    )
    return (*tables, *each)


def _is_met(kind: int, body: bytes, met: Met) -> bool:
    if kind == NFT_MSG_NEWTABLE:
        return not _is_dormant(attributes(body, HEADER_SIZE))
    if kind != NFT_MSG_NEWCHAIN:
        return True
    found = attributes(body, HEADER_SIZE)
    jumps = met[_NAMES[body[0]], found[_CHAIN_NAME][:-1].decode()]
    return int.from_bytes(found[_CHAIN_USE], "big") > jumps and (jumps > 0 or _CHAIN_HOOK in found)


def _is_dormant(table: Mapping[int, bytes]) -> bool:
    return bool(int.from_bytes(table.get(_TABLE_FLAGS, b""), "big") & _DORMANT)


def chains(netfilter: Netlink, family: TableFamily, table: str) -> Mapping[str, LiveChain]:
    """See `Rules.chains`."""
    named = attribute_text(_OF_TABLE, table)  # of chains and tables the kernel tells all, whatever it is asked
    own = [one for one in _records(netfilter, NFT_MSG_GETTABLE, family, b"") if text_of(one[_OF_TABLE]) == table]
    if not own or _is_dormant(own[0]):
        return {}
    found = (one for one in _records(netfilter, NFT_MSG_GETCHAIN, family, b"") if text_of(one[_OF_TABLE]) == table)
    hooks = {text_of(one[_CHAIN_NAME]): _hook(one) for one in found if _is_used(one)}
    rules = (one for one in _records(netfilter, NFT_MSG_GETRULE, family, named) if text_of(one[_RULE_TABLE]) == table)
    counts = Counter(text_of(one[_RULE_CHAIN]) for one in rules)
    return {name: LiveChain(counts[name], hook) for name, hook in hooks.items()}


def _is_used(chain: Mapping[int, bytes]) -> bool:
    """Packets can come by it, or it has rules: a refresh of owned tables leaves chains behind that are neither, as all
    rules of a table go by one message."""
    return _CHAIN_HOOK in chain or int.from_bytes(chain[_CHAIN_USE], "big") > 0


def _hook(chain: Mapping[int, bytes]) -> Hook | None:
    if _CHAIN_HOOK not in chain:
        return None
    hook = attributes(chain[_CHAIN_HOOK])
    place = int.from_bytes(hook[_HOOK_NUMBER], "big")
    if place >= len(_PLACES):
        return None
    kind = "nat" if text_of(chain[_CHAIN_TYPE]) == "nat" else "filter"
    return Hook(kind, _PLACES[place], int.from_bytes(hook[_HOOK_PRIORITY], "big", signed=True))  # type: ignore[arg-type]


def drop_all(netfilter: Netlink, places: Sequence[tuple[TableFamily, str, str]], seen: int) -> bool:
    """See `Rules.drop_all`."""
    what = "have chains drop everything"
    try:
        refusal = run_batch(netfilter, [one for place in places for one in _dropping(*place)], what, only_at=seen)
    except KernelError as error:
        if error.errno != errno.ERESTART:
            raise
        return False
    if refusal is not None:
        raise KernelError(refusal.errno, what, refusal.text)
    return True


def _dropping(family: TableFamily, table: str, chain: str) -> tuple[Message, Message]:
    place = attribute_text(_RULE_TABLE, table) + attribute_text(_RULE_CHAIN, chain)
    return (
        nft_message(NFT_MSG_DELRULE, NFPROTO[family], place),
        nft_message(NFT_MSG_NEWRULE, NFPROTO[family], place + _DROP, flags=NLM_F_CREATE),
    )


def _records(netfilter: Netlink, kind: int, family: TableFamily, only: bytes) -> Iterator[dict[int, bytes]]:
    for reply in netfilter.dump(nft_message(kind, NFPROTO[family], only), f"read the {family} chains"):
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
