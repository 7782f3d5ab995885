"""B07, D03, D04, D15: translation and routing turned against sandboxes, the node, and the networks around it."""

from collections.abc import Iterator

from cellwall.attack.frames import packet, scapy
from cellwall.attack.probe import Episode, Layer, Place, Probe, layers
from cellwall.attack.rows.routed import FAR, OUTSIDE, PUBLIC, Choose, by_gateway, from_outside, in_turn, volley
from cellwall.attack.rows.shapes import FAMILIES, PROTOCOLS
from cellwall.attack.stage import PUBLISHED, PUBLISHED_TO
from cellwall.attack.world import World
from cellwall.lab import addresses as at

_NOT_BY_UPLINK: tuple[Place, ...] = ("infra", "other")
ATTACKERS_PORT = 8443
"""A port that the attacker published itself."""


def _unrouted(origin: Place) -> frozenset[Layer]:
    """What is not the node interface forwards nothing."""
    return layers("SYS") if origin in _NOT_BY_UPLINK else layers()


# ---------------------------------------------------------------- B07: port shadowing


def _shadowing() -> Iterator[Probe]:
    """A flow from a chosen source port, and what its far end then sends to that port of the node."""
    ports = {"dns": 53, "ssh": 22, "ntp": 123, "quic": 443, "mdns": 5353, "published": PUBLISHED, "ephemeral": 40123}
    for family in FAMILIES:
        for name, port in ports.items():
            for protocol in ("udp", "tcp"):
                # Every pair of these has a far port of its own, so that no flow is another's.
                far = 7000 + port % 1000

                def opening(
                    w: World,
                    token: bytes,
                    family: int = family,
                    protocol: str = protocol,
                    port: int = port,
                    far: int = far,
                ) -> object:
                    return packet(w.attacker.ip(family), FAR[family], protocol, b"opening", sport=port, dport=far)

                def answer(
                    w: World,
                    token: bytes,
                    family: int = family,
                    protocol: str = protocol,
                    port: int = port,
                    far: int = far,
                ) -> object:
                    reply = packet(FAR[family], w.uplink(family), protocol, token, sport=far, dport=port)
                    if protocol == "tcp":
                        reply[scapy().TCP].flags, reply[scapy().TCP].ack = "SA", 1001 + len(b"opening")
                    return reply

                yield volley(
                    f"B07-{name}-{protocol}-v{family}",
                    f"a flow from source port {port} takes over what comes to {protocol} port {port} of the node",
                    layers("NAT"),
                    in_turn(by_gateway(opening), from_outside("internet", answer)),
                    "attacker",
                    family=family,
                )


# ---------------------------------------------------------------- D03: routed straight in


def _straight() -> Iterator[Probe]:
    for family in FAMILIES:
        for origin in OUTSIDE:
            for protocol in PROTOCOLS:
                for name, port in (("published", PUBLISHED_TO), ("other", 22)):
                    if protocol == "icmp" and name == "other":
                        continue

                    def body(
                        w: World,
                        token: bytes,
                        family: int = family,
                        origin: Place = origin,
                        protocol: str = protocol,
                        port: int = port,
                    ) -> object:
                        return packet(OUTSIDE[origin][family], w.victim.ip(family), protocol, token, dport=port)

                    yield volley(
                        f"D03-{origin}-{name}-{protocol}-v{family}",
                        f"{origin} routes IPv{family} {protocol} straight to a container's {name} port",
                        layers("RAW", "FWD") | _unrouted(origin),
                        from_outside(origin, body),
                        "victim",
                        family=family,
                    )
            yield from _to_bridge(origin, family)


def _to_bridge(origin: Place, family: int) -> Iterator[Probe]:
    targets: dict[str, Choose] = {"gateway": lambda w: w.gateway.ip(family)}
    if family == 4:
        targets["broadcast"] = lambda w: "192.168.15.255"
    for name, target in targets.items():
        for protocol in PROTOCOLS:

            def body(w: World, token: bytes, target: Choose = target, protocol: str = protocol) -> object:
                return packet(OUTSIDE[origin][family], target(w), protocol, token, dport=53)

            yield volley(
                f"D03-{origin}-{name}-{protocol}-v{family}",
                f"{origin} sends IPv{family} {protocol} to the bridge's {name} address",
                layers("RAW"),
                from_outside(origin, body),
                "node",
                family=family,
            )


def _borrowed() -> Iterator[Probe]:
    """A source of the sandboxes' network from outside of it: the node's answer, or its refusal, would go to a sandbox,
    and a published service would believe that a neighbour speaks."""
    for family in FAMILIES:
        for origin in OUTSIDE:
            for protocol in ("udp", "icmp"):  # a reset quotes nothing, so it shows nothing

                def to_node(w: World, token: bytes, family: int = family, protocol: str = protocol) -> object:
                    return packet(w.victim.ip(family), w.uplink(family), protocol, token, dport=9041)

                yield volley(
                    f"D03-{origin}-reflected-{protocol}-v{family}",
                    f"{origin} asks the node by {protocol} with the source of a container, which gets the answer",
                    layers("RAW"),
                    from_outside(origin, to_node),
                    "victim",
                    family=family,
                )
        for protocol in ("udp", "tcp"):

            def to_published(w: World, token: bytes, family: int = family, protocol: str = protocol) -> object:
                return packet(w.attacker.ip(family), w.uplink(family), protocol, token, dport=PUBLISHED)

            yield volley(
                f"D03-lan-neighbour-{protocol}-v{family}",
                f"lan speaks to a published {protocol} port with the source of another container, IPv{family}",
                layers("RAW"),
                from_outside("lan", to_published),
                "victim",
                family=family,
            )


# ---------------------------------------------------------------- D04: unscoped DNAT


def _captured() -> Iterator[Probe]:
    """Connections to a published port number of somebody else's, elsewhere."""
    cases: tuple[tuple[str, Place, int, Place, frozenset[Layer]], ...] = (
        ("attacker", "attacker", PUBLISHED, "victim", layers("NAT", "FWD")),
        ("neighbour", "victim", ATTACKERS_PORT, "attacker", layers("NAT", "FWD")),
        ("lan", "lan", ATTACKERS_PORT, "attacker", layers("NAT")),
        ("infra", "infra", ATTACKERS_PORT, "attacker", layers("NAT", "FWD", "SYS")),
        ("other", "other", ATTACKERS_PORT, "attacker", layers("NAT", "FWD", "SYS")),
    )
    for family in FAMILIES:
        for name, origin, port, where, stops in cases:
            for protocol in ("udp", "tcp"):

                def body(
                    w: World,
                    token: bytes,
                    family: int = family,
                    origin: Place = origin,
                    protocol: str = protocol,
                    port: int = port,
                ) -> object:
                    seats = {"attacker": w.attacker, "victim": w.victim}
                    source = seats[origin].ip(family) if origin in seats else OUTSIDE[origin][family]
                    return packet(source, PUBLIC[family], protocol, token, sport=40004, dport=port)

                yield volley(
                    f"D04-{name}-{protocol}-v{family}",
                    f"a published {protocol} port captures what {name} sends to that port on the Internet, IPv{family}",
                    stops,
                    by_gateway(body, origin=origin) if origin in ("attacker", "victim") else from_outside(origin, body),
                    where,
                    family=family,
                )
        yield _captured_from_node(family)
        yield from _by_another_interface(family)


def _captured_from_node(family: int) -> Probe:
    def play(w: World, token: bytes) -> bool:
        w.observers.discard()
        w.node_sends(PUBLIC[family], token, port=ATTACKERS_PORT)
        return w.settle().saw(token, "attacker")

    return Episode(
        id=f"D04-node-v{family}",
        row="D04",
        title=f"a published port captures what the node itself sends to that port on the Internet, IPv{family}",
        layers=layers("NAT", "OUT"),
        families=frozenset({family}),
        play=play,
    )


def _by_another_interface(family: int) -> Iterator[Probe]:
    """A port is published at the node interface; by another one it is not."""
    addresses: dict[Place, tuple[str, str]] = {
        "infra": (at.NODE_INFRA4, at.NODE_INFRA6),
        "other": (at.NODE_OTHER4, at.NODE_OTHER6),
    }
    for origin in _NOT_BY_UPLINK:
        for name, target in (
            ("own", addresses[origin][family == 6]),
            ("uplinks", at.NODE6 if family == 6 else at.NODE4),
        ):

            def body(w: World, token: bytes, origin: Place = origin, target: str = target) -> object:
                return packet(OUTSIDE[origin][family], target, "udp", token, dport=PUBLISHED)

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
    for family in FAMILIES:
        for origin in OUTSIDE:
            for where in OUTSIDE:
                if where == origin or {origin, where} == {"lan", "internet"}:
                    continue  # these two share a link
                for protocol in PROTOCOLS:

                    def body(
                        w: World,
                        token: bytes,
                        family: int = family,
                        origin: Place = origin,
                        where: Place = where,
                        protocol: str = protocol,
                    ) -> object:
                        return packet(OUTSIDE[origin][family], OUTSIDE[where][family], protocol, token, dport=9040)

                    yield volley(
                        f"D15-{origin}-{where}-{protocol}-v{family}",
                        f"the node routes IPv{family} {protocol} from {origin} to {where}",
                        layers("FWD") | _unrouted(origin),
                        from_outside(origin, body),
                        where,
                        family=family,
                    )


PROBES: tuple[Probe, ...] = (*_shadowing(), *_straight(), *_borrowed(), *_captured(), *_router())
