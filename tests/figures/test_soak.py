"""What a soak calls growth."""

import msgspec
import pytest
from bench.soak import Latency, Sample, grown, latencies

STILL = Sample(operations=0, memory=50_000, descriptors=40, threads=3, links=0, elements=46, rules=190, namespaces=0)


def run(**last: int) -> list[str]:
    filling = msgspec.structs.replace(STILL, memory=30_000, descriptors=20)
    return grown([filling, *[STILL] * 9, *[msgspec.structs.replace(STILL, **last)] * 3])


def test_what_stays_as_it_is_once_caches_have_filled_has_not_grown() -> None:
    assert run() == []
    assert run(memory=51_000, operations=10**6) == []
    assert run(descriptors=39) == []


@pytest.mark.parametrize("name", ["descriptors", "threads", "links", "elements", "rules", "namespaces"])
def test_one_more_of_what_is_counted_is_growth(name: str) -> None:
    (line,) = run(**{name: getattr(STILL, name) + 1})
    assert line.startswith(name)


def test_memory_beyond_the_allocators_slack_is_growth() -> None:
    assert run(memory=54_000) == ["memory: 50000, then 54000"]


def test_what_is_more_for_a_moment_has_not_grown() -> None:
    assert grown([*[STILL] * 20, msgspec.structs.replace(STILL, descriptors=41)]) == []


def test_too_few_samples_tell_nothing() -> None:
    assert grown([STILL] * 4) == ["too few samples to tell"]


def test_how_long_calls_took_is_read_from_the_buckets_that_the_daemon_counts() -> None:
    text = """# TYPE cellwall_call_seconds histogram
cellwall_call_seconds_bucket{call="attach",le="0.001"} 0.0
cellwall_call_seconds_bucket{call="attach",le="0.0025"} 60.0
cellwall_call_seconds_bucket{call="attach",le="0.01"} 99.0
cellwall_call_seconds_bucket{call="attach",le="+Inf"} 100.0
cellwall_call_seconds_count{call="attach"} 100.0
cellwall_call_seconds_bucket{call="detach",le="0.001"} 1.0
cellwall_call_seconds_bucket{call="detach",le="+Inf"} 1.0
"""
    assert latencies(text) == {"attach": Latency(100, 0.0025, 0.01), "detach": Latency(1, 0.001, 0.001)}
    assert latencies("") == {}
