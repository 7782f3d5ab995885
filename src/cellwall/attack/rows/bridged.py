"""Frames of the attacker's on the bridge: builders of their shots."""

from collections.abc import Iterator

from cellwall.attack.frames import BROADCAST, Tags, frame
from cellwall.attack.probe import Shot, layers
from cellwall.attack.rows.routed import Body, Choose
from cellwall.attack.rows.shapes import Shots
from cellwall.attack.world import World

BRIDGED = layers("PIN", "PORT")
"""What stops frames to a neighbour."""


def victims_mac(w: World) -> str:
    """The neighbour's MAC."""
    return w.victim.mac


def gateways_mac(w: World) -> str:
    """The bridge's MAC."""
    return w.gateway.mac


def broadcast(w: World) -> str:
    """Everybody's MAC."""
    return BROADCAST


def framed(
    target: Choose, body: Body, *, kind: int | None = None, tags: Tags = (), source: Choose | None = None
) -> Shots:
    """One frame to a MAC. `kind`: its EtherType where the body is no IP packet; `source`: its source where that is not
    the sender's own MAC."""

    def shots(w: World, token: bytes) -> Iterator[Shot]:
        mac = source(w) if source else w.attacker.mac
        yield Shot("attacker", frame(mac, target(w), body(w, token), kind=kind, tags=tags))

    return shots


def framed_by_length(target: Choose, body: Body) -> Shots:
    """One frame of IEEE 802.3: where others have an EtherType it has its length."""

    def shots(w: World, token: bytes) -> Iterator[Shot]:
        data = bytes(body(w, token))
        yield Shot("attacker", frame(w.attacker.mac, target(w), data, kind=len(data)))

    return shots
