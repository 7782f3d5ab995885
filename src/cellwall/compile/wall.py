"""The wall: what is enforced, in an order, without saying how.

A wall is stages of clauses; a clause is predicates over a frame, a packet, its flow, the endpoint and the node,
and what then happens. Nothing here names a set, a chain's hook or a table of one mechanism: the lowerings do, and
a lowering that has no expression for a predicate raises Unsupported with the predicate's name.

Predicates that differ by address family are written once; a lowering expands them.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal

import msgspec

from cellwall.compile.usage import ExposureForm, PolicyUsage
from cellwall.model.settings import Audit

Layer = Literal["PIN", "RAW", "PRE", "IN", "OUT", "FWD", "NAT", "LOG"]
"""The layers of the threat model that rules belong to; PORT, FDB, NB and SYS are not rules."""

Side = Literal["port", "bridge", "uplink", "loopback"]


class Predicate(msgspec.Struct, frozen=True):
    """A condition. `negate` turns it around where a subclass has it."""


# ---------------------------------------------------------------- where it travels


class Via(Predicate, frozen=True):
    """It came in by, or leaves by: any host-side link of ours ("port"), the bridge, the uplink, loopback."""

    direction: Literal["in", "out"]
    side: Side
    negate: bool = False


class KnownPort(Predicate, frozen=True):
    """The output bridge port is that of an attached endpoint."""

    negate: bool = False


# ---------------------------------------------------------------- frames


class FrameType(Predicate, frozen=True):
    """The type field of the untagged frame."""

    type: Literal["ipv4", "ipv6", "arp"]


class FrameTo(Predicate, frozen=True):
    """The destination MAC: the gateway's, broadcast, the group of the gateway's IPv6 addresses, any group."""

    target: Literal["gateway", "broadcast", "gateway-solicited", "group"]
    negate: bool = False


class Pinned(Predicate, frozen=True):
    """Bridge port, source MAC and claimed address are together those of an endpoint. For ARP the claim is made
    twice: by the frame's source and by the ARP sender."""

    claim: Literal["ipv4", "ipv6", "arp"]
    negate: bool = False


class PlainHeader(Predicate, frozen=True):
    """An IPv4 header without options."""


class Fragment(Predicate, frozen=True):
    """An IPv4 packet, or an IPv6 packet by its first extension header, that is one part of several."""

    version: Literal[4, 6]


class NextHeader(Predicate, frozen=True):
    """The protocol that directly follows the fixed IPv6 header; `fragment`: that the fragment header names."""

    protocols: tuple[str, ...]
    fragment: bool = False


class Icmp6Type(Predicate, frozen=True):
    types: tuple[str, ...]


class OnLinkHopLimit(Predicate, frozen=True):
    """Hop limit 255: the packet was not forwarded (RFC 4861 7.1)."""

    negate: bool = False


class SolicitsGateway(Predicate, frozen=True):
    """A neighbour solicitation whose target is an address of the gateway."""


class ArpAsksForGateway(Predicate, frozen=True):
    """A well-formed Ethernet/IPv4 ARP request for the gateway's address."""


class OverRate(Predicate, frozen=True):
    """More than `rate` a second (bucket `burst`) of `what` from this endpoint; or to it, of flows of clients and of
    packets that it got. `all-fragments`: from all endpoints together."""

    what: Literal["arp", "nd", "fragments", "all-fragments", "ping", "input-ping", "flows", "clients", "sent", "got"]
    rate: int
    burst: int


class TenantOverRate(Predicate, frozen=True):
    """More than `rate` a second (bucket `burst`) of `what` from all endpoints of the flow's tenant together; or to
    them, likewise. `ended`: packets of flows that they opened, either way; `ended-clients`: of those to them."""

    what: Literal["flows", "clients", "sent", "got", "ended", "ended-clients"]
    rate: int
    burst: int


class OverBytes(Predicate, frozen=True):
    """More than `rate` bytes a second (bucket: a second's worth and `burst`) of what this endpoint sent, or got."""

    way: Literal["sent", "got"]
    rate: int
    burst: int


class TenantOverBytes(Predicate, frozen=True):
    """The same of all endpoints of the flow's tenant together."""

    way: Literal["sent", "got"]
    rate: int
    burst: int


# ---------------------------------------------------------------- packets and flows


class Vouched(Predicate, frozen=True):
    """The frame of this packet passed the pins, so its source address is its endpoint's."""

    negate: bool = False


class ExtensionHeader(Predicate, frozen=True):
    """An IPv6 hop-by-hop, destination-options or routing header is present."""


class ToSubnet(Predicate, frozen=True):
    """The destination is inside a subnet of the network."""


class FromSubnet(Predicate, frozen=True):
    """The source is inside a subnet of the network."""


class ToLoopback(Predicate, frozen=True):
    """The destination is in 127/8 or ::1."""

    negate: bool = False


class IpVersion(Predicate, frozen=True):
    """The packet is IPv4 or IPv6."""

    version: Literal[4, 6]


class Flow(Predicate, frozen=True):
    """The packet's conntrack state is one of these."""

    states: tuple[Literal["new", "established", "related", "invalid", "untracked"], ...]


class FlowDirection(Predicate, frozen=True):
    direction: Literal["original", "reply"]


class LiveFlow(Predicate, frozen=True):
    """The flow was decided by a policy version that is in force."""

    negate: bool = False


class OrphanFlow(Predicate, frozen=True):
    """The flow was decided by a policy version that never belonged to the present holder of the address."""

    holder: Literal["source", "destination", "node-side"]


class OwnError(Predicate, frozen=True):
    """The sender of an ICMP error is the endpoint whose flow the error is about."""


class Transport(Predicate, frozen=True):
    """The protocol is one of tcp, udp, icmp (of the packet's family)."""

    protocols: tuple[Literal["tcp", "udp", "icmp"], ...]
    negate: bool = False


class LocalDestination(Predicate, frozen=True):
    """The routing table's type of the destination is local: an address of the node."""


class NotUnicast(Predicate, frozen=True):
    """The routing table's type of the destination is anything but unicast: local, broadcast, multicast, none."""


class FloorHit(Predicate, frozen=True):
    """The flow's destination is denied to every tenant and no exception opens it. `end`: as the tenant wrote it, or
    where the translation of another table leads it; what an exception opens may be led anywhere."""

    end: Literal["original", "translated"]


class GatewayPing(Predicate, frozen=True):
    """An echo request to an address of the gateway."""


class NeighbourSolicitation(Predicate, frozen=True):
    """Untracked neighbour discovery that the pins let through."""


class NodeService(Predicate, frozen=True):
    """The destination is a service of the node that the operator opened to tenants."""


class Translated(Predicate, frozen=True):
    """The flow's destination was rewritten by a port binding."""

    negate: bool = False


class Exposed(Predicate, frozen=True):
    """The host port that the flow came by is published for this container, to this client, by a binding of this
    form."""

    form: ExposureForm


class NotUnicastSource(Predicate, frozen=True):
    """The packet claims to come from an address that the routing table has as anything but unicast: the node's own,
    a broadcast or anycast address of its networks."""


class Stranger(Predicate, frozen=True):
    """The flow's first packet claims to come from an address that is nobody's to ask from (`Wall.strangers4`)."""


class AmidConnection(Predicate, frozen=True):
    """A TCP segment that does not open a connection, of a flow that connection tracking takes up with it (what it
    forgot and a peer goes on with: nf_conntrack_tcp_loose)."""


class OpensBackwards(Predicate, frozen=True):
    """A SYN without ACK against the direction of its flow: TCP's simultaneous open (RFC 9293, 3.5)."""


class Handshake(Predicate, frozen=True):
    """A TCP segment by which an end says what it takes: SYN or SYN with ACK, in either direction of the flow."""


class OverConnections(Predicate, frozen=True):
    """The endpoint opened more than `limit` concurrent flows ("source"), or as many were opened to it."""

    limit: int
    endpoint: Literal["source", "destination"]


class TenantOverConnections(Predicate, frozen=True):
    """The endpoints of the flow's tenant opened more than `limit` concurrent flows together, or as many were opened to
    them."""

    limit: int
    endpoint: Literal["source", "destination"]


Crowd = Literal["source", "destination", "ended", "ended-clients"]
"""Flows of a tenant that it opened and that were opened to it, and those of each that have ended."""


class TenantFull(Predicate, frozen=True):
    """There are too many of these, as `NoteFull` found it to be just now."""

    crowd: Crowd
    negate: bool = False


class EndedFlow(Predicate, frozen=True):
    """The TCP flow has ended, and this packet keeps it in the connection table for as long as `ForgetSoon` says: what
    is told there of a flow is not its state, but when it is forgotten, and no open one is that soon."""


class BeginsAgain(Predicate, frozen=True):
    """A SYN of who opened the flow, in a flow of a tenant's that is known already."""


class BegunAgain(Predicate, frozen=True):
    """The answer to a SYN that `NoteBegunAgain` noted, before connection tracking has seen it."""


class FlowOverRate(Predicate, frozen=True):
    """More than `rate` packets a second (bucket `burst`) in this flow, of either direction."""

    rate: int
    burst: int


class FlowFromSubnet(Predicate, frozen=True):
    """The flow's first packet came from an address of the network."""


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


class ForgetSoon(Outcome, frozen=True):
    """A new TCP flow will be forgotten within seconds of its end; the next clause goes on. What bounds flows counts
    open ones only (net/netfilter/nf_conncount.c, already_closed): closed ones must not pile up beside them."""


TIME_WAIT, CLOSE = 5, 2
"""Seconds of ForgetSoon: long enough for the last segments in flight. The kernel's 120 of TIME_WAIT let one sandbox
fill a table of 262,144 flows in 32 s. Not shorter: what is acknowledged behind the second FIN is TIME_WAIT already, and
a reset that is not exact is answered (RFC 5961), as that of an open connection."""


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

    crowd: Crowd


class NoteBegunAgain(Outcome, frozen=True):
    """Note until a flow that has ended would be gone that a SYN came in it, and what its answer is from and to; the
    next clause goes on. Connection tracking ignores such a SYN, and takes the flow for open with its answer
    (net/netfilter/nf_conntrack_proto_tcp.c, TCP_CONNTRACK_IGNORE), which no bound would count: no flow begins there."""


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
