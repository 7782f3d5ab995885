"""What beta9's own networking left on a node, as it is read, and what the engine asks of who reads it.

A bridge of our name with containers on it, made by beta9's worker: veth pairs `b9h…` or `b9_veth_h_…` whose inner ends
are in named namespaces, one for each container; FORWARD rules that accept whatever the bridge sends and gets; a DNAT
rule for each published port with the comment `VETH:CONTAINER[:NAMESPACE]`; a masquerade.
"""

from collections.abc import Iterable
from typing import Protocol

import msgspec

from cellwall.engine.contracts import ObservedLink
from cellwall.model.addresses import Address


class InnerEnd(msgspec.Struct, frozen=True):
    """The end of a pair that is inside a container's namespace."""

    netns: str
    device: int
    inode: int
    ifname: str
    mac: int
    addresses: tuple[Address, ...]


class OldPort(msgspec.Struct, frozen=True):
    """A port of the bridge; `inner` None: its other end is in no named namespace."""

    index: int
    name: str
    inner: InnerEnd | None = None


class OldRule(msgspec.Struct, frozen=True):
    """A rule of iptables: `program` as `iptables-nft`, `text` as `iptables-save` has it behind the chain's name."""

    program: str
    table: str
    chain: str
    text: str


class Remains(msgspec.Struct, frozen=True):
    """All that was found."""

    addresses: tuple[Address, ...]
    ports: tuple[OldPort, ...]
    rules: tuple[OldRule, ...]


class Removal(msgspec.Struct, frozen=True):
    """A line that `iptables-restore` carries out."""

    program: str
    table: str
    line: str


class Predecessor(Protocol):
    """The traces of beta9's networking on a node."""

    def observe(self, bridge: ObservedLink) -> Remains:
        """Read them; changes nothing."""

    def rename(self, index: int, name: str) -> None:
        """Give a host link another name. Idempotent."""

    def claim(self, bridge_index: int) -> None:
        """From now on the bridge is ours, and is recognised as such."""

    def remove(self, rules: Iterable[Removal]) -> None:
        """Take rules out, each table in one transaction. Raises a CellwallError where one is not there."""
