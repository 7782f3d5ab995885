"""Ports that stood on beta9's bridge when it was taken over, and whose they are could not be told: they stay closed.

Owns: the record of them. The containers behind them run, and whoever runs them may tell: what bears our prefix without
a record is deleted, these are not, not even when the wall goes.
"""

from collections.abc import Container, Iterable

import msgspec

from cellwall.engine.contracts import ObservedLink
from cellwall.engine.site import Site
from cellwall.errors import printable

_RECORD = "left closed"


class ClosedPort(msgspec.Struct, frozen=True):
    """A link, and why it is none of an endpoint's."""

    index: int
    name: str
    reason: str


def record_closed(site: Site, ports: Iterable[ClosedPort], adopted: Container[int]) -> None:
    """Beside those of an earlier take-over, but for those that are an endpoint's now. In the caller's transaction."""
    known = {port.index: port for port in (*_recorded(site), *ports) if port.index not in adopted}
    site.journal.put(_RECORD, msgspec.json.encode(list(known.values())))


def left_closed(site: Site, links: Iterable[ObservedLink]) -> list[ClosedPort]:
    """Those that are still there."""
    here = {(link.index, link.name) for link in links}
    return [port for port in _recorded(site) if (port.index, port.name) in here]


def closed_warnings(site: Site, links: Iterable[ObservedLink]) -> list[str]:
    """A line for each of them."""
    told = "stays closed: whose it is could not be told when its bridge was taken over"
    return [f"{printable(port.name)} {told}: {port.reason}" for port in left_closed(site, links)]


def _recorded(site: Site) -> list[ClosedPort]:
    return msgspec.json.decode(site.journal.get(_RECORD) or b"[]", type=list[ClosedPort])
