"""What is counted as it happens: calls, turns of the writer, what the watch finds. For any thread to tell.

A series is made once and then only counted up, as the way of a call comes by here.
"""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

from cellwall.daemon.metrics import catalogue
from cellwall.daemon.metrics.catalogue import Metric

disable_created_metrics()  # type: ignore[no-untyped-call]  # when each series began would be as many series again


class Events:
    """The counters and histograms of one daemon, in a registry of their own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls = _counter(catalogue.CALLS, registry)
        self._seconds = _histogram(catalogue.CALL_SECONDS, registry)
        self._waits = _histogram(catalogue.WRITE_WAIT, registry)
        self._turns = _histogram(catalogue.WRITE_SECONDS, registry)
        self._repaired = _counter(catalogue.DRIFT_REPAIRED, registry)
        self._repairs = _counter(catalogue.DRIFT_REPAIRS, registry)
        self._unrepaired = _counter(catalogue.DRIFT_FAILURES, registry)
        self._closed = _counter(catalogue.DRIFT_CLOSED, registry)
        self._looks = _counter(catalogue.LOOKS, registry)
        self._failures = _counter(catalogue.SAMPLE_FAILURES, registry)
        self._call_series: dict[tuple[str, str], tuple[Counter, Histogram]] = {}
        for by in ("watch", "takeover"):
            self._repaired.labels(by)
        for part in catalogue.PARTS:
            self._failures.labels(part)

    def answered(self, call: str, outcome: str, seconds: float) -> None:
        """A call of the table, or `other`, was answered."""
        series = self._call_series.get((call, outcome))
        if series is None:
            made = self._calls.labels(call, outcome), self._seconds.labels(call)
            series = self._call_series.setdefault((call, outcome), made)
        series[0].inc()
        series[1].observe(seconds)

    def wrote(self, waits: Sequence[float], seconds: float) -> None:
        """The writer had a turn: what each of what was carried out together had waited, and how long it took."""
        for wait in waits:
            self._waits.observe(wait)
        self._turns.observe(seconds)

    def looked(self, repaired: int, *, failed: bool) -> None:
        """The watch looked, and repaired so many differences."""
        self._looks.inc()
        if failed:
            self._unrepaired.inc()
        if repaired:
            self._repairs.inc()
            self._repaired.labels("watch").inc(repaired)

    def closed(self) -> None:
        """The watch closed the node until a repair."""
        self._closed.inc()

    def taken_over(self, repaired: int) -> None:
        """So many differences were repaired when the daemon began."""
        self._repaired.labels("takeover").inc(repaired)

    def unread(self, part: str) -> None:
        """Some figures could not be read."""
        self._failures.labels(part).inc()


def _counter(metric: Metric, registry: CollectorRegistry) -> Counter:
    return Counter(metric.name, metric.about, metric.labels, registry=registry)


def _histogram(metric: Metric, registry: CollectorRegistry) -> Histogram:
    return Histogram(metric.name, metric.about, metric.labels, registry=registry, buckets=metric.buckets)
