"""One look at all figures that are read when they are asked for, beside who writes.

Owns: what is read, and in which order; the totals that outlive links, rules and, by a file, the daemon. A part that
cannot be read is left out, and counted: figures of an hour ago would be told as those of now.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from cellwall.api import Wall
from cellwall.daemon.metrics.events import Events
from cellwall.daemon.metrics.odometer import Figures, Odometer, Reading
from cellwall.daemon.metrics.shares import Shares
from cellwall.daemon.metrics.totals import Totals, TotalsFile
from cellwall.engine.backend import Laying
from cellwall.engine.figures import Meters, NodeCount
from cellwall.engine.site import Site
from cellwall.errors import CellwallError
from cellwall.model.endpoint import Endpoint
from cellwall.model.figures import Denied, Metered, Tracked, Traffic
from cellwall.model.versions import stems

T = TypeVar("T")
_log = logging.getLogger("cellwall.daemon")

LINGER = 600.0
"""Seconds for which a tenant without endpoints has a label yet: twice what Prometheus takes for the end of a series."""


class Sample(msgspec.Struct, frozen=True):
    """The figures of one look. None, or nothing, where they could not be read. `traffic` and `denied_of` are totals
    by label, `denied` by (reason, outcome); `classified` what the bridge's classifiers dropped."""

    node: NodeCount | None
    tenants: int
    endpoints: dict[str, int]
    traffic: dict[str, Figures]
    denied_of: dict[str, Figures]
    denied: dict[tuple[str, str], Figures]
    classified: int | None
    tracked: Tracked | None
    seconds: float


class Sampler:
    """Reads by `wall`, which is for looking only and this one's alone. `most`: tenants that are told apart. `file`:
    where totals are kept beyond this daemon."""

    def __init__(
        self, wall: Wall, events: Events, file: TotalsFile, *, most: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall = wall
        self._events = events
        self._file = file
        self._clock = clock
        before = file.read()
        self._shares = Shares(most, LINGER)
        left = self._shares.keep(before.traffic.totals)
        self._traffic = Odometer(self._shares.label, before.traffic)
        self._denied = Odometer(memory=before.denied)
        self._denied_of = Odometer(self._shares.label, before.denied_of)
        self._classified = Odometer(memory=before.classified)
        self._forget(left)

    def sample(self) -> Sample:
        """Look. One thread at a time."""
        began = time.perf_counter()
        number = self._traffic.begin()
        node = self._try("record", self._wall.counted)
        metered = () if node is None else node.metered
        shown = self._try("traffic", lambda: self._wall.meters().traffic()) if node is not None and node.leased else {}
        if node is not None and shown is not None:
            self._traffic.read(number, _readings(metered, shown))
        denied = self._read_denied(self._wall.meters, metered) if node is not None and node.leased else None
        if node is not None:
            self._disregard(shown, denied)
        self._attend(metered, known=node is not None)
        self._read_rules(self._wall.meters)
        tracked = self._try("conntrack", lambda: self._wall.meters().tracked())
        classified = self._read_classified()
        totals = self._totals()
        self._file.write(totals)  # before they are told; what ends meanwhile is told next time
        tenants = Counter(one.tenant for one in metered)
        return Sample(
            node=node,
            tenants=len(tenants.keys() - {""}),
            endpoints=self._by_label(tenants),
            traffic=totals.traffic.totals,
            denied_of=totals.denied_of.totals,
            denied={_parts(label): total for label, total in totals.denied.totals.items()},
            classified=totals.classified.totals.get("", (0,))[0] if classified else None,
            tracked=tracked,
            seconds=time.perf_counter() - began,
        )

    def _disregard(self, shown: Mapping[int, Traffic] | None, denied: Denied | None) -> None:
        """What is sent in a sandbox that stands ready is not its tenant's of later, denied or not. Those that do so
        after the reading did so during it."""
        ready = self._try("record", self._wall.ready_links)
        if ready is None:
            return
        if shown is not None:
            present = ready & shown.keys()
            passed = {str(index): msgspec.structs.astuple(shown[index]) for index in present}
            self._traffic.disregard(passed, set(map(str, shown)))
        if denied is not None:
            present = ready & denied.ports.keys()
            judged = {str(index): (denied.ports[index],) for index in present}
            self._denied_of.disregard(judged, set(map(str, denied.ports)))

    def part(self, links: Mapping[str, Reading], denied: Mapping[str, Reading]) -> None:
        """These links, and what rules count of them, show what they show for the last time."""
        self._traffic.part(links)
        self._denied_of.part(denied)

    def _attend(self, metered: Sequence[Metered], *, known: bool) -> None:
        if known:
            self._forget(self._shares.attend((one.tenant for one in metered if one.tenant), self._clock()))

    def _forget(self, labels: Iterable[str]) -> None:
        for label in labels:
            self._traffic.drop(label)
            self._denied_of.drop(label)

    def settle(self, site: Site) -> None:
        """Read what rules have counted by now, by the meters of this site."""
        self._read_rules(site.meters)
        if metered := site.journal.metered():
            self._read_denied(site.meters, metered)

    def restart(self, *, sets: bool) -> None:
        """Rules have begun to count anew; their `sets`, too."""
        self._denied.restart()
        if sets:
            self._denied_of.restart()

    def _read_denied(self, meters: Callable[[], Meters], metered: Sequence[Metered]) -> Denied | None:
        number = self._denied_of.begin()
        denied = self._try("denied", lambda: meters().denied())
        if denied is not None:
            self._denied_of.read(number, _denials(((one, one.stems) for one in metered), denied))
        return denied

    def _read_rules(self, meters: Callable[[], Meters]) -> None:
        number = self._denied.begin()
        counts = self._try("rules", lambda: meters().rules())
        if counts is not None:
            self._denied.read(
                number,
                {one.rule: Reading(f"{one.outcome} {one.reason}", (one.packets, one.bytes)) for one in counts},
            )

    def _read_classified(self) -> bool:
        """Whether it could be read: not of a node without a bridge."""
        number = self._classified.begin()
        bridge = self._wall.settings.network.bridge
        found = self._try("classifiers", lambda: self._wall.meters().classified(bridge))
        if found is None:
            return False
        index, packets = found
        self._classified.read(number, {str(index): Reading("", (packets,))})
        return True

    def _totals(self) -> Totals:
        return Totals(
            traffic=self._traffic.memory(),
            denied=self._denied.memory(),
            denied_of=self._denied_of.memory(),
            classified=self._classified.memory(),
        )

    def _by_label(self, tenants: Counter[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        for tenant, count in tenants.items():
            label = self._shares.label(tenant)
            found[label] = found.get(label, 0) + count
        return found

    def _try(self, part: str, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except (CellwallError, OSError) as error:
            self._events.unread(part)
            _log.warning("figures of %s are left out: %s", part, error)
            return None


class Partings:
    """`engine.figures.Ledger`, on the thread of who writes."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def part(self, site: Site, endpoints: Sequence[Endpoint]) -> None:
        """See `Ledger.part`."""
        had = [one for one in endpoints if not one.key.pooled]  # what nobody claimed is in no figures
        if not had:
            return
        try:
            owned = [(one, stems((one.generation, *one.past_generations))) for one in had]
            indices = [one.host_index for one in had]
            shown = site.meters().traffic_of(indices)
            denied = site.meters().denied_of(indices, [stem for _, of_one in owned for stem in of_one])
            self._sampler.part(_readings(had, shown), _denials(owned, denied))
        except Exception as error:  # whatever it is, what closes goes on
            _log.warning("what closed endpoints passed last is not counted: %s", error)

    def relaid(self, site: Site, laying: Laying) -> str:
        """See `Ledger.relaid`."""
        try:
            self._sampler.settle(site)
        except Exception as error:  # nor is anything laid later for it
            _log.warning("what rules counted last is not counted: %s", error)
        shape = laying.lay()
        self._sampler.restart(sets=not laying.keeps_sets)
        return shape


def _readings(endpoints: Iterable[Endpoint | Metered], shown: Mapping[int, Traffic]) -> dict[str, Reading]:
    return {
        str(one.host_index): Reading(one.tenant, msgspec.structs.astuple(shown[one.host_index]))
        for one in endpoints
        if one.host_index in shown
    }


def _denials(owned: Iterable[tuple[Endpoint | Metered, tuple[int, ...]]], denied: Denied) -> dict[str, Reading]:
    """What each element counted: each ends by itself, and then shows nothing, so that what comes after is anew."""
    found: dict[str, Reading] = {}
    for one, of_one in owned:
        found[str(one.host_index)] = Reading(one.tenant, (denied.ports.get(one.host_index, 0),))
        for stem in of_one:
            found[f"{stem} out"] = Reading(one.tenant, (denied.sent.get(stem, 0),))
            found[f"{stem} in"] = Reading(one.tenant, (denied.received.get(stem, 0),))
    return found


def _parts(label: str) -> tuple[str, str]:
    outcome, _, reason = label.partition(" ")
    return reason, outcome
