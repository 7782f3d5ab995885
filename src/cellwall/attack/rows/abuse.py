"""B09: what a container does to others by the node's good name."""

from collections.abc import Iterator
from itertools import product

from cellwall.attack.frames import packet
from cellwall.attack.probe import Probe, layers
from cellwall.attack.rows.routed import FAR, Body, by_gateway, volley
from cellwall.attack.rows.shapes import FAMILIES
from cellwall.attack.world import World

_SMTP = 25


def _mail() -> Iterator[Probe]:
    ways = (
        ("opened", "opens a connection to a mail server", 40025, "S"),
        ("amid", "goes on with a connection to a mail server that nobody saw begin", 40026, "PA"),
    )
    for family, (name, what, sport, flags) in product(FAMILIES, ways):
        yield volley(
            f"B09-mail-{name}-v{family}",
            f"a container {what}, IPv{family}",
            layers("FWD"),
            by_gateway(_segment(family, sport, flags)),
            "internet",
            family=family,
        )


def _segment(family: int, sport: int, flags: str) -> Body:
    def body(w: World, token: bytes) -> object:
        one = packet(w.attacker.ip(family), FAR[family], "tcp", token, sport=sport, dport=_SMTP)
        one["TCP"].flags = flags
        return one

    return body


PROBES: tuple[Probe, ...] = tuple(_mail())
