"""A06-A08: who is believed to be where. Poisoned neighbour entries and router advertisements."""

import time
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import msgspec

from cellwall.attack import frames
from cellwall.attack.frames import BROADCAST, SERVICE_VLAN, VLAN, frame, scapy
from cellwall.attack.probe import Layer, Probe, Shot, layers
from cellwall.attack.rows.bridged import BRIDGED, broadcast, framed, victims_mac
from cellwall.attack.rows.routed import Body, Choose, volley
from cellwall.attack.rows.shapes import Shots, episode, introduce_victim, solicitation, unique_mac, unique_prefix
from cellwall.attack.world import World

_JIFFY = 0.011  # more than one tick at the lowest HZ: the kernel compares ages of neighbour entries in ticks


# ---------------------------------------------------------------- A06: ARP


class _Said(msgspec.Struct, frozen=True):
    """A way to say by ARP who has an address."""

    name: str
    operation: int
    gratuitous: bool = False

    def of_the_gateway(self, w: World, token: bytes) -> bytes:
        target = w.gateway.ip4 if self.gratuitous else w.victim.ip4
        return frames.arp(self.operation, w.attacker.mac, w.gateway.ip4, w.victim.mac, target) + token


_SAID = (
    _Said("request", 1),
    _Said("reply", 2),
    _Said("gratuitous", 1, gratuitous=True),
    _Said("gratuitous-reply", 2, gratuitous=True),
)


def _arp_to_neighbour() -> Iterator[Probe]:
    for said, (reach, mac) in product(_SAID, {"unicast": victims_mac, "broadcast": broadcast}.items()):
        yield volley(
            f"A06-neighbour-{said.name}-{reach}",
            f"ARP {said.name}, {reach}: the gateway is at the attacker's MAC",
            BRIDGED,
            framed(mac, said.of_the_gateway, kind=0x0806),
            "victim",
        )


def _arp_to_host() -> Iterator[Probe]:
    """The host's entry for the victim. `outer`: whose MAC the frame has; the ARP sender's MAC is the forged one."""
    for said, outer in product(_SAID, ("attacker", "forged", "victim")):
        # With the attacker's own MAC outside, a locked port lets the frame in; with another one it does not.
        guarded = layers("PIN", "NB") if outer == "attacker" else layers("PIN", "NB", "PORT")
        yield episode(
            f"A06-host-{said.name}-{outer}",
            f"ARP {said.name} (frame from {outer}): the host takes the victim's address to be elsewhere",
            guarded,
            partial(_moves_by_arp, said=said, outer=outer),
        )


def _moves_by_arp(w: World, token: bytes, *, said: _Said, outer: str) -> bool:
    forged = unique_mac(token)
    source = {"attacker": w.attacker.mac, "forged": forged, "victim": w.victim.mac}[outer]
    target = w.victim.ip4 if said.gratuitous else w.gateway.ip4
    body = frames.arp(said.operation, forged, w.victim.ip4, w.gateway.mac, target)
    introduce_victim(w)
    time.sleep(_JIFFY)
    w.fire([Shot("attacker", frame(source, BROADCAST if said.gratuitous else w.gateway.mac, body, kind=0x0806))])
    return w.node_neighbours().get(w.victim.ip4) == forged


# ---------------------------------------------------------------- A07: neighbour discovery


def _advertisement(w: World, source: str, target: str, lladdr: str, *, to: str, solicited: bool = False) -> Any:
    s = scapy()
    return (
        s.IPv6(src=source, dst=to, hlim=255)
        / s.ICMPv6ND_NA(tgt=target, R=0, S=int(solicited), O=1)
        / s.ICMPv6NDOptDstLLAddr(lladdr=lladdr)
    )


def _false_advertisement(w: World, token: bytes, to: str, *, solicited: bool = False) -> Any:
    said = _advertisement(w, w.gateway.ip6, w.gateway.ip6, w.attacker.mac, to=to, solicited=solicited)
    return said / scapy().Raw(token)


def _false_solicitation(w: World, token: bytes) -> Any:
    s = scapy()
    head = s.IPv6(src=w.gateway.ip6, dst=frames.solicited_group(w.victim.ip6), hlim=255)
    return head / s.ICMPv6ND_NS(tgt=w.victim.ip6) / s.ICMPv6NDOptSrcLLAddr(lladdr=w.attacker.mac) / s.Raw(token)


def _false_redirect(w: World, token: bytes) -> Any:
    s = scapy()
    head = s.IPv6(src=w.gateway.link_local, dst=w.victim.ip6, hlim=255)
    return head / s.ICMPv6ND_Redirect(tgt=w.attacker.ip6, dst="2a04:4e42::1") / s.Raw(token)


def _dad_denial(w: World, token: bytes) -> Any:
    return _advertisement(w, w.victim.ip6, w.victim.ip6, w.attacker.mac, to="ff02::1") / scapy().Raw(token)


def _dad_probe(w: World, token: bytes) -> Any:
    s = scapy()
    head = s.IPv6(src="::", dst=frames.solicited_group(w.victim.ip6), hlim=255)
    return head / s.ICMPv6ND_NS(tgt=w.victim.ip6) / s.Raw(token)


def _solicited_mac(w: World) -> str:
    return frames.group_mac(frames.solicited_group(w.victim.ip6))


def _all_nodes(w: World) -> str:
    return frames.group_mac("ff02::1")


_TO_NEIGHBOUR: dict[str, tuple[Choose, Body]] = {
    "advertisement": (victims_mac, lambda w, token: _false_advertisement(w, token, w.victim.ip6, solicited=True)),
    "advertisement-all-nodes": (_all_nodes, lambda w, token: _false_advertisement(w, token, "ff02::1")),
    "solicitation": (_solicited_mac, _false_solicitation),
    "redirect": (victims_mac, _false_redirect),
    "dad-denial": (_all_nodes, _dad_denial),
    "dad-probe": (_solicited_mac, _dad_probe),
}
"""Name → where the frame goes and what is in it."""


def _nd_to_neighbour() -> Iterator[Probe]:
    for name, (mac, body) in _TO_NEIGHBOUR.items():
        row = "A09" if name.startswith("dad") else "A07"
        title = f"{name} to a neighbour"
        yield volley(f"{row}-neighbour-{name}", title, BRIDGED, framed(mac, body), "victim", family=6)


def _nd_to_host() -> Iterator[Probe]:
    forged_kinds = (
        "advertisement",
        "advertisement-own-source",
        "advertisement-all-nodes",
        "solicitation",
        "router-solicitation",
    )
    for kind, outer in product(forged_kinds, ("attacker", "forged")):
        # A solicitation for the gateway is what the guards let pass: the pins alone judge whose it is.
        stops: tuple[Layer, ...] = ("PIN", "NB") if kind == "solicitation" else ("PIN", "RAW", "PRE", "IN", "NB")
        if outer == "forged":
            stops = (*stops, "PORT")
        if kind == "router-solicitation":
            stops = (*stops, "SYS")
        yield episode(
            f"A07-host-{kind}-{outer}",
            f"{kind} (frame from {outer}): the host takes the victim's address to be elsewhere",
            frozenset(stops),
            partial(_moves_by_discovery, kind=kind, outer=outer),
            family=6,
        )


def _moves_by_discovery(w: World, token: bytes, *, kind: str, outer: str) -> bool:
    forged = unique_mac(token)
    source = w.attacker.mac if outer == "attacker" else forged
    introduce_victim(w)
    w.fire([Shot("attacker", _poison6(w, kind, source, forged))])
    return w.node_neighbours().get(w.victim.ip6) == forged


def _poison6(w: World, kind: str, outer: str, forged: str) -> bytes:
    s = scapy()
    if kind == "solicitation":
        return solicitation(outer, forged, w.victim.ip6, w)
    if kind == "router-solicitation":
        body = (
            s.IPv6(src=w.victim.ip6, dst="ff02::2", hlim=255) / s.ICMPv6ND_RS() / s.ICMPv6NDOptSrcLLAddr(lladdr=forged)
        )
        return frame(outer, frames.group_mac("ff02::2"), body)
    source = w.attacker.ip6 if kind == "advertisement-own-source" else w.victim.ip6
    if kind == "advertisement-all-nodes":
        return frame(outer, frames.group_mac("ff02::1"), _advertisement(w, source, w.victim.ip6, forged, to="ff02::1"))
    return frame(outer, w.gateway.mac, _advertisement(w, source, w.victim.ip6, forged, to=w.gateway.ip6))


# ---------------------------------------------------------------- A08: router advertisements


def _router_advertisement(w: World, token: bytes, *, evasion: str) -> Any:
    s, prefix = scapy(), unique_prefix(token)
    head = s.IPv6(src="fe80::bad", dst="ff02::1", hlim=255)
    body = s.ICMPv6ND_RA(routerlifetime=1800) / s.ICMPv6NDOptPrefixInfo(prefix=prefix, prefixlen=64, L=1, A=1)
    # An option nobody knows (type 253) carries the token: options must fill whole units of eight octets.
    body = body / s.ICMPv6NDOptUnknown(
        type=253, len=(len(token) + 9) // 8, data=token.ljust((len(token) + 9) // 8 * 8 - 2, b"\0")
    )
    extensions = {
        "plain": lambda: head / body,
        "hop-by-hop": lambda: head / s.IPv6ExtHdrHopByHop() / body,
        "destination-options": lambda: head / s.IPv6ExtHdrDestOpt() / body,
        "both-options": lambda: head / s.IPv6ExtHdrHopByHop() / s.IPv6ExtHdrDestOpt() / body,
        "atomic-fragment": lambda: head / s.IPv6ExtHdrFragment(id=77) / body,
    }
    return extensions[evasion]()


def _router_advertisements() -> Iterator[Probe]:
    evasions = ("plain", "hop-by-hop", "destination-options", "both-options", "atomic-fragment")
    tagged = {"vid0": ((VLAN, 0),), "8021ad": ((SERVICE_VLAN, 0),)}
    for name in (*evasions, *tagged):
        evasion = name if name in evasions else "plain"
        body, tags = partial(_router_advertisement, evasion=evasion), tagged.get(name, ())
        for reach, mac in {"group": _all_nodes, "unicast": victims_mac}.items():
            yield volley(
                f"A08-neighbour-{name}-{reach}",
                f"router advertisement ({name}, {reach} MAC) to a neighbour",
                BRIDGED,
                framed(mac, body, tags=tags),
                "victim",
                family=6,
            )
        yield episode(
            f"A08-host-{name}",
            f"router advertisement ({name}) gives the host an address or a route",
            layers("PIN", "RAW", "PRE", "IN", "SYS"),
            partial(_believed, shots=framed(_all_nodes, body, tags=tags)),
            family=6,
            kernel="the kernel ignores fragmented discovery (RFC 6980)" if evasion == "atomic-fragment" else "",
        )


def _believed(w: World, token: bytes, *, shots: Shots) -> bool:
    w.fire(shots(w, token))
    return w.node_believes_prefix(unique_prefix(token))


PROBES: tuple[Probe, ...] = (
    *_arp_to_neighbour(),
    *_arp_to_host(),
    *_nd_to_neighbour(),
    *_nd_to_host(),
    *_router_advertisements(),
)
