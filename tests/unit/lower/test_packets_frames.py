"""Frames of a sandbox: what it may say at all, and that it is who it says."""

import pytest

from cellwall.lab import addresses as at
from cellwall.model.addresses import solicited_node_mac
from cellwall.ruleset.compose import arp_packet, flow_packet, framed, neighbour_packet
from cellwall.ruleset.context import Context
from cellwall.ruleset.packet import Packet, parse_frame
from scene import (
    GATEWAY4,
    GATEWAY6,
    GATEWAY_MAC,
    LINK_LOCAL,
    NETWORK,
    OTHER,
    PUBLIC4,
    PUBLIC6,
    SCENE,
    WEB,
    directed,
    endpoint,
    flow_of,
    judged,
    number,
)

SPOOFED4 = ("1.2.3.4", "192.168.0.3", "192.168.9.9", GATEWAY4, "127.0.0.1", "0.0.0.0", "255.255.255.255")
SPOOFED6 = ("2a00::9", "fd00:abcd::3", "fd00:abcd::909", GATEWAY6, LINK_LOCAL, "::1", "::", "fe80::1", "ff02::1")


@pytest.mark.parametrize("source", [*SPOOFED4, *SPOOFED6])
@pytest.mark.parametrize("protocol", ["tcp", "udp", "icmp"])
def test_a_source_that_is_not_the_endpoints_is_dropped_before_the_bridge_learns(source: str, protocol: str) -> None:
    fate = SCENE.egress(WEB, PUBLIC6 if ":" in source else PUBLIC4, protocol, source=source)
    assert (fate.verdict, fate.layer) == ("drop", "PIN")
    assert fate.reason.startswith("spoofed")
    assert {step.family for step in fate.evaluation.path} == {"bridge"}


@pytest.mark.parametrize("to", [PUBLIC4, PUBLIC6, GATEWAY4])
@pytest.mark.parametrize("mac", [OTHER.mac, GATEWAY_MAC, 0x020000000099])
def test_a_mac_that_is_not_the_endpoints_is_dropped(to: str, mac: int) -> None:
    """Alone, and together with the address of whom it belongs to."""
    for source in (None, "fd00:abcd::3" if ":" in to else "192.168.0.3"):
        fate = SCENE.egress(WEB, to, "udp", mac=mac, source=source)
        assert (fate.verdict, fate.layer) == ("drop", "PIN")


@pytest.mark.parametrize("gateway", [OTHER.mac, 0x020000000099, 0xFFFFFFFFFFFF, 0x01005E000001])
def test_ip_to_any_mac_but_the_gateways_is_dropped(gateway: int) -> None:
    for to in (PUBLIC4, PUBLIC6, "192.168.0.3"):
        assert judged(SCENE.egress(WEB, to, gateway=gateway)) == ("drop", "no frame a sandbox may send", "PIN")


def test_what_a_port_without_an_endpoint_sends_is_dropped() -> None:
    """The link of a sandbox that was detached, or is not attached yet."""
    stranger = endpoint("stranger", 9)
    for to in (PUBLIC4, PUBLIC6):
        assert SCENE.egress(stranger, to).layer == "PIN"
    request = arp_packet(1, sender_mac=stranger.mac, sender=int(stranger.address4), target=number(GATEWAY4))
    assert SCENE.frame(stranger, request).verdict == "drop"


def test_what_did_not_pass_the_pins_ends_at_the_ip_hooks_too() -> None:
    """Without the pins' mark: a port somebody else put on the bridge, or the bridge table flushed."""
    for to in (PUBLIC4, PUBLIC6, GATEWAY4):
        going = flow_of("fd00:abcd::2" if ":" in to else "192.168.0.2", to)
        fate = SCENE.from_outside("b9_br0", flow_packet(going), directed(going))
        assert judged(fate) == ("drop", "not judged by the pins", "RAW")


@pytest.mark.parametrize("hook", ["prerouting", "input", "forward", "output"])
def test_a_link_of_ours_that_is_no_bridge_port_speaks_to_nobody(hook: str) -> None:
    """At the IP hooks `b9h…` is seen only while it is not enslaved."""
    going = flow_of("192.168.0.2", PUBLIC4)
    entry, names = directed(going), {"iifname": WEB.host_link, "iif": WEB.host_index}
    if hook == "output":
        names = {"oifname": WEB.host_link, "oif": WEB.host_index}
    context = Context("inet", hook, flow=entry, fib_daddr_type="unicast", mark=0x1000, **names)  # type: ignore[arg-type]
    assert judged(SCENE.walk(flow_packet(going), [context])) == ("drop", "not a bridge port", "PIN")


def _tagged(kind: int, vid: int = 0) -> Packet:
    inner = flow_packet(flow_of("192.168.0.2", PUBLIC4)).network
    return parse_frame(
        GATEWAY_MAC.to_bytes(6) + WEB.mac.to_bytes(6) + kind.to_bytes(2) + vid.to_bytes(2) + b"\x08\0" + inner
    )


def _ip6(next_header: int, body: bytes, *, hop_limit: int = 64) -> Packet:
    head = b"\x60\0\0\0" + len(body).to_bytes(2) + bytes((next_header, hop_limit))
    ends = number("fd00:abcd::2").to_bytes(16) + number(PUBLIC6).to_bytes(16)
    return framed(head + ends + body, 0x86DD, WEB.mac, GATEWAY_MAC)


def _options4() -> Packet:
    plain = flow_packet(flow_of("192.168.0.2", PUBLIC4)).network
    body = b"\x46\0" + (len(plain) + 4).to_bytes(2) + plain[4:20] + b"\x83\x03\x04\0" + plain[20:]  # loose source route
    return framed(body, 0x0800, WEB.mac, GATEWAY_MAC)


UDP_BODY = b"\x9c\x40\0\x35\0\x08\0\0"
FRAGMENT = b"\x11\0\0\x01\0\0\0\x07"
FRAMES = {
    "802.1Q, VID 0": (_tagged(0x8100), "no frame a sandbox may send"),
    "802.1Q, VID 7": (_tagged(0x8100, 7), "no frame a sandbox may send"),
    "802.1ad": (_tagged(0x88A8), "no frame a sandbox may send"),
    "PPPoE": (framed(bytes(46), 0x8864, WEB.mac, GATEWAY_MAC), "no frame a sandbox may send"),
    "MPLS": (framed(bytes(46), 0x8847, WEB.mac, GATEWAY_MAC), "no frame a sandbox may send"),
    "RARP": (framed(bytes(46), 0x8035, WEB.mac, 0xFFFFFFFFFFFF), "no frame a sandbox may send"),
    "EAPOL": (framed(bytes(46), 0x888E, WEB.mac, 0x0180C2000003), "no frame a sandbox may send"),
    "LLDP": (framed(bytes(46), 0x88CC, WEB.mac, 0x0180C200000E), "no frame a sandbox may send"),
    "BPDU": (framed(b"\x42\x42\x03" + bytes(43), 38, WEB.mac, 0x0180C2000000), "no frame a sandbox may send"),
    "IPv4 options": (_options4(), "spoofed IPv4 source or options"),
    "hop-by-hop": (_ip6(0, b"\x11\0\1\4\0\0\0\0" + UDP_BODY), "IPv6 extension header"),
    "destination options": (_ip6(60, b"\x11\0\1\4\0\0\0\0" + UDP_BODY), "IPv6 extension header"),
    "routing header": (_ip6(43, b"\x11\0\0\0\0\0\0\0" + UDP_BODY), "IPv6 extension header"),
    "AH": (_ip6(51, b"\x11\2" + bytes(14) + UDP_BODY), "IPv6 extension header"),
    "fragmented ICMPv6": (_ip6(44, b"\x3a\0\0\x01\0\0\0\x07\x80\0\0\0\0\0\0\0"), "IPv6 extension header"),
    "fragment of a fragment": (_ip6(44, b"\x2c\0\0\x01\0\0\0\x07" + FRAGMENT + UDP_BODY), "IPv6 extension header"),
    "router solicitation": (_ip6(58, b"\x85" + bytes(7), hop_limit=255), "router, redirect, or advertisement ICMPv6"),
    "router advertisement": (_ip6(58, b"\x86" + bytes(15), hop_limit=255), "router, redirect, or advertisement ICMPv6"),
    "redirect": (_ip6(58, b"\x89" + bytes(39), hop_limit=255), "router, redirect, or advertisement ICMPv6"),
    "multicast listener report": (_ip6(58, b"\x8f" + bytes(7)), "router, redirect, or advertisement ICMPv6"),
    "router renumbering": (_ip6(58, b"\x8a" + bytes(15)), "router, redirect, or advertisement ICMPv6"),
}


@pytest.mark.parametrize("name", FRAMES)
def test_frame_that_no_sandbox_may_send(name: str) -> None:
    packet, reason = FRAMES[name]
    assert judged(SCENE.frame(WEB, packet)) == ("drop", reason, "PIN")


@pytest.mark.parametrize("body", [FRAGMENT + UDP_BODY, b"\x06\0\0\x01\0\0\0\x07" + bytes(20)], ids=["udp", "tcp"])
def test_fragments_of_tcp_and_udp_pass_the_pins(body: bytes) -> None:
    assert SCENE.frame(WEB, _ip6(44, body)).verdict == "accept"


def _ip4_part(place: int) -> Packet:
    header = bytes.fromhex("4500001c0007") + place.to_bytes(2) + bytes.fromhex("40110000c0a80002") + bytes((9, 9, 9, 9))
    return framed(header + UDP_BODY, 0x0800, WEB.mac, GATEWAY_MAC)


PARTS = {"first of IPv4": _ip4_part(0x2000), "last of IPv4": _ip4_part(0x00B9), "IPv6": _ip6(44, FRAGMENT + UDP_BODY)}


@pytest.mark.parametrize("bound", ["fragments", "allfragments"])
@pytest.mark.parametrize("part", PARTS)
def test_more_fragments_than_may_wait_are_dropped_before_they_do(part: str, bound: str) -> None:
    assert SCENE.frame(WEB, PARTS[part]).verdict == "accept"
    assert judged(SCENE.frame(WEB, PARTS[part], over=[bound])) == ("drop", "fragment flood", "PIN")


@pytest.mark.parametrize("place", [0, 0x4000], ids=["whole", "never to be cut"])
def test_what_is_whole_is_no_fragment(place: int) -> None:
    assert SCENE.frame(WEB, _ip4_part(place), over=["fragments", "allfragments"]).verdict == "accept"


def test_reserved_groups_are_judged_where_they_arrive() -> None:
    """Frames to 01-80-C2-00-00-0X skip the bridge's prerouting hook."""
    lldp = framed(bytes(46), 0x88CC, WEB.mac, 0x0180C200000E)
    context = Context("bridge", "input", iifname=WEB.host_link, iif=WEB.host_index)
    assert judged(SCENE.walk(lldp, [context])) == ("drop", "not judged by the pins", "PIN")


@pytest.mark.parametrize("direction", ["in", "out"])
def test_nothing_is_bridged_to_or_from_a_port_of_ours(direction: str) -> None:
    one, other = (WEB.host_link, "foreign0") if direction == "in" else ("foreign0", WEB.host_link)
    context = Context("bridge", "forward", iifname=one, oifname=other, mark=0x1000)
    fate = SCENE.walk(flow_packet(flow_of("192.168.0.2", "192.168.0.3")), [context])
    word = "from" if direction == "in" else "to"
    assert judged(fate) == ("drop", f"bridged {word} a sandbox", "PIN")


def test_the_node_sends_to_attached_ports_only_and_never_to_a_group() -> None:
    packet = flow_packet(flow_of(PUBLIC4, "192.168.0.2"), source_mac=GATEWAY_MAC, destination_mac=WEB.mac)
    to = {"oifname": WEB.host_link, "oif": WEB.host_index}
    assert SCENE.walk(packet, [Context("bridge", "output", **to)]).verdict == "accept"  # type: ignore[arg-type]
    loose = SCENE.walk(packet, [Context("bridge", "output", oifname=WEB.host_link, oif=999)])
    assert judged(loose) == ("drop", "no endpoint behind this port", "PIN")
    group = framed(packet.network, 0x0800, GATEWAY_MAC, 0x01005E000001)
    context = Context("bridge", "output", **to)  # type: ignore[arg-type]
    assert judged(SCENE.walk(group, [context])) == ("drop", "the node's multicast", "PIN")


OWN4, THEIRS4, GATE4 = number("192.168.0.2"), number("192.168.0.3"), number(GATEWAY4)
ARPS = {
    "asks for the gateway": (arp_packet(1, sender_mac=WEB.mac, sender=OWN4, target=GATE4), "accept"),
    "asks the gateway itself": (
        arp_packet(1, sender_mac=WEB.mac, sender=OWN4, target=GATE4, destination_mac=GATEWAY_MAC), "accept"),
    "asks for a neighbour": (arp_packet(1, sender_mac=WEB.mac, sender=OWN4, target=THEIRS4), "drop"),
    "asks for another address of the node": (
        arp_packet(1, sender_mac=WEB.mac, sender=OWN4, target=number(at.NODE4)), "drop"),
    "answers": (arp_packet(2, sender_mac=WEB.mac, sender=OWN4, target=GATE4), "drop"),
    "announces itself": (arp_packet(1, sender_mac=WEB.mac, sender=OWN4, target=OWN4), "drop"),
    "claims a neighbour's address": (arp_packet(1, sender_mac=WEB.mac, sender=THEIRS4, target=GATE4), "drop"),
    "claims the gateway's address": (arp_packet(2, sender_mac=WEB.mac, sender=GATE4, target=THEIRS4), "drop"),
    "claims a neighbour's MAC": (
        arp_packet(1, sender_mac=OTHER.mac, sender=OWN4, target=GATE4, source_mac=WEB.mac), "drop"),
    "comes from a neighbour's MAC": (
        arp_packet(1, sender_mac=WEB.mac, sender=OWN4, target=GATE4, source_mac=OTHER.mac), "drop"),
    "goes to a neighbour": (
        arp_packet(1, sender_mac=WEB.mac, sender=OWN4, target=GATE4, destination_mac=OTHER.mac), "drop"),
    "probes for an address": (arp_packet(1, sender_mac=WEB.mac, sender=0, target=GATE4), "drop"),
}  # fmt: skip


@pytest.mark.parametrize("name", ARPS)
def test_arp(name: str) -> None:
    packet, verdict = ARPS[name]
    assert SCENE.frame(WEB, packet).verdict == verdict


def _solicits(target: str, *, source: str = "fd00:abcd::2", to: int | None = None, hops: int = 255) -> Packet:
    mac = solicited_node_mac(NETWORK.gateway6) if to is None else to
    return neighbour_packet(
        135, number(target), source=number(source), destination=number("ff02::1:ff00:1"), source_mac=WEB.mac,
        destination_mac=mac, hop_limit=hops,
    )  # fmt: skip


SOLICITATIONS = {
    "for the gateway": (_solicits(GATEWAY6), "accept", ""),
    "for the gateway's link-local": (_solicits(LINK_LOCAL), "accept", ""),
    "to the gateway itself": (_solicits(GATEWAY6, to=GATEWAY_MAC), "accept", ""),
    "for a neighbour": (_solicits("fd00:abcd::3"), "drop", "solicitation of another address"),
    "forwarded": (_solicits(GATEWAY6, hops=254), "drop", "forwarded neighbour discovery"),
    "from a neighbour's address": (_solicits(GATEWAY6, source="fd00:abcd::3"), "drop", "spoofed IPv6 source"),
    "duplicate address detection": (_solicits(GATEWAY6, source="::"), "drop", "spoofed IPv6 source"),
    "to all nodes": (_solicits(GATEWAY6, to=0x333300000001), "drop", "no frame a sandbox may send"),
    "to a neighbour": (_solicits(GATEWAY6, to=OTHER.mac), "drop", "no frame a sandbox may send"),
}


@pytest.mark.parametrize("name", SOLICITATIONS)
def test_neighbour_solicitation(name: str) -> None:
    packet, verdict, reason = SOLICITATIONS[name]
    fate = SCENE.frame(WEB, packet)
    assert fate.verdict == verdict
    assert not reason or fate.reason == reason


@pytest.mark.parametrize("to", [GATEWAY_MAC, 0x333300000001, OTHER.mac, 0x3333FF000001])
@pytest.mark.parametrize("target", [GATEWAY6, "fd00:abcd::2", "fd00:abcd::3"])
def test_no_advertisement_leaves_a_sandbox(to: int, target: str) -> None:
    packet = neighbour_packet(
        136, number(target), source=number("fd00:abcd::2"), destination=number("ff02::1"), source_mac=WEB.mac,
        destination_mac=to,
    )  # fmt: skip
    assert (SCENE.frame(WEB, packet).verdict, SCENE.frame(WEB, packet).layer) == ("drop", "PIN")


@pytest.mark.parametrize(
    ("packet", "meter", "reason"),
    [
        (ARPS["asks for the gateway"][0], "arps", "ARP flood"),
        (_solicits(GATEWAY6), "solicitations", "neighbour discovery flood"),
    ],
)
def test_floods_are_bounded_on_the_port(packet: Packet, meter: str, reason: str) -> None:
    assert judged(SCENE.frame(WEB, packet, over=[meter])) == ("drop", reason, "PIN")
