"""D06: somebody takes away all rules at once, and the tenant goes on sending."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import msgspec

from cellwall.attack.frames import frame, packet
from cellwall.attack.probe import Place, Probe, layers
from cellwall.attack.rows.routed import METADATA, OUTSIDE, PUBLIC, Choose, attackers, fixed, gateways, uplinks, victims
from cellwall.attack.rows.shapes import FAMILIES, episode, wall_of
from cellwall.attack.world import World
from cellwall.engine.backend import Holder


class _Way(msgspec.Struct, frozen=True):
    """From whom to where; seen there."""

    name: str
    origin: Place
    source: Choose
    target: Choose
    where: Place


def _ways(family: int) -> tuple[_Way, ...]:
    me = attackers(family)
    return (
        _Way("neighbour", "attacker", me, victims(family), "victim"),
        _Way("gateway", "attacker", me, gateways(family), "node"),
        _Way("node", "attacker", me, uplinks(family), "node"),
        _Way("metadata", "attacker", me, fixed(METADATA[family]), "internet"),
        _Way("spoofed", "attacker", victims(family), fixed(PUBLIC[family]), "internet"),
        _Way("direct", "lan", fixed(OUTSIDE["lan"][family]), victims(family), "victim"),
    )


def _flushes() -> Iterator[Probe]:
    for family in FAMILIES:
        for way in _ways(family):
            yield episode(
                f"D06-flush-{way.name}-v{family}",
                f"after `nft flush ruleset`, IPv{family} from {way.origin}: {way.name}",
                layers("LATCH"),
                partial(_sends_without_rules, way=way),
                family=family,
                wall_only=True,
            )


def _sends_without_rules(w: World, token: bytes, *, way: _Way) -> bool:
    if way.origin == "attacker":
        source, gateway = w.attacker.mac, w.gateway.mac
    else:
        source, gateway = w.ground.views[way.origin].host.mac("eth0"), w.node.mac("eth0")
    sent = frame(source, gateway, packet(way.source(w), way.target(w), "udp", token, dport=9080))
    w.observers.discard()
    with _without_rules(w):
        w.inject(way.origin, [sent])
    return w.settle().saw(token, way.where)


@contextmanager
def _without_rules(w: World) -> Iterator[None]:
    """nftables' come back as they were, and nothing else of the wall: what a control took away stays away."""
    wall = wall_of(w)
    rules = w.node.run(["nft", "list", "ruleset"]).stdout
    w.node.run(["nft", "flush", "ruleset"])
    try:
        yield
    finally:
        if wall.holder == Holder("nftables"):
            w.node.run(["nft", "-f", "-"], input=b"flush ruleset\n" + rules)
        else:
            wall.reconcile()


PROBES: tuple[Probe, ...] = (*_flushes(),)
