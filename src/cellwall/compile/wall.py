"""The wall: what is enforced, in an order, without saying how.

A wall is stages of clauses; a clause is predicates (`cellwall.compile.predicates`) and what then happens. Nothing here
names a set, a chain's hook or a table of one mechanism: the lowerings do, and one that has no form of an outcome raises
Unsupported with its name.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal

import msgspec

from cellwall.compile.predicates import Predicate, TenantFlows
from cellwall.compile.usage import PolicyUsage
from cellwall.model.settings import Audit

Layer = Literal["PIN", "RAW", "PRE", "IN", "OUT", "FWD", "NAT", "LOG"]
"""The layers of the threat model that rules belong to; PORT, FDB, NB and SYS are not rules."""


# ---------------------------------------------------------------- outcomes


class Outcome(msgspec.Struct, frozen=True):
    """What a clause does."""


class Accept(Outcome, frozen=True):
    """Final for this stage's hook."""


class Vouch(Outcome, frozen=True):
    """Accept, and let later stages know that the frame was judged as a frame: that the pins held, or that a bridge
    which is not ours forwards it."""


class Drop(Outcome, frozen=True):
    """Silently: for what only an attacker sends."""


class Reject(Outcome, frozen=True):
    """Drop and tell the sender at once: a tenant must fail fast, not hang."""


class Continue(Outcome, frozen=True):
    """Go on in another stage, for good: what that one leaves undecided is decided by nobody after it."""

    stage: str


class Observe(Continue, frozen=True):
    """The same, and count what a policy would deny that only watches."""


class Count(Outcome, frozen=True):
    """Count what is only watched; the next clause goes on."""


class Distrust(Outcome, frozen=True):
    """Take away the note that the frame was judged, whoever left it there; the next clause goes on."""


class Attest(Outcome, frozen=True):
    """Note that the rules have the packet before them, for what stands outside the rules and lets nothing without the
    note into a sandbox: where the rules are gone, nobody writes it. The next clause goes on."""


Forgotten = Literal["tcp", "client-tcp", "client-udp"]
"""A flow that is soon forgotten: of TCP, by whoever begins it, and what a client begins. UDP that a sandbox begins is
not among them: nothing tells its end."""


class ForgetSoon(Outcome, frozen=True):
    """A new flow will be forgotten within seconds of its end, and one that a client begins within `HALF_OPEN` seconds
    if nothing comes of it; the next clause goes on. What bounds flows counts open ones only
    (net/netfilter/nf_conncount.c, already_closed): closed ones must not pile up beside them, and half-open ones, which
    anybody outside begins under any address, must not fill the bound."""

    flow: Forgotten = "tcp"


TIME_WAIT, CLOSE = 5, 2
"""Seconds of ForgetSoon: long enough for the last segments in flight. The kernel's 120 of TIME_WAIT let one sandbox
fill a table of 262,144 flows in 32 s. Not shorter: what is acknowledged behind the second FIN is TIME_WAIT already, and
a reset that is not exact is answered (RFC 5961), as that of an open connection."""


HALF_OPEN = 10
"""Seconds of a client's flow that it has not completed, and of UDP that nobody has answered. The kernel's 120 of a SYN
and 60 of one that is answered let 17 forged SYNs a second hold all 1,024 places of a published port. Not shorter: the
third try of a TCP comes 7 seconds after its first, and a server that takes that long over a datagram has its answer
told from a flow of its own."""


class Unprioritize(Outcome, frozen=True):
    """The packet waits in the node's queues as everybody's do; the next clause goes on. The kernel takes its place
    there from the TOS that its sender wrote (net/ipv4/ip_forward.c, rt_tos2priority), which leaves as it was."""


class FitSegments(Outcome, frozen=True):
    """Lower the largest segment that a handshake names to what fits the routes to both ends; never raise it, and the
    next clause goes on. Without it a transfer hangs where a path is narrower than the links at its ends and the ICMP
    errors that say so are lost."""


class Stamp(Outcome, frozen=True):
    """Note the policy version of the endpoint on the flow and accept; no endpoint, no acceptance. `judged`: not before
    that stage has judged once more what may have changed until it was noted, where packets meet changes half-way."""

    endpoint: Literal["source", "destination", "node-side"]
    judged: str = ""


class Attribute(Outcome, frozen=True):
    """Note on the flow whose it is: the number of the endpoint's tenant, of who opened it or whom it was led to; the
    next clause goes on. It stays with the flow, whatever becomes of its stamp."""

    endpoint: Literal["source", "destination"]


class NoteFull(Outcome, frozen=True):
    """Note for a second that the flow's tenant has as many flows as it may; the next clause goes on. To count them is a
    walk over all that it has, which a flow that is refused should not cost the node each time. Those that have ended
    are noted until they would be gone, if nobody kept them."""

    flows: TenantFlows


class NoteBegunAgain(Outcome, frozen=True):
    """Note until a flow that has ended would be gone that a SYN came in it, and what its answer is from and to; the
    next clause goes on. Connection tracking ignores such a SYN, and takes the flow for open with its answer
    (net/netfilter/nf_conntrack_proto_tcp.c, TCP_CONNTRACK_IGNORE), which no bound would count: no flow begins there.
    `unnoted`: what is said of those for which there is no room."""

    unnoted: str


class Unstamp(Outcome, frozen=True):
    """Take the note off the flow; the next clause goes on."""


class Publish(Outcome, frozen=True):
    """Rewrite the destination by the port bindings."""

    form: Literal["address", "any", "range"]


class Masquerade(Outcome, frozen=True):
    """Rewrite the source to the node's; (0, 0): whatever the protocol has."""

    ports: tuple[int, int] = (0, 0)


# ---------------------------------------------------------------- the whole


Subject = Literal["port", "sender", "receiver", "either"]
"""Whom a denial is reported of: whoever is behind the interface that it came by, the endpoint of the source or of the
destination; `either`: of the source if it came from the bridge, else of the destination."""


class Clause(msgspec.Struct, frozen=True):
    """`counted` clauses keep a packet counter: what is denied, or would be. `subject`: of whom it is reported, None: of
    nobody."""

    when: tuple[Predicate, ...]
    then: Outcome
    why: str = ""
    layer: Layer | None = None
    subject: Subject | None = None

    @property
    def counted(self) -> bool:
        return isinstance(self.then, Drop | Reject | Observe | Count)


class Stage(msgspec.Struct, frozen=True):
    """Clauses that are asked in order, until one of them decides."""

    name: str
    clauses: tuple[Clause, ...]


class Scene(msgspec.Struct, frozen=True):
    """The names and addresses that predicates speak of."""

    bridge: str
    veth_prefix: str
    uplink: str
    gateway_mac: int
    gateway4: IPv4Address
    gateway6: IPv6Address
    gateway_link_local: IPv6Address
    subnet4: IPv4Network
    subnet6: IPv6Network
    mark: int


class OpenedService(msgspec.Struct, frozen=True, order=True):
    """Address, protocol number and port of an exception or a service, as ints (`version` 4 or 6)."""

    version: int
    address: int
    protocol: int
    port: int


class Wall(msgspec.Struct, frozen=True):
    """Stages in the order in which a packet meets them, and the named tables that do not change per endpoint.
    `reports`: how denials with a subject are told, None: they are counted alone."""

    scene: Scene
    stages: tuple[Stage, ...]
    floor4: tuple[IPv4Network, ...]
    floor6: tuple[IPv6Network, ...]
    strangers4: tuple[IPv4Network, ...] = ()
    strangers6: tuple[IPv6Network, ...] = ()
    exceptions: tuple[OpenedService, ...] = ()
    services: tuple[OpenedService, ...] = ()
    policies: PolicyUsage = PolicyUsage()
    reports: Audit | None = None

    def stage(self, name: str) -> Stage:
        """The stage of that name."""
        return next(stage for stage in self.stages if stage.name == name)
