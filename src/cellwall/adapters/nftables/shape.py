"""A digest of our tables as the kernel holds them, the elements of endpoints left out: equal digests, equal rules.

Owns: what of a dump is meaning and what is bookkeeping. Handles, reference counts, counters and who owns a table
change without any rule changing and are left out; whatever else the kernel says goes in, known or not, so that an
unknown change is drift and never a silent pass.

Anonymous sets are part of a rule (`tcp dport { 22, 80 }`): their constant elements go in, and their names, which the
kernel numbers as they come, do not. The elements of the node's own sets go in: an emptied floor is a changed rule.
"""

import errno
from collections.abc import Iterator, Mapping
from functools import lru_cache
from hashlib import sha256

from cellwall.adapters.netlink.nfnetlink import (
    HEADER_SIZE,
    NFPROTO,
    NFT_MSG_GETCHAIN,
    NFT_MSG_GETRULE,
    NFT_MSG_GETSET,
    NFT_MSG_GETTABLE,
    nft_message,
)
from cellwall.adapters.netlink.nlattr import attribute_text, attributes, each_attribute, text_of
from cellwall.adapters.netlink.sockets import Netlink
from cellwall.adapters.nftables.set_contents import read_set
from cellwall.errors import KernelError
from cellwall.names import NODE_SETS, TABLE
from cellwall.ruleset.types import TABLE_FAMILIES, TableFamily

_OF_TABLE, _SET_NAME, _SET_FLAGS, _RULE_CHAIN, _RULE_EXPRESSIONS = 1, 2, 3, 2, 4
_EXPR_NAME, _EXPR_DATA = 1, 2
_ANONYMOUS = 0x1

# NFTA_TABLE_*: USE, HANDLE, OWNER; NFTA_CHAIN_*: HANDLE, USE, COUNTERS, ID; NFTA_SET_*: ID, HANDLE, COUNT;
# NFTA_RULE_*: HANDLE, POSITION, ID.
BOOKKEEPING: dict[int, frozenset[int]] = {
    NFT_MSG_GETTABLE: frozenset({3, 4, 7}),
    NFT_MSG_GETCHAIN: frozenset({2, 6, 8, 11}),
    NFT_MSG_GETSET: frozenset({10, 16, 20}),
    NFT_MSG_GETRULE: frozenset({3, 6, 9}),
}
_TABLE_FLAGS = 2
_DORMANT = 0x1
"""Of a table's flags the one that changes what it judges."""
_COUNTING = (b"counter\0", b"quota\0", b"last\0")


def digest(netfilter: Netlink) -> str:
    """The digest over the families' tables of our name, "" where one of them is missing, or goes while it is read."""
    try:
        return _digest(netfilter)
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise
        return ""


def _digest(netfilter: Netlink) -> str:
    summary = sha256()
    for family in TABLE_FAMILIES:
        tables = list(_records(netfilter, NFT_MSG_GETTABLE, family))
        if not tables:
            return ""
        chains = sorted(map(_flat, _records(netfilter, NFT_MSG_GETCHAIN, family)))
        sets, anonymous = _sets(netfilter, family)
        # The order of chains and sets means nothing, that of the rules of a chain everything.
        rules = sorted(_records(netfilter, NFT_MSG_GETRULE, family), key=lambda rule: rule[_RULE_CHAIN])
        for group in (map(_flat, tables), chains, sorted(sets), (_flat_rule(rule, anonymous) for rule in rules)):
            summary.update(b"".join(group) + b"\n")
    return summary.hexdigest()


def stands(netfilter: Netlink, table: str) -> bool:
    """Whether the table of that name has rules in each of the families."""
    return all(any(_records(netfilter, NFT_MSG_GETRULE, family, table)) for family in TABLE_FAMILIES)


def _records(netfilter: Netlink, kind: int, family: TableFamily, table: str = TABLE) -> Iterator[dict[int, bytes]]:
    """What means something of each table, chain, set or rule of our table in a family."""
    # Of rules the kernel tells those of one table, if it is asked for it; of all else everything.
    only = attribute_text(_OF_TABLE, table) if kind == NFT_MSG_GETRULE else b""
    request = nft_message(kind, NFPROTO[family], only)
    for reply in netfilter.dump(request, f"read the {family} rules"):
        found = attributes(reply.body, HEADER_SIZE)
        if text_of(found[_OF_TABLE]) == table:
            yield {name: _meaning(kind, name, value) for name, value in found.items() if name not in BOOKKEEPING[kind]}


def _meaning(kind: int, name: int, value: bytes) -> bytes:
    if kind == NFT_MSG_GETTABLE and name == _TABLE_FLAGS:
        return bytes(3) + bytes([value[-1] & _DORMANT])
    return value


def _sets(netfilter: Netlink, family: TableFamily) -> tuple[list[bytes], dict[bytes, bytes]]:
    """The named sets, with their content where that is the node's, and the content of the anonymous ones by name."""
    named: list[bytes] = []
    anonymous: dict[bytes, bytes] = {}
    for record in _records(netfilter, NFT_MSG_GETSET, family):
        name = record[_SET_NAME]
        if int.from_bytes(record.get(_SET_FLAGS, b""), "big") & _ANONYMOUS:
            del record[_SET_NAME]
            anonymous[name] = _flat(record) + _content(netfilter, family, text_of(name))
        elif text_of(name) in NODE_SETS:
            named.append(_flat(record) + _content(netfilter, family, text_of(name)))
        else:
            named.append(_flat(record))
    return named, anonymous


def _content(netfilter: Netlink, family: TableFamily, name: str) -> bytes:
    """The elements of a set, in an order that does not depend on how they came."""
    return b"".join(sorted(_flat(attributes(element)) for element in read_set(netfilter, (family, TABLE, name))))


def _flat_rule(rule: Mapping[int, bytes], anonymous: Mapping[bytes, bytes]) -> bytes:
    parts = []
    for _, raw in each_attribute(rule.get(_RULE_EXPRESSIONS, b"")):
        flat, said = _flat_expression(raw)
        parts.append(flat if anonymous.keys().isdisjoint(said) else _resolved(raw, anonymous))
    return _flat({**rule, _RULE_EXPRESSIONS: b"".join(parts)})


@lru_cache(maxsize=2048)  # a wall has 2,400 expressions, 440 that differ, and each look at it reads them all
def _flat_expression(raw: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """Bytes of an expression, and what it says: among that may be the name of a set."""
    expression = attributes(raw)
    if expression[_EXPR_NAME] in _COUNTING:
        return _flat({_EXPR_NAME: expression[_EXPR_NAME]}), ()
    data = attributes(expression.get(_EXPR_DATA, b""))
    return _flat({**expression, _EXPR_DATA: _flat(data)}), tuple(data.values())


def _resolved(raw: bytes, anonymous: Mapping[bytes, bytes]) -> bytes:
    """Bytes of an expression with the content of an anonymous set instead of its name."""
    expression = attributes(raw)
    data = attributes(expression.get(_EXPR_DATA, b""))
    resolved = {kind: anonymous.get(value, value) for kind, value in data.items()}
    return _flat({**expression, _EXPR_DATA: _flat(resolved)})


def _flat(record: Mapping[int, bytes]) -> bytes:
    """Unambiguous bytes of a record: each value with its kind and its length."""
    return b"".join(b"%d:%d:%b" % (kind, len(value), value) for kind, value in sorted(record.items()))
