"""Predicates over a frame on the bridge, as nft matches: who sends it, to whom, and what it carries."""

from cellwall.compile import predicates as when
from cellwall.compile import wall as w
from cellwall.errors import Unsupported
from cellwall.lower.nft.families import IPV4, IPV6, Family
from cellwall.lower.nft.forms import (
    BOTH,
    ICMP6_TYPES,
    NEITHER,
    OF_TENANT,
    Forms,
    Lowered,
    either,
    fields,
    match,
    per_family,
)
from cellwall.model.addresses import LISTENER_REPORTS_MAC, PROTOCOL_NUMBERS, solicited_node_mac
from cellwall.ruleset.types import BytesOver, FieldName, Lookup, Meter, RateOver

_ETHER_TYPES = {"ipv4": 0x0800, "ipv6": 0x86DD, "arp": 0x0806}
_BROADCAST = 0xFFFFFFFFFFFF
_GROUP_BIT = 1 << 40
_MORE_OR_OFFSET = 0x3FFF


def _known_port(p: when.KnownPort, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((Lookup(fields("oif"), "ports", p.negate),),)


def _frame_type(p: when.FrameType, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("ether type", _ETHER_TYPES[p.type]),),)


def _frame_to(p: when.FrameTo, scene: w.Scene) -> tuple[Lowered, ...]:
    if p.target == "group":
        return ((match("ether daddr", 0 if p.negate else _GROUP_BIT, mask=_GROUP_BIT),),)
    targets: dict[str, tuple[int, ...]] = {
        "gateway": (scene.gateway_mac,),
        "broadcast": (_BROADCAST,),
        "gateway-solicited": tuple(
            sorted({solicited_node_mac(scene.gateway6), solicited_node_mac(scene.gateway_link_local)})
        ),
        "listener-reports": (LISTENER_REPORTS_MAC,),
    }
    return ((match("ether daddr", *targets[p.target], negate=p.negate),),)


def _pinned(p: when.Pinned, scene: w.Scene) -> tuple[Lowered, ...]:
    if p.claim == "arp":
        if p.negate:
            raise Unsupported("a negated ARP claim is two statements", predicate="Pinned", backend="nftables")
        by_frame = Lookup(fields("iif", "ether saddr", "arp saddr ip"), "pin4")
        by_sender = Lookup(fields("iif", "arp saddr ether", "arp saddr ip"), "pin4")
        return ((by_frame, by_sender),)
    own = IPV4 if p.claim == "ipv4" else IPV6
    return ((Lookup(fields("iif", "ether saddr", own.source), "pin" + own.suffix, p.negate),),)


def _plain_header(p: when.PlainHeader, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("ip hdrlength", 5),),)


def _fragment(p: when.Fragment, scene: w.Scene) -> tuple[Lowered, ...]:
    if p.version == 6:
        return ((match("ip6 nexthdr", 44),),)
    return ((match("ip frag-off", 0, mask=_MORE_OR_OFFSET, negate=True),),)


def _next_header(p: when.NextHeader, scene: w.Scene) -> tuple[Lowered, ...]:
    numbers = [PROTOCOL_NUMBERS[name] for name in p.protocols]
    if p.fragment:
        return tuple((match("ip6 nexthdr", 44), match("@nh,320,8", number)) for number in numbers)
    return ((match("ip6 nexthdr", *numbers),),)


def _icmp6_type(p: when.Icmp6Type, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("icmpv6 type", *(ICMP6_TYPES[name] for name in p.types)),),)


def _on_link(p: when.OnLinkHopLimit, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("ip6 hoplimit", 255, negate=p.negate),),)


def _solicits(p: when.SolicitsGateway, scene: w.Scene) -> tuple[Lowered, ...]:
    solicitation = match("icmpv6 type", ICMP6_TYPES["nd-neighbor-solicit"])
    targets = (int(scene.gateway6), int(scene.gateway_link_local))
    return tuple((solicitation, match("@nh,384,128", target)) for target in targets)


def _arp_asks(p: when.ArpAsksForGateway, scene: w.Scene) -> tuple[Lowered, ...]:
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


_RATES = {
    "ping": ("source", "pings"),
    "input-ping": ("source", "inputpings"),
    "flows": ("source", "newflows"),
    "clients": ("destination", "newclients"),
    "sent": ("source", "sent"),
    "got": ("destination", "got"),
    "ended": ("source", "ended"),
    "ended-clients": ("destination", "endedclients"),
}
"""Of whom, and in which set, what a packet is counted for."""
_FRAME_RATES: dict[str, tuple[FieldName, str]] = {
    "arp": ("iif", "arps"),
    "nd": ("iif", "solicitations"),
    "fragments": ("iif", "fragments"),
    "all-fragments": ("ether daddr", "allfragments"),
}
"""The same of a frame. Fragments have one destination, the gateway: by it they are all counted together."""


def _over_rate(p: when.OverRate, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    bound = RateOver(p.rate, p.burst)
    if p.what in _RATES:
        side, name = _RATES[p.what]
        key = family.source if side == "source" else family.destination
        return ((Meter(fields(key), name + family.suffix, bound, lasting=True),),)
    key, name = _FRAME_RATES[p.what]
    return ((Meter(fields(key), name, bound, lasting=True),),)


def _tenant_over_rate(p: when.TenantOverRate, scene: w.Scene) -> tuple[Lowered, ...]:
    bound = RateOver(p.rate, p.burst)
    return ((*OF_TENANT, Meter(fields("ct label"), "tenant" + _RATES[p.what][1], bound, lasting=True)),)


def _over_bytes(p: when.OverBytes, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    key = family.source if p.way == "sent" else family.destination
    return ((Meter(fields(key), f"{p.way}bytes{family.suffix}", BytesOver(p.rate, p.burst), lasting=True),),)


def _tenant_over_bytes(p: when.TenantOverBytes, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((*OF_TENANT, Meter(fields("ct label"), f"tenant{p.way}bytes", BytesOver(p.rate, p.burst), lasting=True)),)


def _families_of_rate(p: when.OverRate) -> frozenset[int]:
    return BOTH if p.what in _RATES else NEITHER


FRAMES: Forms = {
    when.KnownPort: either(_known_port),
    when.FrameType: either(_frame_type),
    when.FrameTo: either(_frame_to),
    when.Pinned: either(_pinned),
    when.PlainHeader: either(_plain_header),
    when.Fragment: either(_fragment),
    when.NextHeader: either(_next_header),
    when.Icmp6Type: either(_icmp6_type),
    when.OnLinkHopLimit: either(_on_link),
    when.SolicitsGateway: either(_solicits),
    when.ArpAsksForGateway: either(_arp_asks),
    when.OverRate: per_family(_over_rate, _families_of_rate),
    when.TenantOverRate: either(_tenant_over_rate),
    when.OverBytes: per_family(_over_bytes),
    when.TenantOverBytes: either(_tenant_over_bytes),
}
