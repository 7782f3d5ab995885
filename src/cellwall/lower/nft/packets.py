"""Predicates over a packet and the links it crosses, as nft matches, whatever flow it belongs to."""

from cellwall.compile import wall as w
from cellwall.lower.nft.families import Family
from cellwall.lower.nft.forms import ICMP6_TYPES, Forms, Lowered, either, fields, in_subnet, match, per_family
from cellwall.model.addresses import PROTOCOL_NUMBERS
from cellwall.ruleset.types import FieldName, Lookup

_ICMP_ECHO_REQUEST = 8
_SYN, _RST = 0x02, 0x04
_LOOPBACK4 = (127 << 24, 0xFF000000)


def _interface(scene: w.Scene, side: w.Side) -> str:
    """The name, or name prefix with `*`, of one side."""
    return {
        "port": scene.veth_prefix + "*",
        "bridge": scene.bridge,
        "uplink": scene.uplink,
        "loopback": "lo",
    }[side]


def _via(p: w.Via, scene: w.Scene) -> tuple[Lowered, ...]:
    name: FieldName = "iifname" if p.direction == "in" else "oifname"
    return ((match(name, _interface(scene, p.side), negate=p.negate),),)


def _vouched(p: w.Vouched, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("meta mark", 0 if p.negate else scene.mark, mask=scene.mark),),)


def _extension(p: w.ExtensionHeader, scene: w.Scene) -> tuple[Lowered, ...]:
    headers: tuple[FieldName, ...] = ("exthdr hbh", "exthdr dst", "exthdr rt")
    return tuple((match("meta nfproto", "ipv6"), match(name, 1)) for name in headers)


def _to_subnet(p: w.ToSubnet, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    return in_subnet(family.destination, scene, family)


def _from_subnet(p: w.FromSubnet, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    return in_subnet(family.source, scene, family)


def _to_loopback(p: w.ToLoopback, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    if family.version == 4:
        return ((match("ip daddr", _LOOPBACK4[0], mask=_LOOPBACK4[1], negate=p.negate),),)
    return ((match("ip6 daddr", 1, negate=p.negate),),)


def _ip_version(p: w.IpVersion, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("meta nfproto", "ipv4" if p.version == 4 else "ipv6"),),)


def _transport(p: w.Transport, scene: w.Scene) -> tuple[Lowered, ...]:
    numbers = {PROTOCOL_NUMBERS[name] for name in p.protocols}
    if "icmp" in p.protocols:
        numbers.add(PROTOCOL_NUMBERS["icmpv6"])
    return ((match("meta l4proto", *sorted(numbers), negate=p.negate),),)


def _local(p: w.LocalDestination, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("fib daddr type", "local"),),)


def _not_unicast(p: w.NotUnicast, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("fib daddr type", "unicast", negate=True),),)


def _gateway_ping(p: w.GatewayPing, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    if family.version == 4:
        return ((match("ip daddr", int(scene.gateway4)), match("icmp type", _ICMP_ECHO_REQUEST)),)
    gateways = (int(scene.gateway6), int(scene.gateway_link_local))
    return ((match("ip6 daddr", *gateways), match("icmpv6 type", ICMP6_TYPES["echo-request"])),)


def _solicitation(p: w.NeighbourSolicitation, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("icmpv6 type", ICMP6_TYPES["nd-neighbor-solicit"]), match("ip6 hoplimit", 255)),)


def _node_service(p: w.NodeService, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    return ((Lookup(fields(family.destination, "meta l4proto", "th dport"), "services" + family.suffix),),)


def _not_unicast_source(p: w.NotUnicastSource, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("fib saddr type", "unicast", negate=True),),)


def _handshake(p: w.Handshake, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("tcp flags", _SYN, mask=_SYN | _RST),),)


PACKETS: Forms = {
    w.Via: either(_via),
    w.Vouched: either(_vouched),
    w.ExtensionHeader: either(_extension),
    w.ToSubnet: per_family(_to_subnet),
    w.FromSubnet: per_family(_from_subnet),
    w.ToLoopback: per_family(_to_loopback),
    w.IpVersion: either(_ip_version),
    w.Transport: either(_transport),
    w.LocalDestination: either(_local),
    w.NotUnicast: either(_not_unicast),
    w.GatewayPing: per_family(_gateway_ping),
    w.NeighbourSolicitation: either(_solicitation),
    w.NodeService: per_family(_node_service),
    w.NotUnicastSource: either(_not_unicast_source),
    w.Handshake: either(_handshake),
}
