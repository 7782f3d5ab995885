"""D01, D02, D05: the node itself, on every address it has and by every protocol it might listen to."""

from collections.abc import Iterator
from itertools import product

from cellwall.attack.frames import ip, packet, scapy
from cellwall.attack.probe import Place, Probe, layers
from cellwall.attack.rows.routed import (
    OUTSIDE,
    Body,
    Choose,
    attackers,
    between,
    by_gateway,
    fixed,
    from_outside,
    gateways,
    surroundings,
    uplinks,
    volley,
)
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
    yield "gateway", gateways(family)
    yield "uplink", uplinks(family)
    for name in _OTHERS:
        yield name, surroundings(f"node-{name}", family)
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
        for (name, address), (service, protocol, port) in product(_addresses(family), _SERVICES):
            if protocol == "icmp" and name in ("gateway", "link-local"):
                continue  # a sandbox may ping its gateway
            yield volley(
                f"D01-{name}-{service}-v{family}",
                f"the node's {name} address, {service}, IPv{family}",
                _GUARD,
                by_gateway(between(attackers(family), address, protocol, dport=port)),
                "node",
                family=family,
                gentle=True,
                needs=_needs(name),
            )


def _tunnels() -> Iterator[Probe]:
    """What a tunnel's end on the node would take for a packet from its own side: here one to the neighbour."""
    for family in FAMILIES:
        for (name, number), (where, address) in product(_TUNNELS.items(), _addresses(family)):
            yield volley(
                f"D01-{where}-{name}-v{family}",
                f"the node's {where} address as the end of a tunnel, {name} over IPv{family}",
                _GUARD | (_UNVOUCHED if family == 6 else layers()),
                by_gateway(_tunnelled(attackers(family), address, number)),
                "node",
                family=family,
                gentle=True,
                needs=_needs(where),
            )


def _tunnelled(source: Choose, end: Choose, number: int) -> Body:
    def body(w: World, token: bytes) -> object:
        inside = 6 if number == 41 else 4
        inner = packet(w.gateway.ip(inside), w.victim.ip(inside), "udp", token)
        if number == 47:
            inner = scapy().GRE() / inner
        return ip(source(w), end(w), proto=number) / inner

    return body


def _groups() -> Iterator[Probe]:
    """Groups and broadcasts in a frame that is to the gateway alone."""
    for (name, target), protocol in product(_GROUPS.items(), ("udp", "icmp")):
        family = 6 if ":" in target else 4
        yield volley(
            f"D01-{name}-{protocol}",
            f"services of the node that listen to groups: {protocol} to {target}",
            # A host that forwards on single interfaces only is no member of the routers' group.
            _GUARD | (layers("SYS") if name == "all-routers" else layers()),
            by_gateway(between(attackers(family), fixed(target), protocol, dport=5353)),
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
            yield volley(
                f"D01-icmp-{name}-v{family}",
                f"ICMP for IPv{family} type {kind} to the node",
                _GUARD | (_UNVOUCHED if family == 6 and name != "reply" else layers()),
                by_gateway(_question(family, kind)),
                "node",
                family=family,
                gentle=True,
            )


def _question(family: int, kind: int) -> Body:
    def body(w: World, token: bytes) -> object:
        s = scapy()
        source, target = w.attacker.ip(family), w.gateway.ip(family)
        if family == 6:
            return ip(source, target, proto=58) / s.ICMPv6Unknown(type=kind, msgbody=bytes(20) + token)
        return ip(source, target, proto=1) / s.ICMP(type=kind) / s.Raw(bytes(16) + token)

    return body


# ---------------------------------------------------------------- D02: loopback


def _loopback() -> Iterator[Probe]:
    origins: tuple[Place, ...] = ("attacker", *OUTSIDE)
    targets = ("127.0.0.1", "127.0.0.53", "127.255.255.254", "::1")
    for origin, target, (protocol, port) in product(origins, targets, (("udp", 53), ("tcp", 8001), ("icmp", 0))):
        family, inside = 6 if ":" in target else 4, origin == "attacker"
        source = attackers(family) if inside else fixed(OUTSIDE[origin][family])
        body = between(source, fixed(target), protocol, dport=port)
        yield volley(
            f"D02-{origin}-{target}-{protocol}",
            f"{protocol} from the {origin} to the node's {target}",
            (_GUARD if inside else layers("RAW")) | layers("SYS"),
            by_gateway(body) if inside else from_outside(origin, body),
            "node",
            family=family,
            kernel="the kernel takes ::1 from its own loopback only (RFC 4291 2.5.3)" if family == 6 else "",
            gentle=inside,
        )


# ---------------------------------------------------------------- D05: hairpin


def _hairpin() -> Iterator[Probe]:
    for family in FAMILIES:
        for (name, address), protocol in product(_addresses(family), ("udp", "tcp")):
            yield volley(
                f"D05-{name}-{protocol}-v{family}",
                f"the victim's published port by the node's {name} address, {protocol}, IPv{family}",
                layers("PRE", "NAT", "FWD"),
                by_gateway(between(attackers(family), address, protocol, dport=PUBLISHED)),
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
