"""What surrounds a packet at a hook: interfaces, mark, conntrack entry, route type, and the state of meters.

Nothing here is computed from the packet: conntrack, routing and rate are the kernel's state, and whoever
asks for an evaluation says what they are. A fact that a rule reads and the context does not state is an
error, not a default, where a default could be mistaken for knowledge.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from cellwall.ruleset.types import TableFamily

HookName = Literal["prerouting", "input", "forward", "output", "postrouting"]
State = Literal["new", "established", "related"]
Direction = Literal["original", "reply"]


class FlowTuple(msgspec.Struct, frozen=True):
    """One direction of a conntrack entry. For ICMP, `source_port` is the id and `destination_port` is
    type * 256 + code, because that is what the kernel keeps in the same bytes."""

    family: Literal["ip", "ip6"]
    source: int
    destination: int
    protocol: int
    source_port: int = 0
    destination_port: int = 0

    def reversed(self) -> "FlowTuple":
        """The tuple of the answer where nothing is translated."""
        return FlowTuple(
            self.family,
            self.destination,
            self.source,
            self.protocol,
            self.destination_port,
            self.source_port,
        )


class Flow(msgspec.Struct, frozen=True):
    """A conntrack entry and what this packet is to it. `seconds`: until it is forgotten, if no other comes."""

    original: FlowTuple
    reply: FlowTuple
    state: State = "new"
    direction: Direction = "original"
    status: frozenset[str] = frozenset()
    mark: int = 0
    label: int = 0
    seconds: float = 120


class Context(msgspec.Struct, frozen=True):
    """A packet's surroundings at one hook.

    An interface that the hook does not have is "" and 0, which is what the kernel lets a rule compare. `ethernet`
    says whether the input interface is one (loopback is not: `ether saddr` never matches there). `flow` None is
    a packet that conntrack gave no entry, thus `ct state invalid`, or `untracked`. `over` names the dynamic sets
    whose bound is exceeded for this packet.
    """

    family: TableFamily
    hook: HookName
    iifname: str = ""
    oifname: str = ""
    iif: int = 0
    oif: int = 0
    ethernet: bool = True
    mark: int = 0
    flow: Flow | None = None
    untracked: bool = False
    fib_saddr_type: str | None = None
    fib_daddr_type: str | None = None
    over: Mapping[str, bool] = msgspec.field(default_factory=dict)
