"""C01, C04, D01: destinations that are closed, as clients of the attacker's own published port.

An accomplice outside writes the closed address into the source of a packet to the port, and the attacker answers: to
connection tracking that is the reply of a flow that somebody else opened.
"""

from collections.abc import Iterator
from functools import partial

from cellwall.attack.frames import packet
from cellwall.attack.probe import Place, Probe, layers
from cellwall.attack.rows.outside import ATTACKERS_PORT
from cellwall.attack.rows.routed import (
    Choose,
    attackers,
    between,
    by_gateway,
    fixed,
    from_outside,
    in_turn,
    surroundings,
    uplinks,
    volley,
)
from cellwall.attack.rows.shapes import episode
from cellwall.attack.stage import SHIFTED, SHIFTED_TO
from cellwall.attack.world import World
from cellwall.lab import addresses as at

_WANTED = 53


def _closed() -> Iterator[tuple[str, str, int, Choose]]:
    """Id, what it is, family, the closed address."""
    addresses = {
        **dict(at.METADATA4.items()),
        **{f"{cloud} 6": address for cloud, address in at.METADATA6.items()},
        "AWS, the resolver": "169.254.169.253",
        "AWS, the clock": "169.254.169.123",
        "any cloud, behind NAT64": "64:ff9b::a9fe:a9fe",
        "any cloud, behind 6to4": "2002:a9fe:a9fe::1",
    }
    for cloud, address in addresses.items():
        name = cloud.lower().replace(",", "").replace(" ", "-")
        yield f"C01-client-{name}", f"metadata of {cloud}", 6 if ":" in address else 4, fixed(address)
    for family in (4, 6):
        hidden = surroundings("hidden-public", family)
        yield f"C04-client-hidden-public-v{family}", "the node's hidden public address", family, hidden


def _answers() -> Iterator[Probe]:
    for name, what, family, address in _closed():
        answer = between(attackers(family), address, "udp", sport=ATTACKERS_PORT, dport=_WANTED)
        yield volley(
            name,
            f"{what}, as a client of the attacker's published port",
            layers("FWD"),
            in_turn(from_outside("internet", partial(_forged, client=address, family=family)), by_gateway(answer)),
            "internet",
            family=family,
        )


def _forged(w: World, token: bytes, *, client: Choose, family: int) -> object:
    return packet(client(w), w.uplink(family), "udp", b"forged", sport=_WANTED, dport=ATTACKERS_PORT)


def _nodes_own() -> Iterator[Probe]:
    """Over IPv6, which has no martian sources. The answer must have been translated: what the attacker sends to the
    node without any accomplice is another attack."""
    targets: dict[str, Choose] = {
        "uplink": uplinks(6),
        "infra": surroundings("node-infra", 6),
        "other-bridge": surroundings("node-other-bridge", 6),
    }
    for name, target in targets.items():
        yield episode(
            f"D01-client-{name}",
            f"a service of the node, made a client of the attacker's published port by its {name} address",
            layers("FWD"),
            partial(_answered_by, target=target),
            family=6,
            wall_only=True,
        )


def _answered_by(w: World, token: bytes, *, target: Choose) -> bool:
    forged = packet(target(w), w.uplink(6), "udp", b"forged", sport=_WANTED, dport=SHIFTED)
    own = packet(w.attacker.ip6, target(w), "udp", token, sport=SHIFTED_TO, dport=_WANTED)
    shots = in_turn(from_outside("lan", lambda w, t: forged), by_gateway(lambda w, t: own))
    seen = w.fire(shots(w, token)).seen["node"]
    return any(data.startswith(SHIFTED.to_bytes(2, "big")) and token in data for data in seen)


# ---------------------------------------------------------------- opened backwards

_MUTE = b"""
table inet mute {
	chain input { type filter hook input priority 0; tcp dport 8443 drop; }
}
"""
"""The attacker's own kernel must not refuse the forged connection before the attacker answers it."""


def _backwards() -> Iterator[Probe]:
    cases: tuple[tuple[str, Place, int, str], ...] = (
        ("C04-backwards-lan-v4", "lan", 4, at.LAN4),
        ("C04-backwards-lan-v6", "lan", 6, at.LAN6),
        ("C01-backwards-v4", "internet", 4, "169.254.169.254"),
        ("C01-backwards-v6", "internet", 6, "fd00:ec2::254"),
    )
    for name, where, family, client in cases:
        yield episode(
            name,
            f"TCP lets both ends begin: a SYN of the attacker's in answer to one forged from {client}",
            layers("FWD"),
            partial(_opened_backwards, where=where, family=family, client=client),
            family=family,
        )


def _opened_backwards(w: World, token: bytes, *, where: Place, family: int, client: str) -> bool:
    forged = packet(client, w.uplink(family), "tcp", b"", sport=80, dport=ATTACKERS_PORT)
    own = packet(w.attacker.ip(family), client, "tcp", token, sport=ATTACKERS_PORT, dport=80)
    w.attacker.host.run(["nft", "-f", "-"], input=_MUTE)
    try:
        shots = in_turn(from_outside("internet", lambda w, t: forged), by_gateway(lambda w, t: own))
        return w.fire(shots(w, token)).saw(token, where)
    finally:
        w.attacker.host.run(["nft", "delete", "table", "inet", "mute"])


PROBES: tuple[Probe, ...] = (*_answers(), *_nodes_own(), *_backwards())
