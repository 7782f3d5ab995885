"""What a clause of the wall asks: conditions over a frame, a packet, its flow, the endpoint and the node.

None names a set, a chain's hook or a table of one mechanism, and one that differs by address family is written once:
the lowerings expand it, and raise Unsupported with its name where they have no expression for it.
"""

from typing import Literal

import msgspec

from cellwall.compile.usage import ExposureForm

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
    """The destination MAC: the gateway's, broadcast, the group of the gateway's IPv6 addresses, that to which multicast
    listener reports go, any group."""

    target: Literal["gateway", "broadcast", "gateway-solicited", "listener-reports", "group"]
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
    """An ICMPv6 packet of one of these types, by nft's names of them."""

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
    """The packet travels as the flow's first one did, or against it."""

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


class Connecting(Predicate, frozen=True):
    """A new TCP flow begins with this packet."""


class ProxiedPort(Predicate, frozen=True):
    """The destination is a port of the node's own that a proxy serves for an endpoint: of one address of the node
    ("bound"), or of all."""

    bound: bool


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


TenantFlows = Literal["source", "destination", "ended", "ended-clients"]
"""Flows of a tenant that it opened and that were opened to it, and those of each that have ended."""


class TenantFull(Predicate, frozen=True):
    """There are too many of these, as `NoteFull` found it to be just now."""

    flows: TenantFlows
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
