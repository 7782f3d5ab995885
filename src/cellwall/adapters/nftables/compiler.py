"""nft as a compiler: what the kernel holds of a text, as messages that make the same again through another socket.

nft has a socket of its own, and a table that a process owns takes nothing from any but its owner's. So the text is
loaded in a network namespace that is thrown away, and read back there: what the kernel says of a table, a chain, a set
or a rule is spelled as it wants to be told of one. Owns: the few places where it is not.

Kept from nft is what a rule consists of. Left to who sends it: flags of tables, the order of messages, and timeouts of
flows, which take their other states' values from the namespace they are made in.
"""

from collections.abc import Iterator

import msgspec

from cellwall.adapters.netlink.nfnetlink import (
    HEADER_SIZE,
    NFPROTO,
    NFT_MSG_GETCHAIN,
    NFT_MSG_GETRULE,
    NFT_MSG_GETSET,
    nft_message,
    open_netfilter_socket,
)
from cellwall.adapters.netlink.nlattr import attribute, attributes, each_attribute, nested, text_of, without
from cellwall.adapters.netlink.sockets import Netlink
from cellwall.adapters.nftables.elements import dump_request
from cellwall.adapters.nftables.shape import BOOKKEEPING
from cellwall.adapters.nftables.text import load_text
from cellwall.adapters.throwaway import in_new_namespace
from cellwall.ruleset.render import render_ruleset
from cellwall.ruleset.types import Ruleset, TableFamily

_OF_TABLE, _SET_NAME, _SET_FLAGS = 1, 2, 3
_CHAIN_NAME, _RULE_CHAIN, _RULE_EXPRESSIONS = 3, 2, 4
_LIST_ELEM, _EXPR_NAME, _EXPR_DATA = 1, 1, 2
_ANONYMOUS = 0x1

_SET_TYPE = 19
"""Which of its structures the kernel chose: told since Linux 6.16, and not to be asked for."""
_SAYS_NOTHING = {b"dynset\0": 6, b"exthdr\0": 5}
"""NFTA_DYNSET_TIMEOUT, NFTA_EXTHDR_FLAGS: told also where they are 0, and refused by their presence then."""


class Part(msgspec.Struct, frozen=True):
    """A chain, a set or a rule: its name (a rule's is its chain's) and the body of the message that makes it."""

    name: str
    body: bytes


class SetPart(msgspec.Struct, frozen=True):
    """A set, and the bodies of the messages that fill it. `anonymous`: it is part of a rule."""

    name: str
    body: bytes
    anonymous: bool
    elements: tuple[bytes, ...]


class Compiled(msgspec.Struct, frozen=True):
    """A table: everything in it, in an order in which it can be made."""

    family: TableFamily
    name: str
    chains: tuple[Part, ...]
    sets: tuple[SetPart, ...]
    rules: tuple[Part, ...]


def compile_tables(ruleset: Ruleset) -> tuple[Compiled, ...]:
    """The tables as nft makes them, with what is in their sets. Some 30 ms; touches nothing of the node. KernelError
    with the refused lines; Unsupported where nft is not installed."""
    text = render_ruleset(ruleset)

    def compiled() -> tuple[Compiled, ...]:
        load_text(text)
        with open_netfilter_socket() as netfilter:
            return tuple(_read(netfilter, table.family, table.name) for table in ruleset.tables)

    return in_new_namespace(compiled)


def _read(netfilter: Netlink, family: TableFamily, table: str) -> Compiled:
    chains = (
        Part(text_of(found[_CHAIN_NAME]), without(body, BOOKKEEPING[NFT_MSG_GETCHAIN], HEADER_SIZE))
        for body, found in _records(netfilter, NFT_MSG_GETCHAIN, family, table)
    )
    rules = (
        Part(text_of(found[_RULE_CHAIN]), _rule(body, found[_RULE_EXPRESSIONS]))
        for body, found in _records(netfilter, NFT_MSG_GETRULE, family, table)
    )
    return Compiled(family, table, tuple(chains), tuple(_sets(netfilter, family, table)), tuple(rules))


def _records(
    netfilter: Netlink, kind: int, family: TableFamily, table: str
) -> Iterator[tuple[bytes, dict[int, bytes]]]:
    for reply in netfilter.dump(nft_message(kind, NFPROTO[family], b""), f"read the compiled {family} rules"):
        found = attributes(reply.body, HEADER_SIZE)
        if text_of(found[_OF_TABLE]) == table:
            yield reply.body, found


def _sets(netfilter: Netlink, family: TableFamily, table: str) -> Iterator[SetPart]:
    unsent = {*BOOKKEEPING[NFT_MSG_GETSET], _SET_TYPE}
    for body, found in _records(netfilter, NFT_MSG_GETSET, family, table):
        name = text_of(found[_SET_NAME])
        replies = netfilter.dump(dump_request((family, table, name)), f"read the compiled set {name}")
        anonymous = bool(int.from_bytes(found.get(_SET_FLAGS, b""), "big") & _ANONYMOUS)
        elements = tuple(reply.body[HEADER_SIZE:] for reply in replies)
        yield SetPart(name, without(body, unsent, HEADER_SIZE), anonymous, elements)


def _rule(body: bytes, expressions: bytes) -> bytes:
    """Attributes do not depend on their order."""
    head = without(body, {*BOOKKEEPING[NFT_MSG_GETRULE], _RULE_EXPRESSIONS}, HEADER_SIZE)
    return head + nested(_RULE_EXPRESSIONS, *(_expression(one) for _, one in each_attribute(expressions)))


def _expression(expression: bytes) -> bytes:
    found = attributes(expression)
    name = found[_EXPR_NAME]
    empty = _SAYS_NOTHING.get(name)
    if empty is None or any(attributes(found[_EXPR_DATA]).get(empty, b"")):
        return nested(_LIST_ELEM, expression)
    return nested(_LIST_ELEM, attribute(_EXPR_NAME, name), nested(_EXPR_DATA, without(found[_EXPR_DATA], {empty})))
