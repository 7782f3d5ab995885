"""Metrics over a node that is a test's."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families as parse_text

from cellwall.daemon.metrics.events import Events
from cellwall.daemon.metrics.exposition import Exposition, Now
from cellwall.daemon.metrics.sampling import Sampler
from cellwall.daemon.metrics.totals import TotalsFile
from cellwall.engine.figures import NodeCount
from cellwall.errors import KernelError
from cellwall.model.endpoint import EndpointKey
from cellwall.model.figures import Denied, Metered, RuleCount, Tracked, Traffic
from cellwall.model.settings import Settings

MOST = 50
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Node:
    """A node whose links, rules and record are a test's, as a wall that looks shows them, and of which a writer tells
    what ends. `broken`: what it cannot read; `unfinished`: packets that its classifiers dropped, `dropped` those of a
    rule; `idle`: what links of sandboxes that stand ready passed; `sent` and `received`: what was denied, by stem."""

    def __init__(self) -> None:
        self.tenants: list[str] = []
        self.passed: dict[int, int] = {}
        self.broken: set[str] = set()
        self.looks = self.unfinished = 0
        self.dropped = 5
        self.idle: dict[int, int] = {}
        self.sent: dict[int, int] = {}
        self.received: dict[int, int] = {}
        self.settings = Settings()
        self._first = 1

    def hold(self, tenants: list[str]) -> None:
        """These have an endpoint each, by links that nobody had before."""
        self._first += len(self.tenants)
        self.tenants = tenants
        self.passed = dict.fromkeys(range(self._first, self._first + len(tenants)), 0)

    def counted(self) -> NodeCount:
        self.looks += 1
        self._read("record")
        metered = self.metered()
        return NodeCount(True, metered, len(metered), 3, 4093)

    def metered(self) -> tuple[Metered, ...]:
        return tuple(
            Metered(EndpointKey(f"c{index}"), tenant, index, index, "", 3, (index << 8,))
            for index, tenant in zip(self.passed, self.tenants, strict=True)
        )

    @property
    def journal(self) -> "Node":
        """Of a site, as this is one."""
        return self

    def ready_links(self) -> frozenset[int]:
        """One of them is made, and not yet shown."""
        return frozenset((*self.idle, 7777))

    def meters(self) -> "Node":
        self._read("meters")
        return self

    def traffic(self) -> dict[int, Traffic]:
        self._read("traffic")
        shown = self.passed | self.idle
        return {index: Traffic(passed * 100, passed, passed * 70, passed * 7) for index, passed in shown.items()}

    def traffic_of(self, indices: Sequence[int]) -> dict[int, Traffic]:
        return {index: traffic for index, traffic in self.traffic().items() if index in indices}

    def denied(self) -> Denied:
        self._read("denied")
        return Denied(dict(self.passed), dict(self.sent), dict(self.received))

    def denied_of(self, indices: Sequence[int], stems: Sequence[int]) -> Denied:
        ports, sent, received = (
            {key: count for key, count in counts.items() if key in asked}
            for counts, asked in ((self.passed | self.idle, indices), (self.sent, stems), (self.received, stems))
        )
        return Denied(ports, sent, received)

    def rules(self) -> tuple[RuleCount, ...]:
        self._read("rules")
        return (RuleCount("inet forward 7", 'why "so"', "dropped", self.dropped, self.dropped * 100),)

    def classified(self, bridge: str) -> tuple[int, int]:
        self._read("classifiers")
        return 5, self.unfinished

    def tracked(self) -> Tracked:
        self._read("conntrack")
        return Tracked(7, 262144)

    def _read(self, part: str) -> None:
        if part in self.broken:
            raise KernelError(5, part)


class Watched:
    """Metrics over such a node."""

    def __init__(self, directory: Path, *, fresh: float = 0.0, most: int = MOST) -> None:
        self.node, self.now = Node(), 0.0
        self.registry = CollectorRegistry()
        self.events = events = Events(self.registry)
        wall: Any = self.node
        file = TotalsFile(str(directory / "totals"), "boot")
        self.sampler = Sampler(wall, events, file, most=most, clock=lambda: self.now)
        self.daemon = Now()
        self.exposition = Exposition(self.registry, self.sampler.sample, lambda: self.daemon, fresh=fresh, limit=100)

    def text(self, accept: str = "") -> str:
        return asyncio.run(self.exposition.text(accept)).body.decode()

    def series(self) -> Series:
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in parse_text(self.text())
            for sample in family.samples
        }


def total(series: Series, name: str) -> float:
    return sum(value for (found, _), value in series.items() if found == name)
