"""Who may write our tables: a table with an owner takes nothing from another socket, and a flush of all rules by others
passes it over.

The kernel knows an owner by the port of its netlink socket. With the socket's last descriptor the owner is gone; a
table that was made persistent stays then, and anybody may write it, or adopt it, as its next owner does. A table that
was not made persistent can never be adopted: it is replaced. Linux 6.9 (net/netfilter/nf_tables_api.c,
nf_tables_updtable, nft_rcv_nl_event).

nft writes our tables neither while they have an owner nor later: it asks for flags, if only for none, and the kernel
changes no table's persistence. So `batches` writes both.
"""

import errno
import os
from collections.abc import Sequence

import msgspec

from cellwall.adapters.netlink.nfnetlink import (
    HEADER_SIZE,
    NFPROTO,
    NFT_MSG_GETTABLE,
    NFT_MSG_NEWTABLE,
    nft_message,
    refusal_of,
    run_batch,
)
from cellwall.adapters.netlink.nlattr import attribute, attribute_text, attributes, text_of
from cellwall.adapters.netlink.sockets import NLM_F_CREATE, Message, Netlink
from cellwall.adapters.nftables.batches import TableKey, compile_edits
from cellwall.errors import Conflict, KernelError
from cellwall.names import SPARE_TABLE, TABLE
from cellwall.ruleset.edits import Edit, Flush, Replace
from cellwall.ruleset.select import renamed
from cellwall.ruleset.types import TABLE_FAMILIES, Ruleset

OWNED = 0x2 | 0x4
"""NFT_TABLE_F_OWNER and _PERSIST: of tables that a living process holds."""
ORPHANED = 0x4

_NAME, _FLAGS, _OWNER = 1, 2, 7  # NFTA_TABLE_*
_PROBE = "cellwall-probe"


class Standing(msgspec.Struct, frozen=True):
    """A table that is there: its flags, and the port of its owner's socket, 0 where it has none."""

    flags: int
    owner: int


def standing(netfilter: Netlink) -> dict[TableKey, Standing]:
    """Our tables and the copy of them."""
    found: dict[TableKey, Standing] = {}
    for family in TABLE_FAMILIES:
        request = nft_message(NFT_MSG_GETTABLE, NFPROTO[family], b"")
        for reply in netfilter.dump(request, f"read the {family} tables"):
            one = attributes(reply.body, HEADER_SIZE)
            if (name := text_of(one[_NAME])) in (TABLE, SPARE_TABLE):
                flags, owner = (int.from_bytes(one.get(kind, b""), "big") for kind in (_FLAGS, _OWNER))
                found[family, name] = Standing(flags, owner)
    return found


def outlived(netfilter: Netlink) -> bool:
    """Whether one of our tables is persistent, owned or no more."""
    return any(table.flags & ORPHANED for table in standing(netfilter).values())


def owns(netfilter: Netlink) -> bool:
    """Whether every table of ours that is there takes what this socket writes, and nothing else."""
    return all(table.owner == netfilter.port for table in standing(netfilter).values())


def lay(netfilter: Netlink, edits: Sequence[Edit], flags: int) -> None:
    """One transaction over this socket. KernelError with what was refused, Conflict where another socket owns it."""
    flushes = any(isinstance(edit, Flush) for edit in edits)
    messages = compile_edits(edits, flags, standing(netfilter) if flushes else ())
    if not messages:
        return
    refusal = run_batch(netfilter, messages, "lay the rules")
    if refusal is None:
        return
    what = messages[refusal.position].what
    if refusal.errno == errno.EPERM:
        raise Conflict(f"{what}: another program owns the table (nftables: flags owner)")
    raise KernelError(refusal.errno, f"lay {what}", refusal.text)


def take(netfilter: Netlink, ruleset: Ruleset) -> str:
    """Adopt what can be adopted of our tables; "" where this socket may own them from now on, else why not, and then
    nothing has changed. `ruleset`: what would be laid, which tells whether the kernel takes it this way."""
    found = standing(netfilter)
    for (family, name), table in found.items():
        if table.owner not in (0, netfilter.port):
            return f"another program owns the table {family} {name} (netlink port {table.owner})"
    if refused := _untakeable(netfilter, ruleset):
        return refused
    orphans = [key for key, table in found.items() if table.flags & OWNED == ORPHANED]
    if orphans and (refusal := run_batch(netfilter, [_adopt(key) for key in orphans], "adopt our tables")) is not None:
        family, name = orphans[refusal.position]
        return f"the table {family} {name} cannot be adopted: {os.strerror(refusal.errno)}"
    return ""


def _untakeable(netfilter: Netlink, ruleset: Ruleset) -> str:
    """Why the kernel does not take the rules this way, "" where it does. Leaves nothing behind."""
    if refusal_of(netfilter, [_adopt(("inet", _PROBE))], "ask for owners") is not None:
        return "the kernel has no owners that tables outlive (Linux 6.9)"
    messages = compile_edits([Replace(renamed(ruleset, _PROBE))], OWNED)
    refusal = refusal_of(netfilter, messages, "try the rules")
    if refusal is None:
        return ""
    what = messages[refusal.position].what if 0 <= refusal.position < len(messages) else "the rules"
    return f"the kernel refuses {what} as it tells it itself: {os.strerror(refusal.errno)}"


def _adopt(key: TableKey) -> Message:
    family, name = key
    body = attribute_text(_NAME, name) + attribute(_FLAGS, OWNED.to_bytes(4, "big"))
    return nft_message(NFT_MSG_NEWTABLE, NFPROTO[family], body, flags=NLM_F_CREATE)
