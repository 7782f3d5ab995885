"""B07, D03, D04, D15: translation and routing turned against sandboxes, the node, and the networks around it."""

from collections.abc import Iterator
from itertools import permutations, product

import msgspec

from cellwall.attack.frames import packet, scapy
from cellwall.attack.probe import Layer, Place, Probe, layers
from cellwall.attack.rows.routed import (
    FAR,
    OUTSIDE,
    PUBLIC,
    Choose,
    attackers,
    between,
    by_gateway,
    fixed,
    from_outside,
    gateways,
    in_turn,
    uplinks,
    victims,
    volley,
)
from cellwall.attack.rows.shapes import FAMILIES, PROTOCOLS, episode
from cellwall.attack.stage import PUBLISHED, PUBLISHED_TO
from cellwall.attack.world import World
from cellwall.lab import addresses as at

_NOT_BY_UPLINK: tuple[Place, ...] = ("infra", "other")
_WITH_PORTS = ("udp", "tcp")
ATTACKERS_PORT = 8443
"""A port that the attacker published itself."""


def _unrouted(origin: Place) -> frozenset[Layer]:
    """What is not the node interface forwards nothing."""
    return layers("SYS") if origin in _NOT_BY_UPLINK else layers()


def _outsider(origin: Place, family: int) -> Choose:
    return fixed(OUTSIDE[origin][family])


# ---------------------------------------------------------------- B07: port shadowing


class _Shadow(msgspec.Struct, frozen=True):
    """A flow from a chosen source port, and what its far end then sends to that port of the node."""

    name: str
    port: int
    protocol: str
    family: int

    @property
    def far_port(self) -> int:
        """One for every shadow of a protocol, so that no flow is another's."""
        return 7000 + self.port % 1000

    def opening(self, w: World, token: bytes) -> object:
        source, far = w.attacker.ip(self.family), FAR[self.family]
        return packet(source, far, self.protocol, b"opening", sport=self.port, dport=self.far_port)

    def answer(self, w: World, token: bytes) -> object:
        far, target = FAR[self.family], w.uplink(self.family)
        reply = packet(far, target, self.protocol, token, sport=self.far_port, dport=self.port)
        if self.protocol == "tcp":
            reply[scapy().TCP].flags, reply[scapy().TCP].ack = "SA", 1001 + len(b"opening")
        return reply

    def probe(self) -> Probe:
        name, port, protocol = self.name, self.port, self.protocol
        return volley(
            f"B07-{name}-{protocol}-v{self.family}",
            f"a flow from source port {port} takes over what comes to {protocol} port {port} of the node",
            layers("NAT"),
            in_turn(by_gateway(self.opening), from_outside("internet", self.answer)),
            "attacker",
            family=self.family,
        )


def _shadowing() -> Iterator[Probe]:
    ports = {"dns": 53, "ssh": 22, "ntp": 123, "quic": 443, "mdns": 5353, "published": PUBLISHED, "ephemeral": 40123}
    for family, (name, port), protocol in product(FAMILIES, ports.items(), _WITH_PORTS):
        yield _Shadow(name, port, protocol, family).probe()


# ---------------------------------------------------------------- D03: routed straight in


def _straight() -> Iterator[Probe]:
    for family, origin in product(FAMILIES, OUTSIDE):
        for protocol, (name, port) in product(PROTOCOLS, (("published", PUBLISHED_TO), ("other", 22))):
            if protocol == "icmp" and name == "other":
                continue
            yield volley(
                f"D03-{origin}-{name}-{protocol}-v{family}",
                f"{origin} routes IPv{family} {protocol} straight to a container's {name} port",
                layers("RAW", "FWD") | _unrouted(origin),
                from_outside(origin, between(_outsider(origin, family), victims(family), protocol, dport=port)),
                "victim",
                family=family,
            )
        yield from _to_bridge(origin, family)


def _to_bridge(origin: Place, family: int) -> Iterator[Probe]:
    targets = {"gateway": gateways(family)} | ({"broadcast": fixed("192.168.15.255")} if family == 4 else {})
    for (name, target), protocol in product(targets.items(), PROTOCOLS):
        yield volley(
            f"D03-{origin}-{name}-{protocol}-v{family}",
            f"{origin} sends IPv{family} {protocol} to the bridge's {name} address",
            layers("RAW"),
            from_outside(origin, between(_outsider(origin, family), target, protocol, dport=53)),
            "node",
            family=family,
        )


def _borrowed() -> Iterator[Probe]:
    """A source of the sandboxes' network from outside of it: the node's answer, or its refusal, would go to a sandbox,
    and a published service would believe that a neighbour speaks."""
    for family in FAMILIES:
        for origin, protocol in product(OUTSIDE, ("udp", "icmp")):  # a reset quotes nothing, so it shows nothing
            yield volley(
                f"D03-{origin}-reflected-{protocol}-v{family}",
                f"{origin} asks the node by {protocol} with the source of a container, which gets the answer",
                layers("RAW"),
                from_outside(origin, between(victims(family), uplinks(family), protocol, dport=9041)),
                "victim",
                family=family,
            )
        for protocol in _WITH_PORTS:
            yield volley(
                f"D03-lan-neighbour-{protocol}-v{family}",
                f"lan speaks to a published {protocol} port with the source of another container, IPv{family}",
                layers("RAW"),
                from_outside("lan", between(attackers(family), uplinks(family), protocol, dport=PUBLISHED)),
                "victim",
                family=family,
            )


# ---------------------------------------------------------------- D04: unscoped DNAT


class _Capture(msgspec.Struct, frozen=True):
    """Who connects to a published port number of somebody else's elsewhere, and where that would arrive."""

    name: str
    origin: Place
    port: int
    where: Place
    stops: frozenset[Layer]

    def probe(self, family: int, protocol: str) -> Probe:
        inside = {"attacker": attackers, "victim": victims}.get(self.origin)
        source = inside(family) if inside else _outsider(self.origin, family)
        body = between(source, fixed(PUBLIC[family]), protocol, sport=40004, dport=self.port)
        return volley(
            f"D04-{self.name}-{protocol}-v{family}",
            f"a published {protocol} port captures what {self.name} sends to that port on the Internet, IPv{family}",
            self.stops,
            by_gateway(body, origin=self.origin) if inside else from_outside(self.origin, body),
            self.where,
            family=family,
        )


_CAPTURES = (
    _Capture("attacker", "attacker", PUBLISHED, "victim", layers("NAT", "FWD")),
    _Capture("neighbour", "victim", ATTACKERS_PORT, "attacker", layers("NAT", "FWD")),
    _Capture("lan", "lan", ATTACKERS_PORT, "attacker", layers("NAT")),
    _Capture("infra", "infra", ATTACKERS_PORT, "attacker", layers("NAT", "FWD", "SYS")),
    _Capture("other", "other", ATTACKERS_PORT, "attacker", layers("NAT", "FWD", "SYS")),
)


def _captured() -> Iterator[Probe]:
    for family in FAMILIES:
        for capture, protocol in product(_CAPTURES, _WITH_PORTS):
            yield capture.probe(family, protocol)
        yield _captured_from_node(family)
        yield from _by_another_interface(family)


def _captured_from_node(family: int) -> Probe:
    def play(w: World, token: bytes) -> bool:
        w.observers.discard()
        w.node_sends(PUBLIC[family], token, port=ATTACKERS_PORT)
        return w.settle().saw(token, "attacker")

    return episode(
        f"D04-node-v{family}",
        f"a published port captures what the node itself sends to that port on the Internet, IPv{family}",
        layers("NAT", "OUT"),
        play,
        family=family,
    )


def _by_another_interface(family: int) -> Iterator[Probe]:
    """A port is published at the node interface; by another one it is not."""
    own: dict[Place, dict[int, str]] = {"infra": at.NODE_INFRA, "other": at.NODE_OTHER}
    for origin in _NOT_BY_UPLINK:
        for name, target in (("own", own[origin]), ("uplinks", at.NODE)):
            body = between(_outsider(origin, family), fixed(target[family]), "udp", dport=PUBLISHED)
            yield volley(
                f"D04-by-{origin}-{name}-v{family}",
                f"a published port by way of another interface, from {origin} to the {name} address, IPv{family}",
                layers("NAT", "FWD", "SYS"),
                from_outside(origin, body),
                "victim",
                family=family,
            )


# ---------------------------------------------------------------- D15: the node as a router


def _router() -> Iterator[Probe]:
    for family, (origin, where) in product(FAMILIES, permutations(OUTSIDE, 2)):
        if {origin, where} == {"lan", "internet"}:
            continue  # these two share a link
        for protocol in PROTOCOLS:
            body = between(_outsider(origin, family), _outsider(where, family), protocol, dport=9040)
            yield volley(
                f"D15-{origin}-{where}-{protocol}-v{family}",
                f"the node routes IPv{family} {protocol} from {origin} to {where}",
                layers("FWD") | _unrouted(origin),
                from_outside(origin, body),
                where,
                family=family,
            )


PROBES: tuple[Probe, ...] = (*_shadowing(), *_straight(), *_borrowed(), *_captured(), *_router())
