"""A06-A08: who is believed to be where. Poisoned neighbour entries and router advertisements."""

import time
from collections.abc import Callable, Iterator
from typing import Any

from cellwall.attack import frames
from cellwall.attack.frames import BROADCAST, SERVICE_VLAN, VLAN, Tags, frame, scapy
from cellwall.attack.probe import Episode, Layer, Probe, Shot, Volley, layers
from cellwall.attack.rows.shapes import introduce_victim, solicitation, unique_mac, unique_prefix
from cellwall.attack.world import World

_BRIDGED = layers("PIN", "PORT")
_JIFFY = 0.011  # more than one tick at the lowest HZ: the kernel compares ages of neighbour entries in ticks


# ---------------------------------------------------------------- A06: ARP


def _arp_to_neighbour() -> Iterator[Probe]:
    for name, operation, gratuitous in (
        ("reply", 2, False),
        ("request", 1, False),
        ("gratuitous", 1, True),
        ("gratuitous-reply", 2, True),
    ):
        for reach in ("unicast", "broadcast"):

            def shots(
                w: World, token: bytes, operation: int = operation, gratuitous: bool = gratuitous, reach: str = reach
            ) -> Iterator[Shot]:
                target = w.gateway.ip4 if gratuitous else w.victim.ip4
                body = frames.arp(operation, w.attacker.mac, w.gateway.ip4, w.victim.mac, target) + token
                yield Shot(
                    "attacker",
                    frame(w.attacker.mac, w.victim.mac if reach == "unicast" else BROADCAST, body, kind=0x0806),
                )

            yield Volley(
                id=f"A06-neighbour-{name}-{reach}",
                row="A06",
                title=f"ARP {name}, {reach}: the gateway is at the attacker's MAC",
                layers=_BRIDGED,
                shots=shots,
                at=("victim",),
            )


def _arp_to_host() -> Iterator[Probe]:
    """The host's entry for the victim. `outer`: whose MAC the frame has; the ARP sender's MAC is the forged one."""
    for name, operation, gratuitous in (
        ("request", 1, False),
        ("reply", 2, False),
        ("gratuitous", 1, True),
        ("gratuitous-reply", 2, True),
    ):
        for outer in ("attacker", "forged", "victim"):

            def play(
                w: World, token: bytes, operation: int = operation, gratuitous: bool = gratuitous, outer: str = outer
            ) -> bool:
                forged = unique_mac(token)
                source = {"attacker": w.attacker.mac, "forged": forged, "victim": w.victim.mac}[outer]
                target = w.victim.ip4 if gratuitous else w.gateway.ip4
                body = frames.arp(operation, forged, w.victim.ip4, w.gateway.mac, target)
                introduce_victim(w)
                time.sleep(_JIFFY)
                w.fire([Shot("attacker", frame(source, BROADCAST if gratuitous else w.gateway.mac, body, kind=0x0806))])
                return w.node_neighbours().get(w.victim.ip4) == forged

            # With the attacker's own MAC outside, a locked port lets the frame in; with another one it does not.
            guarded = layers("PIN", "NB") if outer == "attacker" else layers("PIN", "NB", "PORT")
            yield Episode(
                id=f"A06-host-{name}-{outer}",
                row="A06",
                title=f"ARP {name} (frame from {outer}): the host takes the victim's address to be elsewhere",
                layers=guarded,
                play=play,
            )


# ---------------------------------------------------------------- A07: neighbour discovery


def _advertisement(w: World, source: str, target: str, lladdr: str, *, to: str, solicited: bool = False) -> Any:
    s = scapy()
    return (
        s.IPv6(src=source, dst=to, hlim=255)
        / s.ICMPv6ND_NA(tgt=target, R=0, S=int(solicited), O=1)
        / s.ICMPv6NDOptDstLLAddr(lladdr=lladdr)
    )


Build = Callable[[World, bytes], Any]


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


_TO_NEIGHBOUR: dict[str, tuple[str, Build]] = {
    "advertisement": ("unicast", lambda w, token: _false_advertisement(w, token, w.victim.ip6, solicited=True)),
    "advertisement-all-nodes": ("ff02::1", lambda w, token: _false_advertisement(w, token, "ff02::1")),
    "solicitation": ("solicited", _false_solicitation),
    "redirect": ("unicast", _false_redirect),
    "dad-denial": ("ff02::1", _dad_denial),
    "dad-probe": ("solicited", _dad_probe),
}
"""Name → where the frame goes (the victim's MAC, its solicited-node group, a group) and what is in it."""


def _nd_to_neighbour() -> Iterator[Probe]:
    for name, (reach, build) in _TO_NEIGHBOUR.items():

        def shots(w: World, token: bytes, reach: str = reach, build: Build = build) -> Iterator[Shot]:
            groups = {"unicast": w.victim.mac, "solicited": frames.group_mac(frames.solicited_group(w.victim.ip6))}
            target = groups.get(reach) or frames.group_mac(reach)
            yield Shot("attacker", frame(w.attacker.mac, target, build(w, token)))

        row = "A09" if name.startswith("dad") else "A07"
        yield Volley(
            id=f"{row}-neighbour-{name}",
            row=row,
            title=f"{name} to a neighbour",
            layers=_BRIDGED,
            families=frozenset({6}),
            shots=shots,
            at=("victim",),
        )


def _nd_to_host() -> Iterator[Probe]:
    forged_kinds = (
        "advertisement",
        "advertisement-own-source",
        "advertisement-all-nodes",
        "solicitation",
        "router-solicitation",
    )
    for kind in forged_kinds:
        for outer in ("attacker", "forged"):

            def play(w: World, token: bytes, kind: str = kind, outer: str = outer) -> bool:
                forged = unique_mac(token)
                source = w.attacker.mac if outer == "attacker" else forged
                introduce_victim(w)
                w.fire([Shot("attacker", _poison6(w, kind, source, forged))])
                return w.node_neighbours().get(w.victim.ip6) == forged

            # A solicitation for the gateway is what the guards let pass: the pins alone judge whose it is.
            stops: tuple[Layer, ...] = ("PIN", "NB") if kind == "solicitation" else ("PIN", "RAW", "PRE", "IN", "NB")
            if outer == "forged":
                stops = (*stops, "PORT")
            if kind == "router-solicitation":
                stops = (*stops, "SYS")
            yield Episode(
                id=f"A07-host-{kind}-{outer}",
                row="A07",
                title=f"{kind} (frame from {outer}): the host takes the victim's address to be elsewhere",
                layers=frozenset(stops),
                families=frozenset({6}),
                play=play,
            )


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


def _router_advertisement(w: World, token: bytes, evasion: str, prefix: str) -> Any:
    s = scapy()
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
        tags = tagged.get(name, ())
        for reach in ("group", "unicast"):

            def shots(
                w: World, token: bytes, evasion: str = evasion, tags: Tags = tags, reach: str = reach
            ) -> Iterator[Shot]:
                target = frames.group_mac("ff02::1") if reach == "group" else w.victim.mac
                body = _router_advertisement(w, token, evasion, unique_prefix(token))
                yield Shot("attacker", frame(w.attacker.mac, target, body, tags=tags))

            yield Volley(
                id=f"A08-neighbour-{name}-{reach}",
                row="A08",
                title=f"router advertisement ({name}, {reach} MAC) to a neighbour",
                layers=_BRIDGED,
                families=frozenset({6}),
                shots=shots,
                at=("victim",),
            )

        def play(w: World, token: bytes, evasion: str = evasion, tags: Tags = tags) -> bool:
            prefix = unique_prefix(token)
            body = _router_advertisement(w, token, evasion, prefix)
            w.fire([Shot("attacker", frame(w.attacker.mac, frames.group_mac("ff02::1"), body, tags=tags))])
            return w.node_believes_prefix(prefix)

        yield Episode(
            id=f"A08-host-{name}",
            row="A08",
            title=f"router advertisement ({name}) gives the host an address or a route",
            layers=layers("PIN", "RAW", "PRE", "IN", "SYS"),
            families=frozenset({6}),
            kernel="the kernel ignores fragmented discovery (RFC 6980)" if evasion == "atomic-fragment" else "",
            play=play,
        )


PROBES: tuple[Probe, ...] = (
    *_arp_to_neighbour(),
    *_arp_to_host(),
    *_nd_to_neighbour(),
    *_nd_to_host(),
    *_router_advertisements(),
)
