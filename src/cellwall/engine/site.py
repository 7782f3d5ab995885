"""One node as the engine sees it: settings, adapters, and the record of what `up` laid down.

Owns: the `Foundation` record (facts, uplink, what forms of exposure have rules, digests) and the question whether
it still holds. Decides nothing about packets.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import msgspec

from cellwall.compile.usage import Usage
from cellwall.engine.backend import Backend, BackendName, Laid
from cellwall.engine.contracts import Flows, Links, Namespaces, Node, PortHolds, Sysctls
from cellwall.engine.nftables.backend import NftablesBackend
from cellwall.engine.node.foreign_chains import Neighbours
from cellwall.model.endpoint import Endpoint
from cellwall.model.settings import Settings
from cellwall.model.versions import Blocks, first_version

if TYPE_CHECKING:
    from cellwall.engine.figures import Ledger, Meters
    from cellwall.engine.iptables.host import Host
    from cellwall.engine.nftables.contracts import Rules
    from cellwall.engine.ports.led import Proxies
    from cellwall.engine.record import Audience, Journal, Lock, Owners, TenantPolicies

Latched = Literal["no", "inwards", "both ways"]
"""What the bridge lets through where no rule is left: everything, what sandboxes send, nothing."""

_LATCHES: dict[Latched, tuple[str, ...]] = {
    "no": (
        "the kernel has no cls_bpf: nothing outside the rules latches the bridge, and whoever flushes all rules opens "
        "the node until `reconcile`",
    ),
    "inwards": (
        "no ebtables: what sandboxes send is not latched outside the rules, and whoever flushes all rules lets it out "
        "until `reconcile`",
    ),
    "both ways": (),
}

_UNFILTERED = "unfinished checksums are not filtered: a card may write two bytes of a packet behind every rule: {why}"


class Foundation(msgspec.Struct, frozen=True):
    """What `up` laid down, as recorded for this boot. `network_fields` are those of the network it was laid for.

    `fingerprint` of the node's addresses and routes and `settings` (the text of those in force) tell when it no longer
    holds; `program` is the version that wrote the rules; `rules` and `sets` are digests of the desired rules
    and set definitions, `shape` of the live ones. `overlaps`: networks that appeared beside ours, a line each.
    `unfiltered`: why checksums are not filtered, "" where they are. `laying`: the version that lays another wall, or
    died at it: `program` is "" then.
    """

    fingerprint: str
    settings: str
    bridge: str
    program: str
    uplink: str
    bridge_index: int
    mtu: int
    ipv6: bool
    usage: Usage
    rules: str
    sets: str
    shape: str
    bridge_netfilter: bool
    overlaps: tuple[str, ...] = ()
    network_fields: dict[str, int | str] = {}
    backend: BackendName = "nftables"
    details: str = ""
    latched: Latched = "no"
    unfiltered: str = ""
    laying: str = ""

    @property
    def gaps(self) -> tuple[str, ...]:
        """What this kernel cannot give the wall beside the rules, a line each."""
        unfiltered = (_UNFILTERED.format(why=self.unfiltered),) if self.unfiltered else ()
        return (*_LATCHES[self.latched], *unfiltered)

    def is_of(self, program: str) -> bool:
        """That version laid it, or somebody died at it."""
        return self.program in ("", program)

    def is_known_to(self, program: str) -> bool:
        """That version knows what stands, at every moment: it laid that, or is the one that lays another."""
        return program == (self.program or self.laying)

    @property
    def laid(self) -> Laid:
        """What a backend has to know of it."""
        return Laid(self.rules, self.sets, self.shape, self.usage, self.details)

    def with_laid(self, laid: Laid, backend: BackendName) -> "Foundation":
        """The record with other rules."""
        return msgspec.structs.replace(self, backend=backend, **msgspec.structs.asdict(laid))


@lru_cache(maxsize=2)
def _foundation_of(body: bytes) -> Foundation:
    """An operation asks for it three times, and it is the same for thousands of them."""
    return msgspec.json.decode(body, type=Foundation)


class InForce:
    """Which mechanism holds the wall: the record's word, kept by whoever reads or writes that. And who follows what
    becomes of endpoints, if anybody does. `compared`: all entries of endpoints were, since nobody else can write the
    wall, or there were none then."""

    __slots__ = ("audience", "compared", "name")

    def __init__(self, name: BackendName = "nftables") -> None:
        self.name: BackendName = name
        self.audience: Audience | None = None
        self.compared = False


class Site(msgspec.Struct, frozen=True):
    """The adapters of one node; `holds` opens what keeps reserved ports, once.
    `netns_directory` is where namespaces that cellwall makes are kept; `program` is the
    running version, `settings_text` what goes on record of the settings. `iptables` opens what that mechanism works
    with, once, when it is first asked, as `meters` does of the kernel's figures; `kept` what keeps policies over a
    boot. `ledger`: who keeps the figures of endpoints that go, if anybody does; `proxies`: who serves ports that are
    led from one address family to the other."""

    settings: Settings
    settings_text: str
    program: str
    links: Links
    rules: "Rules"
    iptables: Callable[[], "Host"]
    sysctls: Sysctls
    node: Node
    namespaces: Namespaces
    journal: "Journal"
    lock: "Lock"
    netns_directory: str
    owners: "Owners"
    in_force: InForce
    neighbours: Neighbours
    kept: "Callable[[], TenantPolicies]"
    holds: Callable[[], PortHolds]
    meters: "Callable[[], Meters]"
    ledger: "Ledger | None" = None
    proxies: "Proxies | None" = None

    @property
    def backend(self) -> Backend:
        """The mechanism that holds the wall."""
        return self.mechanism(self.in_force.name)

    def change(self, before: Sequence[Endpoint], after: Sequence[Endpoint]) -> None:
        """The backend's change of endpoints, and word of it to who follows: of what comes before its first packet can
        pass, of what goes after its last."""
        audience = self.in_force.audience
        if audience is None:
            return self.backend.change(before, after)
        if after:
            audience.change(before, after)
        try:
            self.backend.change(before, after)
        except BaseException:
            if after:
                audience.change(after, before)
            raise
        if not after:
            audience.change(before, after)
        return None

    def tell_all(self, attached: Sequence[Endpoint]) -> None:
        """Word to who follows of all endpoints that are, where they may have changed in another way."""
        if self.in_force.audience is not None:
            self.in_force.audience.fill(attached)

    @property
    def has_nothing_taken_out(self) -> bool:
        """Whether nobody can have taken an entry of an endpoint out of the wall: nobody else can write it, nor could
        since all were compared."""
        return self.in_force.compared and self.backend.is_owned()

    @property
    def flows(self) -> Flows:
        """What connection tracking remembers."""
        return self.rules

    def next_versions(self, count: int) -> list[int]:
        """The first versions of blocks that nobody has, in the caller's transaction."""
        body = self.journal.get("versions")
        assert body is not None
        blocks, given = msgspec.json.decode(body, type=Blocks), list[int]()
        while len(given) < count:
            if blocks.next == blocks.end or blocks.mark != self.settings.mark:
                from cellwall.engine.policies.versions import free_blocks  # once in many thousand attaches

                blocks = free_blocks(self, blocks)
            given.append(first_version(blocks.next, self.settings.mark))
            blocks = msgspec.structs.replace(blocks, next=blocks.next + 1)
        self.journal.put("versions", msgspec.json.encode(blocks))
        return given

    def mechanism(self, name: BackendName) -> Backend:
        """One of the mechanisms."""
        if name == "nftables":
            return NftablesBackend(self.rules)
        from cellwall.engine.iptables.backend import IptablesBackend

        return IptablesBackend(self.iptables())

    def foundation(self) -> Foundation | None:
        """The record of the last `up` of this boot, or None."""
        body = self.journal.get("foundation")
        return None if body is None else _foundation_of(body)

    def current(self) -> Foundation | None:
        """The record, if it still holds for this node, this configuration and this program."""
        found = self.foundation()
        if found is None or found.settings != self.settings_text or found.program != self.program:
            return None
        if self.link_mtu(found.uplink, found) != found.mtu:
            return None
        return found if found.fingerprint == self.node.fingerprint() else None

    def link_mtu(self, uplink: str, before: Foundation | None) -> int:
        """The MTU that every link should have now."""
        return self.settings.network.link_mtu(self.node.mtu(uplink), before.mtu if before else 0)

    def has_network_of(self, found: Foundation) -> bool:
        """Endpoints carry the network in their addresses and names: it is still the one of this foundation."""
        return self.settings.network.is_as_recorded(found.network_fields)
