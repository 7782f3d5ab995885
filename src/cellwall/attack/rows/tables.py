"""A10-A14: the bridge's and the node's tables. Stolen and flooded entries, answers for other addresses, and a bridge
port that is not ours."""

import socket
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

from cellwall.attack import frames
from cellwall.attack.frames import BROADCAST, VLAN, frame, packet
from cellwall.attack.probe import Layer, Place, Probe, Shot, layers
from cellwall.attack.rows.bridged import BRIDGED
from cellwall.attack.rows.routed import volley
from cellwall.attack.rows.shapes import FAMILIES, episode, introduce_victim, solicitation
from cellwall.attack.world import World
from cellwall.lab import addresses as at

# ---------------------------------------------------------------- A10, A11: the forwarding table


def _thefts() -> Iterator[Probe]:
    for kind in ("ipv4-own", "ipv4-victim", "ipv6-victim", "arp", "unknown", "llc", "tagged"):
        yield episode(
            f"A10-{kind}",
            f"MAC theft by {kind}: the host's packets to the victim arrive at the attacker",
            layers("PIN", "PORT", "FDB"),
            partial(_stolen, kind=kind),
            family=6 if "ipv6" in kind else None,
        )


def _stolen(w: World, token: bytes, *, kind: str) -> bool:
    def steal() -> None:
        introduce_victim(w)
        w.inject("attacker", [_theft(w, kind)])
        w.node_sends(w.victim.ip4, token)

    w.observers.discard()
    sight = w.seen_of(steal)
    introduce_victim(w)
    return sight.saw(token, "attacker")


def _theft(w: World, kind: str) -> bytes:
    v, g = w.victim, w.gateway
    if kind == "arp":
        return frame(v.mac, BROADCAST, frames.arp(1, v.mac, v.ip4, "00:00:00:00:00:00", g.ip4), kind=0x0806)
    if kind == "unknown":
        return frame(v.mac, g.mac, bytes(46), kind=0x88B5)
    if kind == "llc":
        return frame(v.mac, g.mac, bytes.fromhex("aaaa03") + bytes(43), kind=46)
    if kind == "tagged":
        return frame(v.mac, g.mac, packet(v.ip4, g.ip4, "udp", b"theft"), tags=((VLAN, 0),))
    source = {"ipv4-victim": v.ip4, "ipv4-own": w.attacker.ip4, "ipv6-victim": v.ip6}[kind]
    return frame(v.mac, g.mac, packet(source, g.ip(6 if ":" in source else 4), "udp", b"theft"))


def _fills_the_forwarding_table(w: World, token: bytes) -> bool:
    macs = [f"02:0f:1d:00:00:{number:02x}" for number in range(64)]
    body = packet(w.attacker.ip4, w.gateway.ip4, "udp", token)
    w.fire(Shot("attacker", frame(mac, w.gateway.mac, body)) for mac in macs)
    return any(mac in w.forwarding_entries() for mac in macs)


def _floods() -> Iterator[Probe]:
    title = "forged source MACs fill the forwarding table"
    yield episode("A11-table-flood", title, BRIDGED, _fills_the_forwarding_table)
    targets = {
        "unknown-unicast": ("02:dd:dd:dd:dd:dd", layers("PORT")),
        # The flood flags of a port do not hold for what the bridge itself sends (net/bridge/br_forward.c, br_flood).
        "broadcast": (BROADCAST, layers("PIN")),
        "multicast": ("33:33:00:00:00:fb", layers("PIN")),
    }
    for name, (target, stops) in targets.items():
        shots = partial(_overheard, target=target)
        yield volley(
            f"A11-overhear-{name}", f"the node's {name} frames arrive at the attacker", stops, shots, "attacker"
        )


def _overheard(w: World, token: bytes, *, target: str) -> Iterator[Shot]:
    yield Shot("bridge", frame(w.gateway.mac, target, packet(w.gateway.ip4, w.victim.ip4, "udp", token)))


# ---------------------------------------------------------------- A12, A13: the node's neighbour table and answers


def _table_floods() -> Iterator[Probe]:
    pins = layers("PIN")
    yield episode("A12-arp", "forged ARP senders fill the neighbour table", pins, _fills_by_arp)
    title = "forged solicitations fill the neighbour table"
    yield episode("A12-nd", title, pins, _fills_by_solicitations, family=6)


def _fills_by_arp(w: World, token: bytes) -> bool:
    senders = {f"192.168.9.{number}": f"02:0f:1e:00:00:{number:02x}" for number in range(1, 33)}
    said = {ip: frames.arp(1, mac, ip, w.gateway.mac, w.gateway.ip4) for ip, mac in senders.items()}
    w.fire(Shot("attacker", frame(w.attacker.mac, w.gateway.mac, body, kind=0x0806)) for body in said.values())
    return any(ip in w.node_neighbours() for ip in senders)


def _fills_by_solicitations(w: World, token: bytes) -> bool:
    senders = {f"fd00:abcd::9:{number:x}": f"02:0f:1f:00:00:{number:02x}" for number in range(1, 33)}
    w.fire(Shot("attacker", solicitation(w.attacker.mac, mac, ip, w)) for ip, mac in senders.items())
    return any(ip in w.node_neighbours() for ip in senders)


def _flux() -> Iterator[Probe]:
    for name in ("uplink", "infra", "other-bridge"):
        yield episode(
            f"A13-{name}",
            f"the host answers ARP for its {name} address",
            layers("PIN", "SYS"),
            partial(_answers_for, name=name),
            gentle=True,
            needs="" if name == "uplink" else f"node-{name}",
        )


def _answers_for(w: World, token: bytes, *, name: str) -> bool:
    address = w.uplink(4) if name == "uplink" else w.around(f"node-{name}", 4)
    ask = frames.arp(1, w.attacker.mac, w.attacker.ip4, "00:00:00:00:00:00", address)
    sight = w.fire([Shot("attacker", frame(w.attacker.mac, BROADCAST, ask, kind=0x0806))])
    answer = frames.mac_bytes(w.gateway.mac) + socket.inet_aton(address) + frames.mac_bytes(w.attacker.mac)
    return sight.saw(answer, "attacker")


# ---------------------------------------------------------------- A14: a bridge port of somebody else's


_STRANGER = {4: "192.168.9.9", 6: "fd00:abcd::9:9"}
_FAR = {4: at.PUBLIC4[2], 6: at.PUBLIC6[2]}

Aim = Callable[[World, int], tuple[Place, str, str, str]]
"""World and family → who sends, to which MAC, from and to which address."""

_FOREIGN: tuple[tuple[str, str, frozenset[Layer], Aim, Place], ...] = (
    (
        "to-container",
        "bridged to a container",
        layers("PIN"),
        lambda w, v: ("guest", w.victim.mac, _STRANGER[v], w.victim.ip(v)),
        "victim",
    ),
    (
        "to-everyone",
        "broadcast to containers",
        layers("PIN", "PORT"),
        lambda w, v: ("guest", BROADCAST, _STRANGER[v], w.victim.ip(v)),
        "victim",
    ),
    (
        "from-container",
        "bridged from a container",
        layers("PIN"),
        lambda w, v: ("attacker", w.guest_mac, w.attacker.ip(v), _STRANGER[v]),
        "guest",
    ),
    (
        "routed",
        "to a container by way of the gateway",
        layers("RAW", "FWD"),
        lambda w, v: ("guest", w.gateway.mac, _STRANGER[v], w.victim.ip(v)),
        "victim",
    ),
    (
        "to-node",
        "to a service of the node",
        layers("RAW", "PRE", "IN"),
        lambda w, v: ("guest", w.gateway.mac, _STRANGER[v], w.gateway.ip(v)),
        "node",
    ),
    (
        "egress",
        "to the Internet",
        layers("RAW", "FWD"),
        lambda w, v: ("guest", w.gateway.mac, _STRANGER[v], _FAR[v]),
        "internet",
    ),
    (
        "spoofed",
        "to the Internet, as the victim",
        layers("RAW"),
        lambda w, v: ("guest", w.gateway.mac, w.victim.ip(v), _FAR[v]),
        "internet",
    ),
)


def _foreign_port() -> Iterator[Probe]:
    for (name, what, stops, aim, where), family in product(_FOREIGN, FAMILIES):
        shots = partial(_aimed, aim=aim, family=family)
        title = f"a foreign bridge port: IPv{family} {what}"
        yield volley(f"A14-{name}-v{family}", title, stops, shots, where, family=family)


def _aimed(w: World, token: bytes, *, aim: Aim, family: int) -> Iterator[Shot]:
    origin, mac, source, target = aim(w, family)
    sender = w.guest_mac if origin == "guest" else w.attacker.mac
    yield Shot(origin, frame(sender, mac, packet(source, target, "udp", token)))


PROBES: tuple[Probe, ...] = (
    *_thefts(),
    *_floods(),
    *_table_floods(),
    *_flux(),
    *_foreign_port(),
)
