"""D06: somebody takes away all rules at once, or some of them, and the tenant goes on sending."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import msgspec

from cellwall.api import Wall
from cellwall.attack.flood import Flood
from cellwall.attack.frames import frame, packet
from cellwall.attack.probe import Place, Probe, layers
from cellwall.attack.rows.routed import METADATA, OUTSIDE, PUBLIC, Choose, attackers, fixed, gateways, uplinks, victims
from cellwall.attack.rows.shapes import FAMILIES, episode, wall_of
from cellwall.attack.rows.windows import through_meanwhile
from cellwall.attack.world import World
from cellwall.engine.backend import Holder
from cellwall.errors import LabError

_EDITS = (
    "flush ruleset",
    "flush ruleset inet",
    "delete table inet cellwall",
    "delete table bridge cellwall",
    "flush table inet cellwall",
    "flush chain bridge cellwall port",
    "insert rule inet cellwall forward accept",
    "add table inet cellwall { flags dormant; }",
    "flush set inet cellwall floor4",
    "flush set inet cellwall floor6",
)


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


def _owners() -> Iterator[Probe]:
    for family in FAMILIES:
        yield episode(
            f"D06-owner-v{family}",
            f"others flush, delete and change rules of a daemon's wall under a flood, IPv{family}",
            layers("CTL"),
            partial(through_meanwhile, family=family, change=_change_owned),
            family=family,
            wall_only=True,
        )


def _change_owned(w: World, flood: Flood) -> None:
    """What others try with tables that a living process owns, the latch away. A wall that can have no owner has the
    latch, and is repaired."""
    wall = wall_of(w)
    try:
        with w.node.enter(), Wall.open(root=w.lab.root, settings=wall.settings) as owner:
            if wall.holder != Holder("nftables") or owner.own():
                w.node.run(["nft", "flush", "ruleset"])
                flood.wait(3)
                wall.reconcile()
                return
            owner.repair()
            for side in ("ingress", "egress"):
                w.node.run(["tc", "filter", "del", "dev", w.gateway.bridge, side, "pref", "2"])
            for command in _EDITS:
                w.node.run(["nft", command], check=False)
                flood.wait(3)
            if drift := [line for line in owner.status().drift if "latch" not in line]:
                raise LabError(f"others changed what has an owner: {drift}")
    finally:
        wall.up()


PROBES: tuple[Probe, ...] = (*_flushes(), *_owners())
