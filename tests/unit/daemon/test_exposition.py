"""The text of the metrics: bounded whatever tenants there are, escaped whatever they are called, made once for many."""

import asyncio
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from cellwall.daemon.metrics.catalogue import WRITE_SECONDS, WRITE_WAIT
from cellwall.daemon.metrics.events import Events
from cellwall.daemon.metrics.exposition import Exposition, Now
from cellwall.daemon.metrics.sampling import LINGER
from cellwall.daemon.turns.chores import Chore, Chores
from cellwall.errors import Unavailable
from unit.daemon.looked_at import MOST, Series, Watched, total

HOSTILE = ['a"b', "a\\b", "a\nb", 'x"} 1\ncellwall_up{', "{}", "e\u0301\u202e", "le", '\\"', "\\n"]


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_series_stay_bounded_over_thousands_of_tenants_and_nothing_they_pass_is_lost(watched: Watched) -> None:
    sent, sizes = "cellwall_tenant_sent_packets_total", set()
    before: Series = {}
    for turn in range(8):
        watched.node.hold([f"t{turn}-{number}" for number in range(1000)])
        for index in watched.node.passed:
            watched.node.passed[index] = 3
        watched.now += 60
        after = watched.series()
        sizes.add(len(after))
        assert all(after.get(key, value) >= value for key, value in before.items() if key[0].endswith("_total"))
        assert total(after, sent) == total(before, sent) + 3000 == total(after, "cellwall_tenant_denied_packets_total")
        assert total(after, "cellwall_tenants") == total(after, "cellwall_tenant_endpoints") == 1000
        before = after
    assert max(sizes) - min(sizes) == MOST, "of those that have no endpoint any more there is no such gauge"
    assert len([name for name, _ in before if name == sent]) == MOST + 1
    assert len([name for name, _ in before if name.startswith("cellwall_tenant_")]) <= 6 * (MOST + 1)


def test_labels_of_tenants_that_are_gone_are_others_after_a_while(watched: Watched) -> None:
    watched.node.hold([f"old-{number}" for number in range(1000)])
    watched.series()
    watched.node.hold(["new"])
    watched.now += LINGER + 1
    watched.series()
    watched.now += 1
    found = watched.series()
    told = {dict(labels)["tenant"] for name, labels in found if name == "cellwall_tenant_endpoints"}
    assert told == {"new"}
    assert total(found, "cellwall_tenant_endpoints") == 1


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text"])
def test_whatever_a_tenant_is_called_is_a_label_and_no_line(watched: Watched, accept: str) -> None:
    watched.node.hold(HOSTILE)
    text = watched.text(accept)
    parse = parse_openmetrics if accept else parse_text
    families = {family.name: family for family in parse(text)}
    told = {sample.labels["tenant"] for sample in families["cellwall_tenant_endpoints"].samples}
    assert told == set(HOSTILE)
    assert [sample.value for sample in families["cellwall_up"].samples] == [1.0]
    (denied,) = families["cellwall_denied_packets"].samples
    assert denied.labels == {"reason": 'why "so"', "outcome": "dropped"}


def test_the_totals_of_one_are_those_of_the_next(tmp_path: Path) -> None:
    first = Watched(tmp_path)
    first.node.hold(["acme", "other"])
    first.node.passed = dict.fromkeys(first.node.passed, 4)
    before = first.series()
    second = Watched(tmp_path)
    second.node = first.node
    second.sampler._wall = first.node  # type: ignore[assignment]
    assert total(second.series(), "cellwall_tenant_sent_packets_total") == 8
    assert total(before, "cellwall_tenant_sent_packets_total") == 8


def test_fewer_labels_than_before_are_fewer_series(tmp_path: Path) -> None:
    first = Watched(tmp_path)
    first.node.hold(["a", "b", "c", "d"])
    first.series()
    second = Watched(tmp_path, most=2)
    second.node.hold(["a", "b", "c", "d"])
    found = second.series()
    told = {dict(labels)["tenant"] for name, labels in found if name.startswith("cellwall_tenant_")}
    assert len(told) == 3 and "_others" in told
    assert total(found, "cellwall_tenant_endpoints") == 4


@pytest.mark.parametrize(
    ("part", "missing"),
    [
        ("record", "cellwall_endpoints"),
        ("traffic", ""),
        ("denied", ""),
        ("rules", ""),
        ("classifiers", "cellwall_classifiers_dropped_packets_total"),
        ("conntrack", "cellwall_conntrack_entries"),
    ],
)
def test_what_cannot_be_read_is_left_out_and_said_and_the_rest_is_told(
    watched: Watched, part: str, missing: str
) -> None:
    watched.node.hold(["acme"])
    watched.node.passed = dict.fromkeys(watched.node.passed, 4)
    whole = watched.series()
    watched.node.broken = {part}
    found = watched.series()
    assert found["cellwall_sample_failures_total", frozenset({("part", part)})] == 1
    assert {name for name, _ in whole} - {name for name, _ in found} <= {
        missing, *({"cellwall_up", "cellwall_exposures", "cellwall_addresses", "cellwall_tenants",
                    "cellwall_tenant_endpoints"} if part == "record" else {"cellwall_conntrack_entries_limit"}),
    }  # fmt: skip
    assert not missing or total(found, missing) == 0
    assert total(found, "cellwall_tenant_sent_packets_total") == 4, "totals are as of the last that was read"
    watched.node.broken = set()
    assert watched.series().keys() >= whole.keys()


def test_no_descriptor_for_a_meter_is_no_reason_to_tell_nothing(watched: Watched) -> None:
    watched.node.hold(["acme"])
    watched.node.broken = {"meters"}
    found = watched.series()
    assert total(found, "cellwall_endpoints") == 1
    unread = {dict(labels)["part"] for (name, labels), value in found.items() if "failures" in name and value == 1}
    assert unread == {"traffic", "denied", "rules", "classifiers", "conntrack"}


def test_many_who_ask_at_once_cost_one_look_after_the_other(tmp_path: Path) -> None:
    watched = Watched(tmp_path, fresh=60.0)
    inside, most, guard = 0, 0, threading.Lock()
    look = watched.sampler.sample

    def counted() -> Any:
        nonlocal inside, most
        with guard:
            inside += 1
            most = max(most, inside)
        try:
            return look()
        finally:
            with guard:
                inside -= 1

    registry = CollectorRegistry()
    exposition = Exposition(registry, counted, Now, fresh=60.0, limit=100)

    async def ask() -> set[bytes]:
        texts = await asyncio.gather(*(exposition.text("") for _ in range(200)))
        return {text.body for text in texts}

    assert len(asyncio.run(ask())) == 1
    assert (most, watched.node.looks) == (1, 1)


def test_nobody_is_told_of_an_exposition_that_has_ended(watched: Watched) -> None:
    watched.text()
    watched.exposition.end()
    with pytest.raises((RuntimeError, Unavailable)):
        watched.text()


def test_turns_that_two_threads_tell_of_in_the_same_moment_are_all_counted() -> None:
    """The writer's own, and who has something done at once."""
    registry, usual = CollectorRegistry(), sys.getswitchinterval()
    events = Events(registry)
    threads = [
        threading.Thread(target=lambda: [events.wrote([0.0, 1.0], 0.5) for _ in range(20_000)]) for _ in range(2)
    ]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(usual)
    for metric, count in ((WRITE_WAIT, 80_000), (WRITE_SECONDS, 40_000)):
        assert registry.get_sample_value(f"{metric.name}_count") == count
        assert registry.get_sample_value(f"{metric.name}_sum") == count / 2


class Taken(Chore):
    """The thread that acts takes its time away as soon as another has read it."""

    def __init__(self) -> None:
        super().__init__(lambda: None, lambda: 0.0)
        self._reads = 0

    @property
    def due(self) -> float | None:  # type: ignore[override]
        self._reads += 1
        return 0.0 if self._reads == 1 else None

    @due.setter
    def due(self, due: float | None) -> None:
        self._reads = 0


def test_when_a_chore_is_due_is_known_while_another_thread_takes_it() -> None:
    assert Chores([Taken(), Taken()]).wait() == 0.0
