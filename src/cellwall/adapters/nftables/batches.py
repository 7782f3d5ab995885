"""Edits of our tables as messages of one transaction, for tables that nft cannot write: those with an owner, and those
that outlived one.

Owns: the order inside the transaction. What the messages say is nft's (`compiler`).
"""

import struct
from collections.abc import Collection, Iterator, Sequence
from itertools import count

import msgspec

from cellwall.adapters.netlink.nfnetlink import (
    NFPROTO,
    NFT_MSG_DELRULE,
    NFT_MSG_DELSETELEM,
    NFT_MSG_DESTROYTABLE,
    NFT_MSG_NEWCHAIN,
    NFT_MSG_NEWOBJ,
    NFT_MSG_NEWRULE,
    NFT_MSG_NEWSET,
    NFT_MSG_NEWSETELEM,
    NFT_MSG_NEWTABLE,
    nft_message,
)
from cellwall.adapters.netlink.nlattr import attribute, attribute_text, attribute_u8, nested
from cellwall.adapters.netlink.sockets import NLM_F_CREATE, Message
from cellwall.adapters.nftables.compiler import Compiled, SetPart, compile_tables
from cellwall.ruleset.edits import Edit, Flush, Refresh, Remove
from cellwall.ruleset.types import NamedSet, Ruleset, Table, TableFamily, Timeouts

TableKey = tuple[TableFamily, str]
"""Family and name."""

_U32 = struct.Struct(">I")
_NLM_F_APPEND = 0x800
_NAME, _FLAGS, _SET_ID = 1, 2, 10  # NFTA_TABLE_NAME, _FLAGS; NFTA_SET_ID
_OF_TABLE, _OF_SET = 1, 2  # of sets, chains, rules, objects and lists of elements alike
_OBJECT_NAME, _OBJECT_TYPE, _OBJECT_DATA = 2, 3, 4
_CT_TIMEOUT, _L4PROTO, _STATES = 7, 2, 3  # NFT_OBJECT_CT_TIMEOUT; NFTA_CT_TIMEOUT_L4PROTO, _DATA
_PROTOCOLS = {"tcp": 6, "udp": 17}
# CTA_TIMEOUT_TCP_*, and of UDP CTA_TIMEOUT_UDP_UNREPLIED
_FLOW_STATES = {"syn_sent": 1, "syn_recv": 2, "time_wait": 7, "close": 8, "unreplied": 1}


def compile_edits(edits: Sequence[Edit], flags: int, live: Collection[TableKey] = ()) -> list[Message]:
    """The messages of one transaction, whether or not the tables are there. `flags`: those that tables get which are
    made, and which those have that are refreshed; `live`: the tables that are there, of which alone rules can go."""
    numbers = count(1)
    messages: list[Message] = []
    for edit in edits:
        if isinstance(edit, Flush):
            messages += [_flush(table) for table in edit.ruleset.tables if (table.family, table.name) in live]
            continue
        keeps = isinstance(edit, Refresh)
        if not keeps:
            messages += [_destroy(table) for table in edit.ruleset.tables]
        if isinstance(edit, Remove):
            continue
        compiled = compile_tables(_without_kept(edit.ruleset) if keeps else edit.ruleset)
        for table, content in zip(edit.ruleset.tables, compiled, strict=True):
            messages += _table(table, content, numbers, flags, kept=keeps)
    return messages


def _destroy(table: Table) -> Message:
    body, what = attribute_text(_NAME, table.name), f"{table.family} {table.name}"
    return nft_message(NFT_MSG_DESTROYTABLE, NFPROTO[table.family], body, what=what)


def _flush(table: Table) -> Message:
    body, what = attribute_text(_OF_TABLE, table.name), f"{table.family} {table.name} rules"
    return nft_message(NFT_MSG_DELRULE, NFPROTO[table.family], body, what=what)


def _is_refilled(named: NamedSet) -> bool:
    """See `render_refresh`."""
    return named.static or (named.interval and not named.dynamic)


def _without_kept(ruleset: Ruleset) -> Ruleset:
    """Without the elements that a refresh leaves as they are."""
    return Ruleset(
        tuple(
            msgspec.structs.replace(
                table,
                sets=tuple(
                    named if _is_refilled(named) else msgspec.structs.replace(named, elements=())
                    for named in table.sets
                ),
            )
            for table in ruleset.tables
        )
    )


def _table(table: Table, content: Compiled, numbers: "count[int]", flags: int, *, kept: bool) -> Iterator[Message]:
    """Everything of a table. `kept`: it may be there, with sets and what is in them.

    Chains come before elements and rules, which lead to them; sets are full before rules use them; and rules go before
    new anonymous sets come, whose names the former ones have.
    """
    family, where = NFPROTO[table.family], f"{table.family} {table.name}"
    own = attribute_text(_OF_TABLE, table.name)

    def message(kind: int, body: bytes, what: str, more: int = NLM_F_CREATE) -> Message:
        return nft_message(kind, family, body, flags=more, what=f"{where} {what}")

    yield message(NFT_MSG_NEWTABLE, own + attribute(_FLAGS, _U32.pack(flags)), "itself")
    yield from (message(NFT_MSG_NEWOBJ, own + _timeouts(one), one.name) for one in table.timeouts)
    yield from (message(NFT_MSG_NEWCHAIN, chain.body, chain.name) for chain in content.chains)
    if kept:
        yield message(NFT_MSG_DELRULE, own, "rules", 0)
    refilled = {named.name for named in table.sets if _is_refilled(named)} if kept else set()
    for one in sorted(content.sets, key=_anonymous):
        number = attribute(_SET_ID, _U32.pack(next(numbers)))
        yield message(NFT_MSG_NEWSET, one.body + number, one.name)
        if one.name in refilled:
            yield message(NFT_MSG_DELSETELEM, own + attribute_text(_OF_SET, one.name), one.name, 0)
        yield from (message(NFT_MSG_NEWSETELEM, elements, one.name) for elements in one.elements)
    for rule in content.rules:
        yield message(NFT_MSG_NEWRULE, rule.body, f"{rule.name} (a rule)", NLM_F_CREATE | _NLM_F_APPEND)


def _anonymous(one: SetPart) -> bool:
    return one.anonymous


def _timeouts(timeouts: Timeouts) -> bytes:
    states = [attribute(_FLOW_STATES[state], _U32.pack(seconds)) for state, seconds in timeouts.seconds]
    return (
        attribute_text(_OBJECT_NAME, timeouts.name)
        + attribute(_OBJECT_TYPE, _U32.pack(_CT_TIMEOUT))
        + nested(_OBJECT_DATA, attribute_u8(_L4PROTO, _PROTOCOLS[timeouts.protocol]), nested(_STATES, *states))
    )
