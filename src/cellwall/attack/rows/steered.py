"""D03, D15: packets from around the node that name it as a hop, to where it would not route them by itself."""

from collections.abc import Iterator
from functools import partial
from ipaddress import IPv6Address
from itertools import product

from cellwall.attack.probe import Layer, Place, Probe, layers
from cellwall.attack.rows.headers import ROUTING, source_route, with_headers, with_options
from cellwall.attack.rows.routed import OUTSIDE, Body, Choose, fixed, from_outside, victims, volley
from cellwall.attack.world import World
from cellwall.lab import addresses as at

_STEERED: tuple[tuple[str, str, Choose, Choose, Place], ...] = (
    ("D03", "neighbour", victims(4), victims(6), "victim"),
    ("D15", "infra", fixed(at.INFRA4), fixed(at.INFRA6), "infra"),
    ("D15", "other", fixed(at.OTHER4), fixed(at.OTHER6), "other"),
)


def _probes() -> Iterator[Probe]:
    # Whether other interfaces take source routes is the node's own affair.
    origins: tuple[Place, ...] = ("lan", "internet")
    for (row, name, hop4, hop6, where), origin in product(_STEERED, origins):
        ways: tuple[tuple[int, str, Body, frozenset[Layer]], ...] = (
            (4, "source-route", partial(_loose, origin=origin, hop=hop4), layers("FWD")),
            (6, "segment-route", partial(_segment, origin=origin, hop=hop6), layers("FWD", "SYS")),
        )
        for family, kind, body, stops in ways:
            yield volley(
                f"{row}-{origin}-{kind}-{name}",
                f"IPv{family} {kind} from {origin} by way of the node to: {name}",
                stops,
                from_outside(origin, body),
                where,
                family=family,
            )


def _loose(w: World, token: bytes, *, origin: Place, hop: Choose) -> object:
    return with_options(OUTSIDE[origin][4], w.uplink(4), source_route(131, hop(w)), token)


def _segment(w: World, token: bytes, *, origin: Place, hop: Choose) -> object:
    beyond, here = IPv6Address(hop(w)).packed, IPv6Address(w.uplink(6)).packed
    header = bytes([4, 4, 1, 1, 0, 0, 0]) + beyond + here
    return with_headers(OUTSIDE[origin][6], w.uplink(6), ((ROUTING, header),), "udp", token)


PROBES: tuple[Probe, ...] = tuple(_probes())
