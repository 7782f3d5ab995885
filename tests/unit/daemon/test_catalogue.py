"""The page of metrics, the dashboard and the alerts speak of what is exposed, and of nothing else."""

import json
import re
from pathlib import Path

import pytest
import yaml

from cellwall.daemon.metrics.catalogue import METRICS, Metric

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/metrics.md").read_text()
DASHBOARD = json.loads((ROOT / "packaging/grafana/cellwall.json").read_text())
ALERTS = yaml.safe_load((ROOT / "packaging/prometheus/alerts.yml").read_text())

OF_THE_CLIENT = {
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_open_fds",
    "process_start_time_seconds",
}
OF_PROMETHEUS = {"up"}
LABELS_OF_ALL = {"instance", "job"}

SERIES: dict[str, Metric] = {name: metric for metric in METRICS for name in metric.series}


def queries() -> list[str]:
    shown = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    variables = [variable["query"]["query"] for variable in DASHBOARD["templating"]["list"] if "definition" in variable]
    alerts = [rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]]
    return [*shown, *variables, *alerts]


def selected(query: str) -> list[tuple[str, set[str]]]:
    """Each series that a query asks for, and the labels that it picks by."""
    bare = re.sub(r"\b(by|without)\s*\([^)]*\)", "", query)
    found = re.findall(r"\b((?:cellwall_|process_)\w+|up(?=\{|\b\s*==))(\{[^}]*\})?", bare)
    return [(name, set(re.findall(r"(\w+)\s*[=!]~?", picked))) for name, picked in found]


def labels_of(name: str) -> set[str]:
    metric = SERIES.get(name)
    own = set(metric.labels) if metric else set()
    return own | LABELS_OF_ALL | ({"le"} if name.endswith("_bucket") else set())


def test_the_page_has_a_row_for_each_metric_as_it_is() -> None:
    suffix = {"counter": "_total", "info": "_info"}
    rows = [line for line in PAGE.splitlines() if line.startswith("| `cellwall_")]
    wanted = []
    for one in METRICS:
        labels = ", ".join(f"`{label}`" for label in one.labels) or "–"
        wanted.append(f"| `{one.name}{suffix.get(one.kind, '')}` | {one.kind} | {labels} | {one.about} |")
    assert rows == wanted


def test_whatever_the_page_names_is_there() -> None:
    for name in set(re.findall(r"`(cellwall_\w+)", PAGE)):
        assert name in SERIES or name in {metric.name for metric in METRICS}, name


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_are_as_prometheus_wants_them(metric: Metric) -> None:
    assert re.fullmatch(r"cellwall_[a-z0-9_]+", metric.name)
    assert not metric.name.endswith(("_total", "_info", "_count", "_sum", "_bucket"))
    assert metric.about.endswith(".")
    assert all(re.fullmatch(r"[a-z]+", label) for label in metric.labels)
    if metric.kind == "histogram":
        assert metric.name.endswith("_seconds")
        assert metric.buckets[0] == 0.00025 and list(metric.buckets) == sorted(metric.buckets)


def test_no_two_metrics_have_a_name_in_common() -> None:
    assert len(SERIES) == sum(len(metric.series) for metric in METRICS)


@pytest.mark.parametrize("query", queries())
def test_a_query_asks_for_what_is_exposed(query: str) -> None:
    asked = selected(query)
    assert asked
    for name, picked in asked:
        assert name in SERIES or name in OF_THE_CLIENT or name in OF_PROMETHEUS, name
        assert picked <= labels_of(name), name
    for grouped in re.findall(r"\bby\s*\(([^)]*)\)", query):
        for label in (part.strip() for part in grouped.split(",")):
            assert all(label in labels_of(name) for name, _ in asked), label


@pytest.mark.parametrize("query", queries())
def test_what_only_counts_up_is_asked_for_by_its_rate(query: str) -> None:
    for name, _ in selected(query):
        counts_up = name.endswith(("_total", "_bucket", "_sum", "_count")) and name not in OF_PROMETHEUS
        rated = re.search(rf"\b(rate|increase)\({name}(\{{[^}}]*\}})?\[", query) is not None
        assert counts_up == rated, name


def test_legends_and_annotations_name_labels_that_are_there() -> None:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            (first, *_) = [name for name, _ in selected(target["expr"])]
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels_of(first)
    for group in ALERTS["groups"]:
        for rule in group["rules"]:
            (first, *_) = [name for name, _ in selected(rule["expr"])]
            said = " ".join(rule["annotations"].values())
            assert set(re.findall(r"\$labels\.(\w+)", said)) <= labels_of(first)
            assert rule["labels"]["severity"] in ("warning", "critical")


def test_panels_have_a_place_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
