"""What the engine needs to know of forward chains that are not ours, and the one change that it makes there.

An accept is not final, a drop is: a packet that the wall accepts still passes every other chain of the forward hook.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

Program = Literal["iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy"]
"""Which of a node's up to four filter tables of iptables, by the program that edits it."""


class ForwardChain(msgspec.Struct, frozen=True):
    """A chain of an iptables filter table that forwarded packets may come to. `policy` is "" but for FORWARD itself;
    `rules` as `-S` tells them, without the name of the chain."""

    program: Program
    name: str
    policy: str
    rules: tuple[str, ...]


class ForeignChains(msgspec.Struct, frozen=True):
    """Everything of others in the forward hook that may end a packet's way.

    `chains` of iptables; `unreadable`: what kept a table of iptables from being read, by its program; `listings`: nft's
    JSON of each other table with a forward chain that drops or rejects what it does not know, as (family, table,
    chain, listing)."""

    chains: tuple[ForwardChain, ...] = ()
    unreadable: Mapping[str, str] = {}
    listings: tuple[tuple[str, str, str, Sequence[Mapping[str, Any]]], ...] = ()


class Neighbours(Protocol):
    """The rules of other programs on the node."""

    def observe(self) -> ForeignChains:
        """Read them. Starts no program where nobody else has a chain in the forward hook."""

    def edit(self, program: Program, lines: Sequence[str]) -> None:
        """One transaction on a filter table of iptables, a line for each rule that goes in or out."""
