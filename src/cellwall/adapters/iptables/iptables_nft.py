"""What the programs of iptables-nft neither say of their tables nor do to them: nf_tables' own words for both."""

import errno
from collections.abc import Sequence

from cellwall.adapters.netlink.nfnetlink import (
    HEADER_SIZE,
    NFT_MSG_DELTABLE,
    NFT_MSG_GETTABLE,
    NFT_MSG_NEWTABLE,
    nft_message,
    run_batch,
)
from cellwall.adapters.netlink.nlattr import attribute_text, attributes, text_of
from cellwall.adapters.netlink.sockets import NLM_F_CREATE, Message, Netlink
from cellwall.errors import KernelError
from cellwall.lower.xt.tables import Family

_NAME = 1  # NFTA_TABLE_NAME
_FAMILIES: dict[int, Family] = {2: "ipv4", 10: "ipv6", 7: "bridge"}
_NUMBERS = {family: number for number, family in _FAMILIES.items()}


def table_order(netfilter: Netlink) -> tuple[tuple[Family, str], ...]:
    """The tables of these families, those made first at the beginning: the kernel appends to its list."""
    replies = netfilter.dump(nft_message(NFT_MSG_GETTABLE, 0, b""), "read the tables")
    named = ((reply.body[0], text_of(attributes(reply.body, HEADER_SIZE)[_NAME])) for reply in replies)
    return tuple((_FAMILIES[number], name) for number, name in named if number in _FAMILIES)


def make_tables(netfilter: Netlink, places: Sequence[tuple[Family, str]]) -> None:
    """Make these tables in this order, in one transaction, without a chain: each program makes those that it needs.
    Tolerates presence."""
    if not places:
        return
    messages = [_message(NFT_MSG_NEWTABLE, *place, flags=NLM_F_CREATE) for place in places]
    refusal = run_batch(netfilter, messages, "make tables")
    if refusal is not None:
        raise KernelError(refusal.errno, f"make the table {' '.join(places[refusal.position])}", refusal.text)


def delete_table(netfilter: Netlink, family: Family, name: str) -> None:
    """Delete a table and what is in it, in one transaction. Tolerates absence."""
    message = _message(NFT_MSG_DELTABLE, family, name)
    refusal = run_batch(netfilter, [message], "delete a table")
    if refusal is not None and refusal.errno != errno.ENOENT:
        raise KernelError(refusal.errno, f"delete the table {family} {name}", refusal.text)


def _message(kind: int, family: Family, name: str, *, flags: int = 0) -> Message:
    return nft_message(kind, _NUMBERS[family], attribute_text(_NAME, name), flags=flags, what=f"table {name}")
