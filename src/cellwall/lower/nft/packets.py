"""Predicates over a packet and the links it crosses, as nft matches, whatever flow it belongs to."""

from cellwall.compile import predicates as when
from cellwall.compile import wall as w
from cellwall.lower.nft.families import Family
from cellwall.lower.nft.forms import ICMP6_TYPES, Forms, Lowered, either, fields, in_subnet, match, per_family
from cellwall.lower.nft.sets import proxied_set
from cellwall.model.addresses import PROTOCOL_NUMBERS
from cellwall.ruleset.types import FieldName, Lookup

_ICMP_ECHO_REQUEST = 8
_SYN, _RST = 0x02, 0x04
_LOOPBACK4 = (127 << 24, 0xFF000000)


def _interface(scene: w.Scene, side: when.Side) -> str:
    """The name, or name prefix with `*`, of one side."""
    return {
        "port": scene.veth_prefix + "*",
        "bridge": scene.bridge,
        "uplink": scene.uplink,
        "loopback": "lo",
    }[side]


def _via(p: when.Via, scene: w.Scene) -> tuple[Lowered, ...]:
    name: FieldName = "iifname" if p.direction == "in" else "oifname"
    return ((match(name, _interface(scene, p.side), negate=p.negate),),)


def _vouched(p: when.Vouched, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("meta mark", 0 if p.negate else scene.mark, mask=scene.mark),),)


def _extension(p: when.ExtensionHeader, scene: w.Scene) -> tuple[Lowered, ...]:
    headers: tuple[FieldName, ...] = ("exthdr hbh", "exthdr dst", "exthdr rt")
    return tuple((match("meta nfproto", "ipv6"), match(name, 1)) for name in headers)


def _to_subnet(p: when.ToSubnet, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    return in_subnet(family.destination, scene, family)


def _from_subnet(p: when.FromSubnet, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    return in_subnet(family.source, scene, family)


def _to_loopback(p: when.ToLoopback, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    if family.version == 4:
        return ((match("ip daddr", _LOOPBACK4[0], mask=_LOOPBACK4[1], negate=p.negate),),)
    return ((match("ip6 daddr", 1, negate=p.negate),),)


def _ip_version(p: when.IpVersion, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("meta nfproto", "ipv4" if p.version == 4 else "ipv6"),),)


def _transport(p: when.Transport, scene: w.Scene) -> tuple[Lowered, ...]:
    numbers = {PROTOCOL_NUMBERS[name] for name in p.protocols}
    if "icmp" in p.protocols:
        numbers.add(PROTOCOL_NUMBERS["icmpv6"])
    return ((match("meta l4proto", *sorted(numbers), negate=p.negate),),)


def _local(p: when.LocalDestination, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("fib daddr type", "local"),),)


def _not_unicast(p: when.NotUnicast, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("fib daddr type", "unicast", negate=True),),)


def _gateway_ping(p: when.GatewayPing, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    if family.version == 4:
        return ((match("ip daddr", int(scene.gateway4)), match("icmp type", _ICMP_ECHO_REQUEST)),)
    gateways = (int(scene.gateway6), int(scene.gateway_link_local))
    return ((match("ip6 daddr", *gateways), match("icmpv6 type", ICMP6_TYPES["echo-request"])),)


def _solicitation(p: when.NeighbourSolicitation, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("icmpv6 type", ICMP6_TYPES["nd-neighbor-solicit"]), match("ip6 hoplimit", 255)),)


def _node_service(p: when.NodeService, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    return ((Lookup(fields(family.destination, "meta l4proto", "th dport"), "services" + family.suffix),),)


def _proxied_port(p: when.ProxiedPort, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    at = (family.destination,) if p.bound else ()
    name = proxied_set(family, bound=p.bound)
    return (
        (
            match("meta nfproto", family.nfproto),
            match("meta l4proto", PROTOCOL_NUMBERS["tcp"]),
            Lookup(fields(*at, "th dport"), name),
        ),
    )


def _not_unicast_source(p: when.NotUnicastSource, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("fib saddr type", "unicast", negate=True),),)


def _handshake(p: when.Handshake, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("tcp flags", _SYN, mask=_SYN | _RST),),)


PACKETS: Forms = {
    when.Via: either(_via),
    when.Vouched: either(_vouched),
    when.ExtensionHeader: either(_extension),
    when.ToSubnet: per_family(_to_subnet),
    when.FromSubnet: per_family(_from_subnet),
    when.ToLoopback: per_family(_to_loopback),
    when.IpVersion: either(_ip_version),
    when.Transport: either(_transport),
    when.LocalDestination: either(_local),
    when.NotUnicast: either(_not_unicast),
    when.GatewayPing: per_family(_gateway_ping),
    when.NeighbourSolicitation: either(_solicitation),
    when.NodeService: per_family(_node_service),
    when.ProxiedPort: per_family(_proxied_port),
    when.NotUnicastSource: either(_not_unicast_source),
    when.Handshake: either(_handshake),
}
