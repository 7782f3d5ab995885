"""D01, D02, D05: the node itself, on every address it has and by every protocol it might listen to."""

from collections.abc import Iterator

from cellwall.attack.frames import ip, packet, scapy
from cellwall.attack.probe import Layer, Place, Probe, layers
from cellwall.attack.rows.routed import OUTSIDE, Choose, by_gateway, from_outside, volley
from cellwall.attack.rows.shapes import FAMILIES
from cellwall.attack.stage import PUBLISHED
from cellwall.attack.world import World

_GUARD = layers("PRE", "IN")
_UNVOUCHED = layers("PIN", "RAW")

_SERVICES: tuple[tuple[str, str | int, int], ...] = (
    ("ssh", "tcp", 22),
    ("docker", "tcp", 2375),
    ("kubelet", "tcp", 10250),
    ("dns-tcp", "tcp", 53),
    ("dns", "udp", 53),
    ("dhcp", "udp", 67),
    ("vxlan", "udp", 4789),
    ("wireguard", "udp", 51820),
    ("icmp", "icmp", 0),
)
_TUNNELS = {"ipip": 4, "6in4": 41, "gre": 47, "esp": 50, "ah": 51, "sctp": 132}

_OTHERS = ("infra", "other-bridge")
"""The node's further interfaces."""


def _addresses(family: int) -> Iterator[tuple[str, Choose]]:
    """Every address of the node."""

    yield "gateway", lambda w: w.gateway.ip(family)
    yield "uplink", lambda w: w.uplink(family)
    for name in _OTHERS:
        yield name, lambda w, name=name: w.around(f"node-{name}", family)  # type: ignore[misc]
    if family == 6:
        yield "link-local", lambda w: w.gateway.link_local


def _needs(name: str) -> str:
    return f"node-{name}" if name in _OTHERS else ""


_GROUPS: dict[str, str] = {
    "limited-broadcast": "255.255.255.255",
    "subnet-broadcast": "192.168.15.255",
    "uplink-broadcast": "93.184.216.255",
    "infra-broadcast": "172.20.0.255",
    "all-hosts": "224.0.0.1",
    "all-nodes": "ff02::1",
    "all-nodes-of-the-host": "ff01::1",
    "all-routers": "ff02::2",
}


def _services() -> Iterator[Probe]:
    for family in FAMILIES:
        for name, address in _addresses(family):
            for service, protocol, port in _SERVICES:
                if protocol == "icmp" and name in ("gateway", "link-local"):
                    continue  # a sandbox may ping its gateway

                def body(
                    w: World,
                    token: bytes,
                    address: Choose = address,
                    family: int = family,
                    protocol: str | int = protocol,
                    port: int = port,
                ) -> object:
                    return packet(w.attacker.ip(family), address(w), protocol, token, dport=port)

                yield volley(
                    f"D01-{name}-{service}-v{family}",
                    f"the node's {name} address, {service}, IPv{family}",
                    _GUARD,
                    by_gateway(body),
                    "node",
                    family=family,
                    gentle=True,
                    needs=_needs(name),
                )


def _tunnels() -> Iterator[Probe]:
    """What a tunnel's end on the node would take for a packet from its own side: here one to the neighbour."""
    for family in FAMILIES:
        for name, number in _TUNNELS.items():
            for where, address in _addresses(family):

                def body(
                    w: World, token: bytes, address: Choose = address, family: int = family, number: int = number
                ) -> object:
                    inside = 6 if number == 41 else 4
                    inner = packet(w.gateway.ip(inside), w.victim.ip(inside), "udp", token)
                    if number == 47:
                        inner = scapy().GRE() / inner
                    return ip(w.attacker.ip(family), address(w), proto=number) / inner

                yield volley(
                    f"D01-{where}-{name}-v{family}",
                    f"the node's {where} address as the end of a tunnel, {name} over IPv{family}",
                    _GUARD | (_UNVOUCHED if family == 6 else layers()),
                    by_gateway(body),
                    "node",
                    family=family,
                    gentle=True,
                    needs=_needs(where),
                )


def _groups() -> Iterator[Probe]:
    """Groups and broadcasts in a frame that is to the gateway alone."""
    for name, target in _GROUPS.items():
        family = 6 if ":" in target else 4
        for protocol in ("udp", "icmp"):

            def body(w: World, token: bytes, target: str = target, protocol: str = protocol) -> object:
                return packet(w.attacker.ip(6 if ":" in target else 4), target, protocol, token, dport=5353)

            yield volley(
                f"D01-{name}-{protocol}",
                f"services of the node that listen to groups: {protocol} to {target}",
                # A host that forwards on single interfaces only is no member of the routers' group.
                _GUARD | (layers("SYS") if name == "all-routers" else layers()),
                by_gateway(body),
                "node",
                family=family,
                kernel="the kernel takes ff01::/16 from no wire" if target.startswith("ff01") else "",
            )


def _questions() -> Iterator[Probe]:
    """ICMP that asks the node things other than whether it is there."""
    four = {"timestamp": 13, "information": 15, "mask": 17, "solicitation": 10, "reply": 0}
    six = {"node-information": 139, "listener-query": 130, "listener-report": 143, "renumbering": 138, "reply": 129}
    for family, table in ((4, four), (6, six)):
        for name, kind in table.items():

            def body(w: World, token: bytes, family: int = family, kind: int = kind) -> object:
                s = scapy()
                source, target = w.attacker.ip(family), w.gateway.ip(family)
                if family == 6:
                    return ip(source, target, proto=58) / s.ICMPv6Unknown(type=kind, msgbody=bytes(20) + token)
                return ip(source, target, proto=1) / s.ICMP(type=kind) / s.Raw(bytes(16) + token)

            yield volley(
                f"D01-icmp-{name}-v{family}",
                f"ICMP for IPv{family} type {kind} to the node",
                _GUARD | (_UNVOUCHED if family == 6 and name != "reply" else layers()),
                by_gateway(body),
                "node",
                family=family,
                gentle=True,
            )


# ---------------------------------------------------------------- D02: loopback


def _loopback() -> Iterator[Probe]:
    from_attacker: tuple[Place, frozenset[Layer]] = ("attacker", _GUARD | layers("SYS"))
    outside: list[tuple[Place, frozenset[Layer]]] = [
        (place, layers("RAW", "SYS")) for place in ("lan", "internet", "infra", "other")
    ]
    for origin, stops in (from_attacker, *outside):
        for target in ("127.0.0.1", "127.0.0.53", "127.255.255.254", "::1"):
            for protocol, port in (("udp", 53), ("tcp", 8001), ("icmp", 0)):

                def body(
                    w: World,
                    token: bytes,
                    origin: Place = origin,
                    target: str = target,
                    protocol: str = protocol,
                    port: int = port,
                ) -> object:
                    family = 6 if ":" in target else 4
                    source = w.attacker.ip(family) if origin == "attacker" else OUTSIDE[origin][family]
                    return packet(source, target, protocol, token, dport=port)

                v6 = ":" in target
                yield volley(
                    f"D02-{origin}-{target}-{protocol}",
                    f"{protocol} from the {origin} to the node's {target}",
                    stops,
                    by_gateway(body) if origin == "attacker" else from_outside(origin, body),
                    "node",
                    family=6 if v6 else 4,
                    kernel="the kernel takes ::1 from its own loopback only (RFC 4291 2.5.3)" if v6 else "",
                    gentle=origin == "attacker",
                )


# ---------------------------------------------------------------- D05: hairpin


def _hairpin() -> Iterator[Probe]:
    for family in FAMILIES:
        for name, address in _addresses(family):
            for protocol in ("udp", "tcp"):

                def body(
                    w: World, token: bytes, address: Choose = address, family: int = family, protocol: str = protocol
                ) -> object:
                    return packet(w.attacker.ip(family), address(w), protocol, token, dport=PUBLISHED)

                yield volley(
                    f"D05-{name}-{protocol}-v{family}",
                    f"the victim's published port by the node's {name} address, {protocol}, IPv{family}",
                    layers("PRE", "NAT", "FWD"),
                    by_gateway(body),
                    "victim",
                    family=family,
                    needs=_needs(name),
                )


PROBES: tuple[Probe, ...] = (
    *_services(),
    *_tunnels(),
    *_groups(),
    *_questions(),
    *_loopback(),
    *_hairpin(),
)
