"""What the doctor reads off a host: values, no opinions."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from cellwall.lower.xt.features import XtFeatures

Presence = Literal["loaded", "available", "missing", "unknown"]
Act = Literal["takes out of tracking", "diverts", "translates", "offloads", "marks the flow"]


class Route(msgspec.Struct, frozen=True):
    """One route of the main table; `learned` from a router advertisement."""

    interface: str
    prefix: str
    learned: bool = False


class Listener(msgspec.Struct, frozen=True):
    """A socket that waits for others: a listening TCP socket or an unconnected UDP one."""

    protocol: str
    address: str
    port: int


class Link(msgspec.Struct, frozen=True):
    """An interface. `bridge`: the name of the one it is a port of; `ours`: it has the alias of what cellwall makes."""

    name: str
    mtu: int
    kind: str = ""
    bridge: str = ""
    ours: bool = False


class InterfaceAddress(msgspec.Struct, frozen=True):
    """An address of the node in CIDR form."""

    interface: str
    address: str


class Rule(msgspec.Struct, frozen=True):
    """One rule of another program, and what it may do.

    `enters` and `leaves` are the interfaces it names, `!` in front of one that it leaves out; none: any. `leads_to` are
    chains; `writes` and `reads` are bits of the packet mark.
    """

    text: str
    enters: tuple[str, ...] = ()
    leaves: tuple[str, ...] = ()
    verdict: Literal["", "accept", "drop"] = ""
    always: bool = False
    leads_to: tuple[str, ...] = ()
    acts: tuple[Act, ...] = ()
    writes: int = 0
    reads: int = 0


class Chain(msgspec.Struct, frozen=True):
    """A chain of another program. Without a `hook` it is reached from others; `devices` are those of an ingress or
    egress hook."""

    program: Literal["nftables", "iptables-legacy"]
    family: str
    table: str
    name: str
    rules: tuple[Rule, ...] = ()
    hook: str = ""
    kind: str = "filter"
    priority: int = 0
    drops: bool = False
    devices: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """How an operator finds it."""
        prefix = "" if self.program == "nftables" else f"{self.program} "
        return f"{prefix}{self.family} {self.table} {self.name}"


class FlowTable(msgspec.Struct, frozen=True):
    """Where another program sends open flows past all rules."""

    family: str
    table: str
    name: str
    devices: tuple[str, ...]


class MarkRoute(msgspec.Struct, frozen=True):
    """A routing rule that asks for bits of the packet mark."""

    value: int
    mask: int
    text: str


class IptablesForm(msgspec.Struct, frozen=True):
    """In which variant iptables would hold the wall, and what its rules could use there."""

    variant: str
    features: XtFeatures


class Observation(msgspec.Struct, frozen=True):
    """One look at a host.

    `missing_capabilities` of those that the wall needs; `nft` the version of the program, None where there is none;
    `features` maps a feature to "" where it works and to what the kernel said where it does not, and is empty where
    nothing could be tried; `modules` are parts of the kernel by name. `unfiltered` is why it takes no filter of
    unfinished checksums, `unlatched` why no latch, "" where it does. `chains` and `flow_tables` are other programs'.
    `refusals`: what keeps each mechanism from holding the wall, "" where nothing does; `iptables` its form here.
    `watched`: `cellwall watch` runs. `owners`: the netlink port of who owns each of our tables in nftables, 0 where
    nobody does. `daemon`: one is on record as the node's only writer; `silence`: why it does not answer, "" where it
    does. `log`: why nobody else can listen to the log of denials. `beta9`: how many containers `up` would take over
    with a bridge of beta9's, None where the bridge is none; `beta9_closed`: why it would leave which ports closed.
    """

    kernel: tuple[int, int]
    missing_capabilities: tuple[str, ...] = ()
    nft: tuple[int, ...] | None = None
    features: Mapping[str, str] = {}
    modules: Mapping[str, Presence] = {}
    unfiltered: str = ""
    unlatched: str = ""
    ipv6: bool = True
    sysctls: Mapping[str, str] = {}
    interfaces: frozenset[str] = frozenset()
    links: tuple[Link, ...] = ()
    addresses: tuple[InterfaceAddress, ...] = ()
    routes: tuple[Route, ...] = ()
    listeners: tuple[Listener, ...] = ()
    chains: tuple[Chain, ...] = ()
    flow_tables: tuple[FlowTable, ...] = ()
    mark_routes: tuple[MarkRoute, ...] = ()
    legacy_tables: tuple[str, ...] = ()
    watched: bool = True
    owners: Mapping[str, int] = {}
    daemon: bool = False
    silence: str = ""
    log: str = ""
    beta9: int | None = None
    beta9_closed: tuple[str, ...] = ()
    refusals: Mapping[str, str] = {}
    iptables: IptablesForm | None = None

    def default_interface(self, version: int) -> str:
        """The interface of the default route of a family, or ""."""
        wanted = "0.0.0.0/0" if version == 4 else "::/0"
        return next((route.interface for route in self.routes if route.prefix == wanted), "")

    def link(self, name: str) -> Link | None:
        """One interface by name."""
        return next((link for link in self.links if link.name == name), None)
