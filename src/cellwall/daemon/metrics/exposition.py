"""The text of `GET /metrics`, in the two formats that Prometheus asks for, made for whoever asks at once.

However many ask, one look is made at a time, on a thread of its own; who asks soon after another is told the same. So a
scrape waits for no write, no write for a scrape, and a flood of them costs no more than one after the other.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import get_args

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from cellwall import __version__
from cellwall.audit.events import Cause
from cellwall.audit.tally import Tallied
from cellwall.daemon.metrics import catalogue as c
from cellwall.daemon.metrics.sampling import Sample
from cellwall.daemon.turns.reader import Reader
from cellwall.model.pool import PoolFigures
from cellwall.wire.calls import API_VERSION


class Text(msgspec.Struct, frozen=True):
    """What is answered, and its media type."""

    media: str
    body: bytes


class Now(msgspec.Struct, frozen=True):
    """What a look sees of the daemon itself. `owned`: nobody else can write our tables; `recording`: what sandboxes try
    is recorded, as much as is `tallied`."""

    waiting: int = 0
    busy: float = 0.0
    owned: bool = False
    pool: PoolFigures = PoolFigures()
    recording: bool = False
    tallied: Tallied = Tallied({}, {}, 0)


class Exposition:
    """`sample` looks at the node, `now` at the daemon; `fresh`: for how many seconds who asks is told the same.
    `registry` has what is counted as it happens."""

    def __init__(
        self,
        registry: CollectorRegistry,
        sample: Callable[[], Sample],
        now: Callable[[], Now],
        *,
        fresh: float,
        limit: int,
    ) -> None:
        self._registry = registry
        self._sample = sample
        self._sampled = _Sampled(now)
        registry.register(self._sampled)
        self._fresh = fresh
        self._reader = Reader("cellwall-metrics", limit=limit)
        self._one = asyncio.Lock()
        self._told: dict[bool, tuple[float, Text]] = {}

    async def text(self, accept: str) -> Text:
        """The text in the format that the Accept header asks for. Unavailable where too many wait."""
        openmetrics = "application/openmetrics-text" in accept
        async with self._one:
            clock = asyncio.get_running_loop().time
            told = self._told.get(openmetrics)
            if told is None or clock() - told[0] >= self._fresh:
                made = await self._reader.do(lambda: self._made(openmetrics))
                told = self._told[openmetrics] = clock(), made
            return told[1]

    def end(self) -> None:
        """Wait for what has begun; nothing else begins."""
        self._reader.end()

    def _made(self, openmetrics: bool) -> Text:
        self._sampled.seen = self._sample()  # first: what cannot be read is counted, and told in the same text
        if openmetrics:
            return Text(OPENMETRICS, generate_openmetrics(self._registry))  # type: ignore[no-untyped-call]
        return Text(CONTENT_TYPE_PLAIN_0_0_4, generate_latest(self._registry))


class _Sampled(Collector):
    """What is read when it is asked for, as the library wants it. `seen`: in the last look."""

    def __init__(self, now: Callable[[], Now]) -> None:
        self._now = now
        self.seen: Sample | None = None

    def describe(self) -> Iterable[Metric]:
        return [_family(metric) for metric in c.SAMPLED]

    def collect(self) -> Iterator[Metric]:
        now = self._now()
        yield _info(c.BUILD, {"version": __version__, "api": str(API_VERSION)})
        yield _gauge(c.WRITES_WAITING, now.waiting)
        yield _gauge(c.WRITER_BUSY, now.busy)
        yield _gauge(c.OWNED, now.owned)
        yield _gauge(c.POOL_READY, now.pool.ready)
        yield _labelled(c.POOL_CLAIMS, [(("found",), now.pool.claimed), (("missed",), now.pool.missed)])
        yield _gauge(c.RECORDING, now.recording)
        yield from _audited(now.tallied)
        if self.seen is not None:
            yield from _families(self.seen)


def _audited(tallied: Tallied) -> Iterator[Metric]:
    """Of all tenants together: how much each has against it is told by what is denied of it."""
    attempts: Counter[tuple[str, ...]] = Counter()
    for (_, *labels), count in tallied.recorded.items():
        attempts[tuple(labels)] += count
    causes: tuple[Cause, ...] = get_args(Cause)
    yield _labelled(c.ATTEMPTS, attempts.items())
    yield _labelled(c.UNRECORDED, [((cause,), tallied.lost(cause)) for cause in causes])
    yield CounterMetricFamily(c.FOREIGN.name, c.FOREIGN.about, tallied.foreign)


def _families(sample: Sample) -> Iterator[Metric]:
    node = sample.node
    if node is not None:
        leased = node.leased
        yield _gauge(c.UP, node.up)
        yield _gauge(c.ENDPOINTS, len(node.metered))
        yield _gauge(c.EXPOSURES, sum(one.exposures for one in node.metered))
        free = node.capacity - leased - node.draining
        yield _labelled(c.ADDRESSES, [(("leased",), leased), (("draining",), node.draining), (("free",), free)])
        yield _gauge(c.TENANTS, sample.tenants)
        yield _labelled(c.TENANT_ENDPOINTS, [((tenant,), count) for tenant, count in sample.endpoints.items()])
    for place, metric in enumerate(c.TRAFFIC):
        yield _labelled(metric, [((tenant,), figures[place]) for tenant, figures in sample.traffic.items()])
    yield _labelled(c.TENANT_DENIED, [((tenant,), packets) for tenant, (packets,) in sample.denied_of.items()])
    for place, metric in enumerate((c.DENIED_PACKETS, c.DENIED_BYTES)):
        yield _labelled(metric, [(labels, figures[place]) for labels, figures in sample.denied.items()])
    if sample.classified is not None:
        yield CounterMetricFamily(c.CLASSIFIED.name, c.CLASSIFIED.about, sample.classified)
    if sample.tracked is not None:
        yield _gauge(c.CONNTRACK, sample.tracked.entries)
        yield _gauge(c.CONNTRACK_LIMIT, sample.tracked.limit)
    yield _gauge(c.SAMPLE_SECONDS, sample.seconds)


def _family(metric: c.Metric) -> CounterMetricFamily | GaugeMetricFamily | InfoMetricFamily:
    if metric.kind == "info":
        return InfoMetricFamily(metric.name, metric.about)
    made = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    return made(metric.name, metric.about, labels=metric.labels)


def _gauge(metric: c.Metric, value: float) -> Metric:
    return GaugeMetricFamily(metric.name, metric.about, float(value))


def _info(metric: c.Metric, values: dict[str, str]) -> Metric:
    return InfoMetricFamily(metric.name, metric.about, values)


def _labelled(metric: c.Metric, values: Iterable[tuple[Sequence[str], int]]) -> Metric:
    family = _family(metric)
    for labels, value in sorted(values):
        family.add_metric(labels, value)  # type: ignore[arg-type]
    return family
