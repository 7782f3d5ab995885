"""What the engine needs to know of rules that are not ours, in the forward hook and where they translate what comes to
the node, and the one change that it makes there.

An accept is not final, a drop is: a packet that the wall accepts still passes every other chain of the forward hook.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from cellwall.model.addresses import Address
from cellwall.model.addresses import Protocol as Transport

Program = Literal["iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy"]
"""Which of a node's up to four filter tables of iptables, by the program that edits it."""


class ForwardChain(msgspec.Struct, frozen=True):
    """A chain of an iptables filter table that forwarded packets may come to. `policy` is "" but for FORWARD itself;
    `rules` as `-S` tells them, without the name of the chain."""

    program: Program
    name: str
    policy: str
    rules: tuple[str, ...]


class Condition(msgspec.Struct, frozen=True):
    """What a rule asks of a packet: that this is, or is not (`negated`), one of these; `*` stands for any letters."""

    asks: Literal["enters", "leaves", "family", "state", "status"]
    wanted: tuple[str, ...]
    negated: bool = False


class NftRule(msgspec.Struct, frozen=True):
    """A rule that ends a packet's way through its chain, or leads to another one, where all conditions are met."""

    conditions: tuple[Condition, ...]
    verdict: Literal["accept", "drop", "return", "jump", "goto"]
    target: str = ""


class NftChain(msgspec.Struct, frozen=True):
    """A base chain of the forward hook in another table of nft, and by name all chains of that table. Rules that ask
    for anything but a `Condition` are left out."""

    family: str
    table: str
    name: str
    drops: bool
    rules: Mapping[str, Sequence[NftRule]] = {}


class ForeignChains(msgspec.Struct, frozen=True):
    """Everything of others in the forward hook that may end a packet's way.

    `chains` of iptables; `unreadable`: what kept a table of iptables from being read, by its program; `closed`: every
    other forward chain of nft that drops or rejects what it does not know."""

    chains: tuple[ForwardChain, ...] = ()
    unreadable: Mapping[str, str] = {}
    closed: tuple[NftChain, ...] = ()


AddressRange = tuple[Address, Address]
"""The first and the last of a range of addresses, of one family."""


class Translation(msgspec.Struct, frozen=True):
    """A rule by which what comes to ports of the node goes elsewhere, though no socket has them. `version` None: of
    both families; no `addresses`, and `interface` "": any; `!` in front of an interface that is left out.
    `place`: how an operator finds it."""

    protocol: Transport
    first: int
    last: int
    version: Literal[4, 6] | None
    addresses: tuple[AddressRange, ...]
    interface: str
    place: str


class Neighbours(Protocol):
    """The rules of other programs on the node."""

    def observe(self) -> ForeignChains:
        """Read them. Starts no program where nobody else has a chain in the forward hook."""

    def translations(self) -> tuple[Translation, ...]:
        """What they translate that comes to the node. Starts no program where nobody else does."""

    def edit(self, program: Program, lines: Sequence[str]) -> None:
        """One transaction on a filter table of iptables, a line for each rule that goes in or out."""
