"""What endpoints pass in a second, from two reports. Pure."""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import msgspec

from cellwall.cli.render import table
from cellwall.model.figures import EndpointTraffic, Traffic, TrafficReport

Order = Literal["bytes", "packets", "connections", "denied", "name"]


class Rate(msgspec.Struct, frozen=True):
    """Of one endpoint, or (container and interface empty) of all of a tenant, in a second. `connections` are those that
    there are; None, as of `denied`, where nobody can tell."""

    tenant: str
    container: str
    interface: str
    sent_bytes: float
    sent_packets: float
    received_bytes: float
    received_packets: float
    connections: int | None
    denied: float | None


def rates(before: TrafficReport, after: TrafficReport) -> tuple[Rate, ...]:
    """Of every endpoint of the later report. What one that is new since then has passed, it has passed since then."""
    seconds = max(after.at - before.at, 1e-3)
    known = {one.key: one for one in before.endpoints}
    return tuple(_rate(known.get(one.key), one, seconds) for one in after.endpoints)


def by_tenant(rows: Iterable[Rate]) -> tuple[Rate, ...]:
    """One row for each tenant; containers of no tenant are one, too."""
    found: dict[str, Rate] = {}
    for row in rows:
        of_tenant = msgspec.structs.replace(row, container="", interface="")
        found[row.tenant] = of_tenant if row.tenant not in found else _sum(found[row.tenant], of_tenant)
    return tuple(found.values())


def ordered(rows: Iterable[Rate], order: Order) -> list[Rate]:
    """The busiest first; equal ones, and all by `name`, as their names are."""
    value: dict[Order, Callable[[Rate], float]] = {
        "bytes": lambda row: row.sent_bytes + row.received_bytes,
        "packets": lambda row: row.sent_packets + row.received_packets,
        "connections": lambda row: row.connections or 0,
        "denied": lambda row: row.denied or 0.0,
        "name": lambda row: 0.0,
    }
    return sorted(rows, key=lambda row: (-value[order](row), row.tenant, row.container, row.interface))


def shown(before: TrafficReport, after: TrafficReport, order: Order, *, tenants: bool) -> list[Rate]:
    """The rows of two reports as they are shown: of sandboxes, or of `tenants`."""
    found = rates(before, after)
    return ordered(by_tenant(found) if tenants else found, order)


HEAD = ("TENANT", "CONTAINER", "SENT/s", "PACKETS/s", "RECEIVED/s", "PACKETS/s", "CONNECTIONS", "DENIED/s")
_TENANT, _CONTAINER, _SENT, _SENT_PACKETS, _RECEIVED, _RECEIVED_PACKETS, _CONNECTIONS, _DENIED = range(len(HEAD))
NAMES = (_TENANT, _CONTAINER)
"""Columns of `HEAD` that are names; the rest are figures."""


def cells(row: Rate) -> tuple[str, ...]:
    """A row as text, under `HEAD`."""
    name = row.container if row.interface in ("", "eth0") else f"{row.container}/{row.interface}"
    return (
        row.tenant or "-",
        name or "*",
        f"{scaled(row.sent_bytes)}B",
        scaled(row.sent_packets),
        f"{scaled(row.received_bytes)}B",
        scaled(row.received_packets),
        "-" if row.connections is None else str(row.connections),
        "-" if row.denied is None else scaled(row.denied),
    )


_SHORTEST_NAME = 8
"""Characters of a name before a figure is left out for it."""
_LEAST_WANTED = (_RECEIVED_PACKETS, _SENT_PACKETS, _CONNECTIONS, _DENIED, _RECEIVED, _SENT)
_SORTED_BY: dict[Order, tuple[int, ...]] = {
    "bytes": (_SENT, _RECEIVED),
    "packets": (_SENT_PACKETS, _RECEIVED_PACKETS),
    "connections": (_CONNECTIONS,),
    "denied": (_DENIED,),
    "name": (),
}


def columns(rows: Sequence[tuple[str, ...]], order: Order, width: int) -> dict[int, int]:
    """Which columns of `HEAD` have room for these cells on a screen of `width` characters, with a space between two:
    the number of each in `HEAD` → its width in characters. Figures are whole or left out, those that the rows are
    sorted by last; names have the rest."""
    wide = [max(len(cell) for cell in column) for column in zip(HEAD, *rows, strict=True)]
    kept = list(range(len(HEAD)))
    names = sum(min(wide[number], _SHORTEST_NAME) for number in NAMES)
    for number in sorted(_LEAST_WANTED, key=_SORTED_BY[order].__contains__):
        if _room(wide, kept, width) < names:
            kept.remove(number)
    room = max(_room(wide, kept, width), len(NAMES))
    tenant = min(wide[_TENANT], max(room // 2, room - wide[_CONTAINER]))
    container = min(wide[_CONTAINER], room - tenant)
    return {number: wide[number] for number in kept} | {_TENANT: tenant, _CONTAINER: container}


def _room(wide: Sequence[int], kept: Sequence[int], width: int) -> int:
    """Characters that the figures leave to names."""
    return width - (len(kept) - 1) - sum(wide[number] for number in kept if number not in NAMES)


def rate_table(rows: Sequence[Rate]) -> str:
    """All rows, a line each."""
    return table(HEAD, [cells(row) for row in rows])


def scaled(value: float) -> str:
    """Three digits: 0, 0.5, 12.3k, 456M."""
    for unit in ("", "k", "M", "G"):
        if value < 999.5:
            return (f"{value:.3g}" if value < 99.95 else f"{value:.0f}") + unit
        value /= 1000
    return f"{value:.0f}T"


def _rate(before: EndpointTraffic | None, after: EndpointTraffic, seconds: float) -> Rate:
    then = Traffic() if before is None else before.traffic
    now = after.traffic
    if any(b > a for a, b in zip(msgspec.structs.astuple(now), msgspec.structs.astuple(then), strict=True)):
        before, then = None, Traffic()  # another attachment of that name
    denied = None
    if after.denied is not None:
        denied = (after.denied - min((before and before.denied) or 0, after.denied)) / seconds
    return Rate(
        after.tenant,
        after.key.container_id,
        after.key.ifname,
        (now.sent_bytes - then.sent_bytes) / seconds,
        (now.sent_packets - then.sent_packets) / seconds,
        (now.received_bytes - then.received_bytes) / seconds,
        (now.received_packets - then.received_packets) / seconds,
        after.connections,
        denied,
    )


def _sum(one: Rate, other: Rate) -> Rate:
    connections = None if one.connections is None or other.connections is None else one.connections + other.connections
    return Rate(
        one.tenant,
        "",
        "",
        one.sent_bytes + other.sent_bytes,
        one.sent_packets + other.sent_packets,
        one.received_bytes + other.received_bytes,
        one.received_packets + other.received_packets,
        connections,
        None if one.denied is None or other.denied is None else one.denied + other.denied,
    )
