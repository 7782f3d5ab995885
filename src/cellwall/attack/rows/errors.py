"""B04: ICMP errors about flows that are somebody else's: they take a flow's path, or its speed, away."""

import socket
from collections.abc import Iterator
from itertools import product
from typing import Any

import msgspec

from cellwall.attack.frames import frame, ip, packet, scapy
from cellwall.attack.probe import Place, Probe, Shot, layers
from cellwall.attack.rows.routed import FAR, OUTSIDE, by_gateway, from_outside, in_turn, volley
from cellwall.attack.rows.shapes import FAMILIES, Shots, episode
from cellwall.attack.stage import PUBLISHED, PUBLISHED_TO
from cellwall.attack.world import World
from cellwall.lab.capture import one_cpu

_TRANSLATED = "translation drops a redirect about a translated flow"
_SPORT, _SMALL = 41234, 1280
_ERRORS4 = {
    "too-big": {"type": 3, "code": 4, "nexthopmtu": 576},
    "port-unreachable": {"type": 3, "code": 3},
    "host-unreachable": {"type": 3, "code": 1},
    "time-exceeded": {"type": 11, "code": 0},
    "parameter-problem": {"type": 12, "code": 0},
    "redirect": {"type": 5, "code": 1},
    "source-quench": {"type": 4, "code": 0},
}
_ERRORS6 = {"too-big": 2, "port-unreachable": 1, "time-exceeded": 3, "parameter-problem": 4}


def _kinds(family: int) -> tuple[str, ...]:
    return tuple(_ERRORS4 if family == 4 else _ERRORS6)


def _error(source: str, target: str, kind: str, quoted: Any) -> Any:
    """An ICMP error that quotes a packet."""
    s = scapy()
    if ":" not in source:
        router = {"gw": source} if kind == "redirect" else {}
        return ip(source, target, proto=1) / s.ICMP(**_ERRORS4[kind], **router) / s.Raw(bytes(quoted))
    head = {2: s.ICMPv6PacketTooBig, 1: s.ICMPv6DestUnreach, 3: s.ICMPv6TimeExceeded, 4: s.ICMPv6ParamProblem}
    fields6 = {"mtu": _SMALL} if kind == "too-big" else {"code": 4 if kind == "port-unreachable" else 0}
    return ip(source, target, proto=58) / head[_ERRORS6[kind]](**fields6) / s.Raw(bytes(quoted))


# ---------------------------------------------------------------- to the far end of a neighbour's flow


class _Flow(msgspec.Struct, frozen=True):
    """A flow of the neighbour's to a server on the Internet, and errors about it."""

    family: int
    kind: str
    far_port: int

    def opening(self, w: World, token: bytes) -> object:
        return self._sent(w, b"opening")

    def error_to_server(self, w: World, token: bytes) -> object:
        own, far = w.victim.ip(self.family), FAR[self.family]
        answer = packet(far, own, "udp", token, sport=self.far_port, dport=_SPORT)
        return _error(w.attacker.ip(self.family), far, self.kind, answer)

    def error_to_neighbour(self, w: World, token: bytes) -> object:
        return _error(w.attacker.ip(self.family), w.victim.ip(self.family), self.kind, self._sent(w, token))

    def _sent(self, w: World, token: bytes) -> object:
        return packet(w.victim.ip(self.family), FAR[self.family], "udp", token, sport=_SPORT, dport=self.far_port)


def about_a_neighbour(family: int, far_port: int) -> tuple[Shots, Shots]:
    """The victim opens a flow, and the attacker sends an error about it to its far end."""
    flow = _Flow(family, "port-unreachable", far_port)
    return by_gateway(flow.opening, origin="victim"), by_gateway(flow.error_to_server)


def _about_neighbours() -> Iterator[Probe]:
    for family in FAMILIES:
        for number, kind in enumerate(_kinds(family)):
            flow = _Flow(family, kind, 7100 + number)  # every probe has a flow of its own
            yield volley(
                f"B04-{kind}-server-v{family}",
                f"an IPv{family} {kind} error about a neighbour's flow, to the server that a neighbour speaks with",
                layers("FWD"),
                in_turn(by_gateway(flow.opening, origin="victim"), by_gateway(flow.error_to_server)),
                "internet",
                family=family,
                kernel=_TRANSLATED if kind == "redirect" else "",
            )
            yield volley(
                f"B04-{kind}-neighbour-v{family}",
                f"an IPv{family} {kind} error about a neighbour's flow, to the neighbour itself",
                layers("PRE", "FWD"),
                in_turn(by_gateway(flow.opening, origin="victim"), by_gateway(flow.error_to_neighbour)),
                "victim",
                family=family,
            )


class _Client(msgspec.Struct, frozen=True):
    """A client of the neighbour's published port, and an error about what it asked."""

    family: int
    kind: str
    address: str
    port: int

    def asking(self, w: World, token: bytes) -> object:
        return packet(self.address, w.uplink(self.family), "udp", b"asking", sport=self.port, dport=PUBLISHED)

    def error(self, w: World, token: bytes) -> object:
        asked = packet(self.address, w.victim.ip(self.family), "udp", token, sport=self.port, dport=PUBLISHED_TO)
        return _error(w.attacker.ip(self.family), self.address, self.kind, asked)


def _about_published() -> Iterator[Probe]:
    """To a client of a neighbour's published port."""
    origins: tuple[Place, ...] = ("lan", "internet")
    for family, origin in product(FAMILIES, origins):
        for number, kind in enumerate(_kinds(family)):
            client = _Client(family, kind, OUTSIDE[origin][family], 42000 + number)
            yield volley(
                f"B04-{kind}-client-{origin}-v{family}",
                f"an IPv{family} {kind} error to a client ({origin}) of a neighbour's published port",
                layers("FWD"),
                in_turn(from_outside(origin, client.asking), by_gateway(client.error)),
                origin,
                family=family,
                kernel=_TRANSLATED if kind == "redirect" else "",
            )


# ---------------------------------------------------------------- about flows of the node's own


def _about_the_nodes() -> Iterator[Probe]:
    for family in FAMILIES:
        for kind in _kinds(family):
            for name in ("internet", "neighbour"):
                yield _about_one_of_the_nodes(family, kind, name)


def _about_one_of_the_nodes(family: int, kind: str, name: str) -> Probe:
    def play(w: World, token: bytes) -> bool:
        own, peer = w.gateway.ip(family), w.victim.ip(family)
        if name == "internet":
            own, peer = w.uplink(family), FAR[family]
        with w.node.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as sock, one_cpu():
            sock.bind((own, _SPORT))
            sock.sendto(b"of the node", (peer, 7200))
            quoted = packet(own, peer, "udp", token, sport=_SPORT, dport=7200)
            body = _error(w.attacker.ip(family), own, kind, quoted)
            return w.fire([Shot("attacker", frame(w.attacker.mac, w.gateway.mac, body))]).saw(token, "node")

    return episode(
        f"B04-{kind}-node-{name}-v{family}",
        f"an IPv{family} {kind} error about a flow of the node's own to the {name}",
        layers("PRE", "IN"),
        play,
        family=family,
    )


PROBES: tuple[Probe, ...] = (*_about_neighbours(), *_about_published(), *_about_the_nodes())
