"""Packets that cross the node: builders of volleys from inside and from outside."""

from collections.abc import Callable, Sequence
from typing import Any

from cellwall.attack.frames import frame, packet
from cellwall.attack.probe import Layer, Place, Shot, Volley
from cellwall.attack.rows.shapes import Shots
from cellwall.attack.world import World
from cellwall.lab import addresses as at

PUBLIC = {4: "151.101.1.69", 6: "2a04:4e42::1"}
"""A destination that every sandbox may reach."""

FAR = {4: "151.101.1.200", 6: "2a04:4e42::200"}
"""A host of the Internet that answers only as it is told to."""

METADATA = {4: "169.254.169.254", 6: "fd00:ec2::254"}
"""Where clouds answer with a node's credentials."""

Body = Callable[[World, bytes], Any]
"""An IP packet, or a list of several, as scapy has them or as bytes."""

Choose = Callable[[World], str]
"""An address or a MAC of this world."""

OUTSIDE: dict[Place, dict[int, str]] = {
    "lan": at.LAN,
    "internet": {4: at.PUBLIC4[2], 6: at.PUBLIC6[2]},
    "infra": at.INFRA,
    "other": at.OTHER,
}
"""Who is around the node, by family."""

_NODE_LINKS: dict[Place, str] = {"lan": "eth0", "internet": "eth0", "infra": "eth1", "other": "br-other"}


def fixed(address: str) -> Choose:
    """The same address in every world."""
    return lambda w: address


def attackers(family: int) -> Choose:
    """The attacker's address."""
    return lambda w: w.attacker.ip(family)


def victims(family: int) -> Choose:
    """The victim's address."""
    return lambda w: w.victim.ip(family)


def gateways(family: int) -> Choose:
    """The node's address on the bridge."""
    return lambda w: w.gateway.ip(family)


def uplinks(family: int) -> Choose:
    """The node's address on its default interface."""
    return lambda w: w.uplink(family)


def surroundings(name: str, family: int) -> Choose:
    """An address around the node by its name."""
    return lambda w: w.around(name, family)


def between(
    source: Choose,
    target: Choose,
    protocol: str | int,
    *,
    sport: int = 40001,
    dport: int = 9999,
    ttl: int | None = None,
) -> Body:
    """One packet from an address to another; `ttl` None: as long a life as packets have."""
    life = {} if ttl is None else {"ttl": ttl}

    def body(w: World, token: bytes) -> object:
        return packet(source(w), target(w), protocol, token, sport=sport, dport=dport, **life)

    return body


def volley(
    name: str,
    title: str,
    stops: frozenset[Layer],
    shots: Shots,
    *where: Place,
    family: int | None = None,
    together: bool = False,
    kernel: str = "",
    gentle: bool = False,
    needs: str = "",
) -> Volley:
    """A volley whose row is the first three letters of its name. `family`: what it needs, None: whatever there is."""
    return Volley(
        id=name,
        row=name[:3],
        title=title,
        layers=stops,
        shots=shots,
        at=where,
        families=frozenset() if family is None else frozenset({family}),
        together=together,
        kernel=kernel,
        gentle=gentle,
        needs=needs,
    )


def by_gateway(body: Body, *, mac: Choose | None = None, origin: Place = "attacker") -> Shots:
    """Packets of the attacker's to the gateway's MAC; `mac`: the frame's source where it is not the sender's own."""

    def shots(w: World, token: bytes) -> Sequence[Shot]:
        source = mac(w) if mac else (w.attacker if origin == "attacker" else w.victim).mac
        return [Shot(origin, frame(source, w.gateway.mac, one)) for one in several(body(w, token))]

    return shots


def from_outside(origin: Place, body: Body) -> Shots:
    """Packets of a host around the node to the node's MAC on that side."""

    def shots(w: World, token: bytes) -> Sequence[Shot]:
        view = w.ground.views[origin]
        source, target = view.host.mac(view.ifname), w.node.mac(_NODE_LINKS[origin])
        return [Shot(origin, frame(source, target, one)) for one in several(body(w, token))]

    return shots


def in_turn(*steps: Shots) -> Shots:
    """What several send, one after the other."""

    def shots(w: World, token: bytes) -> Sequence[Shot]:
        return [shot for step in steps for shot in step(w, token)]

    return shots


def several(body: Any) -> list[Any]:
    """One packet or many, as a list."""
    return list(body) if isinstance(body, list | tuple) else [body]
