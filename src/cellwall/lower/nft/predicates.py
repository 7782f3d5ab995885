"""Each predicate as nft matches. A predicate that is not here raises Unsupported: nothing is ever left out.

`_FORMS` says of each predicate how it is lowered and in which address families it has a form of its own. What has one
form for both families is not told the family, so that no predicate can mean IPv4 alone by oversight.
"""

from collections.abc import Callable
from typing import TypeVar

import msgspec

from cellwall.compile import wall as w
from cellwall.errors import Unsupported
from cellwall.lower.nft.families import IPV4, IPV6, Family
from cellwall.lower.nft.sets import PROTOCOLS, by_protocol, exposed_set
from cellwall.model.addresses import PROTOCOL_NUMBERS, solicited_node_mac
from cellwall.model.floor import GLOBAL6
from cellwall.ruleset.types import (
    Compare,
    ConnectionsOver,
    Field,
    FieldName,
    Lookup,
    Meter,
    RateOver,
    Scalar,
    Statement,
)

_ETHER_TYPES = {"ipv4": 0x0800, "ipv6": 0x86DD, "arp": 0x0806}
_BROADCAST = 0xFFFFFFFFFFFF
_GROUP_BIT = 1 << 40
_ICMP6_TYPES = {
    "destination-unreachable": 1,
    "packet-too-big": 2,
    "time-exceeded": 3,
    "parameter-problem": 4,
    "echo-request": 128,
    "echo-reply": 129,
    "nd-neighbor-solicit": 135,
}
_ICMP_ECHO_REQUEST = 8
_FIN, _SYN, _RST, _ACK = 0x01, 0x02, 0x04, 0x10
_LOOPBACK4 = (127 << 24, 0xFF000000)

_NEITHER: frozenset[int] = frozenset()
_BOTH = frozenset({IPV4.version, IPV6.version})

Lowered = tuple[Statement, ...]
P = TypeVar("P", bound=w.Predicate)


class _Form(msgspec.Struct, frozen=True):
    """How a predicate is lowered, and the families it has separate forms for."""

    lower: Callable[..., tuple[Lowered, ...]]
    families: Callable[..., frozenset[int]]


def lower_predicate(predicate: w.Predicate, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    """The alternatives, each a conjunction of matches, that together mean `predicate` in one family."""
    return _form_of(predicate).lower(predicate, scene, family)


def families_of(predicate: w.Predicate) -> frozenset[int]:
    """The address families that a predicate has separate forms for; empty: one form for both."""
    return _form_of(predicate).families(predicate)


def _form_of(predicate: w.Predicate) -> _Form:
    form = _FORMS.get(type(predicate))
    if form is None:
        name = type(predicate).__name__
        raise Unsupported(f"no nft form of {name}", predicate=name, backend="nftables")
    return form


def match(name: FieldName, *values: Scalar, negate: bool = False, mask: int | None = None) -> Compare:
    """`name == values`, the usual case of a comparison."""
    return Compare(Field(name, mask), values, negate)


def fields(*names: FieldName) -> tuple[Field, ...]:
    """A concatenation of unmasked fields."""
    return tuple(Field(name) for name in names)


def interface(scene: w.Scene, side: w.Side) -> str:
    """The name, or name prefix with `*`, of one side."""
    return {
        "port": scene.veth_prefix + "*",
        "bridge": scene.bridge,
        "uplink": scene.uplink,
        "loopback": "lo",
    }[side]


def _via(p: w.Via, scene: w.Scene) -> tuple[Lowered, ...]:
    name: FieldName = "iifname" if p.direction == "in" else "oifname"
    return ((match(name, interface(scene, p.side), negate=p.negate),),)


def _known_port(p: w.KnownPort, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((Lookup(fields("oif"), "ports", p.negate),),)


def _frame_type(p: w.FrameType, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("ether type", _ETHER_TYPES[p.type]),),)


def _frame_to(p: w.FrameTo, scene: w.Scene) -> tuple[Lowered, ...]:
    if p.target == "group":
        return ((match("ether daddr", 0 if p.negate else _GROUP_BIT, mask=_GROUP_BIT),),)
    targets: dict[str, tuple[int, ...]] = {
        "gateway": (scene.gateway_mac,),
        "broadcast": (_BROADCAST,),
        "gateway-solicited": tuple(
            sorted({solicited_node_mac(scene.gateway6), solicited_node_mac(scene.gateway_link_local)})
        ),
    }
    return ((match("ether daddr", *targets[p.target], negate=p.negate),),)


def _pinned(p: w.Pinned, scene: w.Scene) -> tuple[Lowered, ...]:
    if p.claim == "arp":
        if p.negate:
            raise Unsupported("a negated ARP claim is two statements", predicate="Pinned", backend="nftables")
        by_frame = Lookup(fields("iif", "ether saddr", "arp saddr ip"), "pin4")
        by_sender = Lookup(fields("iif", "arp saddr ether", "arp saddr ip"), "pin4")
        return ((by_frame, by_sender),)
    own = IPV4 if p.claim == "ipv4" else IPV6
    return ((Lookup(fields("iif", "ether saddr", own.source), "pin" + own.suffix, p.negate),),)


def _plain_header(p: w.PlainHeader, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("ip hdrlength", 5),),)


def _next_header(p: w.NextHeader, scene: w.Scene) -> tuple[Lowered, ...]:
    numbers = [PROTOCOL_NUMBERS[name] for name in p.protocols]
    if p.fragment:
        return tuple((match("ip6 nexthdr", 44), match("@nh,320,8", number)) for number in numbers)
    return ((match("ip6 nexthdr", *numbers),),)


def _icmp6_type(p: w.Icmp6Type, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("icmpv6 type", *(_ICMP6_TYPES[name] for name in p.types)),),)


def _on_link(p: w.OnLinkHopLimit, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("ip6 hoplimit", 255, negate=p.negate),),)


def _solicits(p: w.SolicitsGateway, scene: w.Scene) -> tuple[Lowered, ...]:
    solicitation = match("icmpv6 type", _ICMP6_TYPES["nd-neighbor-solicit"])
    targets = (int(scene.gateway6), int(scene.gateway_link_local))
    return tuple((solicitation, match("@nh,384,128", target)) for target in targets)


def _arp_asks(p: w.ArpAsksForGateway, scene: w.Scene) -> tuple[Lowered, ...]:
    return (
        (
            match("arp htype", 1),
            match("arp ptype", 0x0800),
            match("arp hlen", 6),
            match("arp plen", 4),
            match("arp operation", 1),
            match("arp daddr ip", int(scene.gateway4)),
        ),
    )


def _over_rate(p: w.OverRate, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    bound = RateOver(p.rate, p.burst)
    if p.what == "ping":
        return ((Meter(fields(family.source), "pings" + family.suffix, bound),),)
    return ((Meter(fields("iif"), "arps" if p.what == "arp" else "solicitations", bound),),)


def _families_of_rate(p: w.OverRate) -> frozenset[int]:
    return _BOTH if p.what == "ping" else _NEITHER


def _vouched(p: w.Vouched, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("meta mark", 0 if p.negate else scene.mark, mask=scene.mark),),)


def _extension(p: w.ExtensionHeader, scene: w.Scene) -> tuple[Lowered, ...]:
    headers: tuple[FieldName, ...] = ("exthdr hbh", "exthdr dst", "exthdr rt")
    return tuple((match("meta nfproto", "ipv6"), match(name, 1)) for name in headers)


def _to_subnet(p: w.ToSubnet, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    return _in_subnet(family.destination, scene, family)


def _from_subnet(p: w.FromSubnet, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    return _in_subnet(family.source, scene, family)


def _flow_from_subnet(p: w.FlowFromSubnet, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    return _in_subnet(family.original_source, scene, family)


def _in_subnet(field: FieldName, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    network, mask = family.prefix(scene.subnet4 if family.version == 4 else scene.subnet6)
    return ((match(field, network, mask=mask),),)


def _to_loopback(p: w.ToLoopback, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    if family.version == 4:
        return ((match("ip daddr", _LOOPBACK4[0], mask=_LOOPBACK4[1], negate=p.negate),),)
    return ((match("ip6 daddr", 1, negate=p.negate),),)


def _ip_version(p: w.IpVersion, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("meta nfproto", "ipv4" if p.version == 4 else "ipv6"),),)


def _flow(p: w.Flow, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("ct state", *p.states),),)


def _flow_direction(p: w.FlowDirection, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("ct direction", p.direction),),)


def _live(p: w.LiveFlow, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((Lookup(fields("ct mark"), "live", p.negate),),)


def _orphan(p: w.OrphanFlow, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    holders: dict[str, FieldName] = {
        "source": family.original_source,
        "destination": family.reply_source,
        "node-side": family.destination,
    }
    kin = Lookup(fields("ct mark", holders[p.holder]), "kin" + family.suffix, negate=True)
    return ((match("meta nfproto", family.nfproto), match("ct mark", 0, negate=True), kin),)


def _own_error(p: w.OwnError, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    return ((Lookup(fields("ct mark", family.source), "kin" + family.suffix),),)


def _transport(p: w.Transport, scene: w.Scene) -> tuple[Lowered, ...]:
    numbers = {PROTOCOL_NUMBERS[name] for name in p.protocols}
    if "icmp" in p.protocols:
        numbers.add(PROTOCOL_NUMBERS["icmpv6"])
    return ((match("meta l4proto", *sorted(numbers), negate=p.negate),),)


def _local(p: w.LocalDestination, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("fib daddr type", "local"),),)


def _not_unicast(p: w.NotUnicast, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("fib daddr type", "unicast", negate=True),),)


def _floor(p: w.FloorHit, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    """Over the flow's tuples: replies of an exposed port to a client in a private network are no egress. Allowing
    before denying needs no rule of its own where the exception is part of each denial."""
    original = fields(family.original_destination, "ct original protocol", "ct original proto-dst")
    translated = fields(family.reply_source, "ct reply protocol", "ct reply proto-src")
    ends = (original,) if p.end == "original" else (translated, original)
    opened = tuple(Lookup(end, "opened" + family.suffix, negate=True) for end in ends)
    target = ends[0][0]
    denied: tuple[Lowered, ...] = ((Lookup((target,), "floor" + family.suffix), *opened),)
    if family.version == 6:
        network, mask = family.prefix(GLOBAL6)
        denied = ((match(target.name, network, mask=mask, negate=True), *opened), *denied)
    return denied


def _gateway_ping(p: w.GatewayPing, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    if family.version == 4:
        return ((match("ip daddr", int(scene.gateway4)), match("icmp type", _ICMP_ECHO_REQUEST)),)
    gateways = (int(scene.gateway6), int(scene.gateway_link_local))
    return ((match("ip6 daddr", *gateways), match("icmpv6 type", _ICMP6_TYPES["echo-request"])),)


def _solicitation(p: w.NeighbourSolicitation, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("icmpv6 type", _ICMP6_TYPES["nd-neighbor-solicit"]), match("ip6 hoplimit", 255)),)


def _node_service(p: w.NodeService, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    return ((Lookup(fields(family.destination, "meta l4proto", "th dport"), "services" + family.suffix),),)


def _translated(p: w.Translated, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("ct status", "dnat", negate=p.negate),),)


def _exposed(p: w.Exposed, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    # By where the flow came by and by where it was led: several bindings may lead to one container port, a host port
    # may be published anew for another, and none must lend another its clients or keep the flows of a withdrawn one.
    key = fields("ct reply proto-src", "ct original proto-dst")
    if p.form.bound or p.form.kind in ("range", "source-range"):
        key = (*key, Field(family.original_destination))
    if p.form.kind == "source":
        key = (*key, Field(family.original_source, family.mask(p.form.prefixlen)))
    elif p.form.kind == "source-range":
        key = (*key, Field(family.original_source))
    address, protocol = fields(family.reply_source, "ct reply protocol")
    if not by_protocol(p.form):
        return ((Lookup((address, protocol, *key), exposed_set(p.form, family, "tcp")),),)
    return tuple(
        (match("ct reply protocol", PROTOCOL_NUMBERS[name]), Lookup((address, *key), exposed_set(p.form, family, name)))
        for name in PROTOCOLS
    )


def _families_of_exposure(p: w.Exposed) -> frozenset[int]:
    return frozenset({p.form.family}) if p.form.kind == "source" else _BOTH


def _not_unicast_source(p: w.NotUnicastSource, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("fib saddr type", "unicast", negate=True),),)


def _stranger(p: w.Stranger, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    return ((Lookup(fields(family.original_source), "noclients" + family.suffix),),)


def _amid_connection(p: w.AmidConnection, scene: w.Scene) -> tuple[Lowered, ...]:
    opening = match("tcp flags", _SYN, mask=_FIN | _SYN | _RST | _ACK, negate=True)
    return ((match("ct state", "new"), opening),)


def _opens_backwards(p: w.OpensBackwards, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("tcp flags", _SYN, mask=_SYN | _ACK), match("ct direction", "reply")),)


def _handshake(p: w.Handshake, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("tcp flags", _SYN, mask=_SYN | _RST),),)


def _over_connections(p: w.OverConnections, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    """Flows to an endpoint have a count of their own: a flood of its published port must not take its way out."""
    side, counted = (family.source, "flows") if p.endpoint == "source" else (family.destination, "clients")
    return ((Meter(fields(side), counted + family.suffix, ConnectionsOver(p.limit)),),)


def _either(lower: Callable[[P, w.Scene], tuple[Lowered, ...]]) -> _Form:
    """One form for both families."""
    return _Form(lambda predicate, scene, family: lower(predicate, scene), lambda predicate: _NEITHER)


def _per_family(
    lower: Callable[[P, w.Scene, Family], tuple[Lowered, ...]],
    families: Callable[[P], frozenset[int]] = lambda predicate: _BOTH,
) -> _Form:
    """A form for each family that `families` names."""
    return _Form(lower, families)


_FORMS: dict[type[w.Predicate], _Form] = {
    w.Via: _either(_via),
    w.KnownPort: _either(_known_port),
    w.FrameType: _either(_frame_type),
    w.FrameTo: _either(_frame_to),
    w.Pinned: _either(_pinned),
    w.PlainHeader: _either(_plain_header),
    w.NextHeader: _either(_next_header),
    w.Icmp6Type: _either(_icmp6_type),
    w.OnLinkHopLimit: _either(_on_link),
    w.SolicitsGateway: _either(_solicits),
    w.ArpAsksForGateway: _either(_arp_asks),
    w.OverRate: _per_family(_over_rate, _families_of_rate),
    w.Vouched: _either(_vouched),
    w.ExtensionHeader: _either(_extension),
    w.ToSubnet: _per_family(_to_subnet),
    w.FromSubnet: _per_family(_from_subnet),
    w.ToLoopback: _per_family(_to_loopback),
    w.IpVersion: _either(_ip_version),
    w.Flow: _either(_flow),
    w.FlowDirection: _either(_flow_direction),
    w.LiveFlow: _either(_live),
    w.OrphanFlow: _per_family(_orphan),
    w.OwnError: _per_family(_own_error),
    w.Transport: _either(_transport),
    w.LocalDestination: _either(_local),
    w.NotUnicast: _either(_not_unicast),
    w.FloorHit: _per_family(_floor),
    w.GatewayPing: _per_family(_gateway_ping),
    w.NeighbourSolicitation: _either(_solicitation),
    w.NodeService: _per_family(_node_service),
    w.Translated: _either(_translated),
    w.Exposed: _per_family(_exposed, _families_of_exposure),
    w.NotUnicastSource: _either(_not_unicast_source),
    w.Stranger: _per_family(_stranger),
    w.AmidConnection: _either(_amid_connection),
    w.OpensBackwards: _either(_opens_backwards),
    w.Handshake: _either(_handshake),
    w.OverConnections: _per_family(_over_connections),
    w.FlowFromSubnet: _per_family(_flow_from_subnet),
}
