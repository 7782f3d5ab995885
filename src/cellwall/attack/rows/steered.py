"""D03, D15: packets from around the node that name it as a hop, to where it would not route them by itself."""

from collections.abc import Iterator
from ipaddress import IPv6Address

from cellwall.attack.probe import Layer, Place, Probe, layers
from cellwall.attack.rows.headers import ROUTING, with_headers, with_options
from cellwall.attack.rows.routed import OUTSIDE, Body, Choose, from_outside, volley
from cellwall.attack.world import World
from cellwall.lab import addresses as at

_STEERED: tuple[tuple[str, str, Choose, Choose, Place], ...] = (
    ("D03", "neighbour", lambda w: w.victim.ip4, lambda w: w.victim.ip6, "victim"),
    ("D15", "infra", lambda w: at.INFRA4, lambda w: at.INFRA6, "infra"),
    ("D15", "other", lambda w: at.OTHER4, lambda w: at.OTHER6, "other"),
)


def _probes() -> Iterator[Probe]:
    for row, name, hop4, hop6, where in _STEERED:
        for origin in ("lan", "internet"):

            def loose(w: World, token: bytes, origin: Place = origin, hop: Choose = hop4) -> object:
                route = bytes([131, 7, 4]) + bytes(map(int, hop(w).split("."))) + b"\0"
                return with_options(OUTSIDE[origin][4], w.uplink(4), route, token)

            def segment(w: World, token: bytes, origin: Place = origin, hop: Choose = hop6) -> object:
                beyond, here = IPv6Address(hop(w)).packed, IPv6Address(w.uplink(6)).packed
                header = bytes([4, 4, 1, 1, 0, 0, 0]) + beyond + here
                return with_headers(OUTSIDE[origin][6], w.uplink(6), ((ROUTING, header),), "udp", token)

            # Whether other interfaces take source routes is the node's own affair.
            ways: tuple[tuple[int, str, Body, frozenset[Layer]], ...] = (
                (4, "source-route", loose, layers("FWD")),
                (6, "segment-route", segment, layers("FWD", "SYS")),
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


PROBES: tuple[Probe, ...] = tuple(_probes())
