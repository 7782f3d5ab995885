"""Each figure is told under its own name, with its own labels: of the node, of the daemon, and of what happens."""

from pathlib import Path

import pytest

from cellwall import __version__
from cellwall.audit.tally import Tallied
from cellwall.daemon.metrics.catalogue import PARTS
from cellwall.daemon.metrics.exposition import Now
from cellwall.model.pool import PoolFigures
from cellwall.wire.calls import API_VERSION
from unit.daemon.looked_at import Watched, total


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def exposed(watched: Watched) -> dict[str, float]:
    """All but what took how long, as `name{label="value"}`."""
    found = {}
    for (name, labels), value in watched.series().items():
        said = ",".join(f'{label}="{text}"' for label, text in sorted(labels))
        if name.startswith("cellwall_") and "_seconds" not in name:
            found[name.removeprefix("cellwall_") + (f"{{{said}}}" if said else "")] = value
    return found


NODE = {
    "up": 1, "endpoints": 2, "exposures": 6, "tenants": 1,
    'addresses{state="leased"}': 2, 'addresses{state="draining"}': 3, 'addresses{state="free"}': 4088,
    'tenant_endpoints{tenant="acme"}': 1, 'tenant_endpoints{tenant="_none"}': 1,
    'tenant_sent_bytes_total{tenant="acme"}': 400, 'tenant_sent_bytes_total{tenant="_none"}': 500,
    'tenant_sent_packets_total{tenant="acme"}': 4, 'tenant_sent_packets_total{tenant="_none"}': 5,
    'tenant_received_bytes_total{tenant="acme"}': 280, 'tenant_received_bytes_total{tenant="_none"}': 350,
    'tenant_received_packets_total{tenant="acme"}': 28, 'tenant_received_packets_total{tenant="_none"}': 35,
    'tenant_denied_packets_total{tenant="acme"}': 4, 'tenant_denied_packets_total{tenant="_none"}': 5,
    'denied_packets_total{outcome="dropped",reason="why "so""}': 5,
    'denied_bytes_total{outcome="dropped",reason="why "so""}': 500,
    "classifiers_dropped_packets_total": 0, "conntrack_entries": 7, "conntrack_entries_limit": 262144,
}  # fmt: skip
DAEMON = {
    "writes_waiting": 3, "tables_owned": 1, "pool_ready": 6, 'pool_claims_total{outcome="found"}': 7,
    'pool_claims_total{outcome="missed"}': 8, "audit_recording": 0, "audit_foreign_total": 9,
    'audit_attempts_total{judgement="deny",layer="FWD",reason="the floor"}': 5,
    'audit_attempts_total{judgement="watch",layer="PIN",reason="spoofed"}': 1,
    'audit_unrecorded_total{cause="rate"}': 12, 'audit_unrecorded_total{cause="queue"}': 0,
    'audit_unrecorded_total{cause="disk"}': 4,
}  # fmt: skip
QUIET = dict.fromkeys(
    ["writes_waiting", "tables_owned", "pool_ready", 'pool_claims_total{outcome="found"}',
     'pool_claims_total{outcome="missed"}', "audit_recording", "audit_foreign_total",
     *(f'audit_unrecorded_total{{cause="{cause}"}}' for cause in ("rate", "queue", "disk"))], 0
)  # fmt: skip
COUNTED = {
    **{f'drift_repaired_total{{by="{by}"}}': 0 for by in ("watch", "takeover")},
    **dict.fromkeys(
        ["drift_repairs_total", "drift_repair_failures_total", "drift_closed_total", "watch_looks_total"], 0
    ),
    **{f'sample_failures_total{{part="{part}"}}': 0 for part in PARTS},
}


def test_each_figure_of_node_and_daemon_is_told_under_its_own_name(watched: Watched) -> None:
    watched.node.hold(["acme", ""])
    watched.node.passed = dict(zip(watched.node.passed, (4, 5), strict=True))
    build = f'build_info{{api="{API_VERSION}",version="{__version__}"}}'
    assert exposed(watched) == {**NODE, **QUIET, **COUNTED, build: 1}
    denied, watch = ("FWD", "the floor", "deny"), ("PIN", "spoofed", "watch")
    watched.daemon = Now(
        waiting=3,
        busy=1.5,
        owned=True,
        pool=PoolFigures(6, 7, 8),
        tallied=Tallied(
            {("acme", *denied): 2, ("", *denied): 3, ("acme", *watch): 1},
            {("acme", "rate"): 10, ("b", "rate"): 2, ("", "disk"): 4},
            9,
        ),
    )
    watched.node.unfinished = 9
    now = {**NODE, "classifiers_dropped_packets_total": 9}
    assert exposed(watched) == {**now, **DAEMON, **COUNTED, build: 1}
    series = watched.series()
    assert series["cellwall_writer_busy_seconds", frozenset()] == 1.5
    assert 0 < series["cellwall_sample_seconds", frozenset()] < 60
    watched.daemon = Now(recording=True)
    assert exposed(watched) == {**now, **QUIET, **COUNTED, build: 1, "audit_recording": 1}


def test_what_happens_is_counted_as_what_it_was(watched: Watched) -> None:
    events = watched.events
    for repaired, failed in ((0, False), (3, False), (2, True)):
        events.looked(repaired, failed=failed)
    events.closed()
    events.taken_over(7)
    events.unread("conntrack")
    for outcome in ("ok", "ok", "gone"):
        events.answered("attach", outcome, 0.25)
    events.wrote([0.5, 1.0], 2.0)
    found, series = exposed(watched), watched.series()
    assert {name: found[name] for name in found if name in COUNTED and found[name]} == {
        "watch_looks_total": 3, "drift_repair_failures_total": 1, "drift_repairs_total": 2,
        'drift_repaired_total{by="watch"}': 5, 'drift_repaired_total{by="takeover"}': 7, "drift_closed_total": 1,
        'sample_failures_total{part="conntrack"}': 1,
    }  # fmt: skip
    assert found['calls_total{call="attach",outcome="ok"}'] == 2
    assert found['calls_total{call="attach",outcome="gone"}'] == 1
    attach = frozenset({("call", "attach")})
    assert series["cellwall_call_seconds_count", attach] == 3 and series["cellwall_call_seconds_sum", attach] == 0.75
    assert total(series, "cellwall_write_wait_seconds_sum") == 1.5 and total(series, "cellwall_write_seconds_sum") == 2
    assert not [name for name, _ in series if name.endswith("_created")]
