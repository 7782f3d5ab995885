"""Every metric of `GET /metrics`: its name, what kind it is, its labels, and what it says. Pure.

What is exposed is made from this table, and the page docs/metrics.md, the dashboard and the alerts are held against it.
Names and meanings are a promise: new ones may be added, none changes.
"""

from typing import Literal

import msgspec

Kind = Literal["counter", "gauge", "histogram", "info"]


class Metric(msgspec.Struct, frozen=True):
    """One family. `name` is without the suffix by which a counter, a bucket or an info is exposed."""

    name: str
    kind: Kind
    about: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def series(self) -> tuple[str, ...]:
        """The names of what is exposed."""
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "info": ("_info",)}
        return tuple(self.name + suffix for suffix in suffixes.get(self.kind, ("",)))


_SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

BUILD = Metric("cellwall_build", "info", "The version that answers.", ("version", "api"))

CALLS = Metric(
    "cellwall_calls",
    "counter",
    "Calls answered. outcome: ok, the problem's name, failed, or gone where who asked did not wait.",
    ("call", "outcome"),
)
CALL_SECONDS = Metric(
    "cellwall_call_seconds",
    "histogram",
    "From the headers of a call to its answer, the wait for its turn included.",
    ("call",),
    _SECONDS,
)
WRITE_WAIT = Metric("cellwall_write_wait_seconds", "histogram", "What a write waited for its turn.", buckets=_SECONDS)
WRITE_SECONDS = Metric(
    "cellwall_write_seconds",
    "histogram",
    "How long the writer was at one turn; attaches that wait in a row are one.",
    buckets=_SECONDS,
)
WRITES_WAITING = Metric("cellwall_writes_waiting", "gauge", "Writes that wait for their turn.")
WRITER_BUSY = Metric(
    "cellwall_writer_busy_seconds", "gauge", "For how long the writer has been at the same turn; 0: it waits for work."
)

DRIFT_REPAIRED = Metric(
    "cellwall_drift_repaired",
    "counter",
    "Differences between the kernel and what is desired that were repaired. by: watch, or takeover at the start.",
    ("by",),
)
DRIFT_REPAIRS = Metric("cellwall_drift_repairs", "counter", "Looks of the watch that found something to repair.")
DRIFT_FAILURES = Metric("cellwall_drift_repair_failures", "counter", "Looks of the watch that could not repair.")
DRIFT_CLOSED = Metric(
    "cellwall_drift_closed", "counter", "Times that the watch closed the node until a repair, as what judges was gone."
)
LOOKS = Metric("cellwall_watch_looks", "counter", "Looks of the watch.")

UP = Metric("cellwall_up", "gauge", "1: the wall is up, as it is on record.")
OWNED = Metric("cellwall_tables_owned", "gauge", "1: nobody else can write our tables in nftables.")
ENDPOINTS = Metric("cellwall_endpoints", "gauge", "Attached endpoints.")
EXPOSURES = Metric("cellwall_exposures", "gauge", "Ports and ranges that are published.")
ADDRESSES = Metric(
    "cellwall_addresses",
    "gauge",
    "IPv4 addresses of the network. state: leased, draining (released, not free yet), free.",
    ("state",),
)

TENANTS = Metric("cellwall_tenants", "gauge", "Tenants that have endpoints.")
TENANT_ENDPOINTS = Metric("cellwall_tenant_endpoints", "gauge", "Attached endpoints by tenant.", ("tenant",))
TENANT_SENT_BYTES = Metric(
    "cellwall_tenant_sent_bytes", "counter", "Bytes of frames that sandboxes sent, denied ones too.", ("tenant",)
)
TENANT_SENT_PACKETS = Metric(
    "cellwall_tenant_sent_packets", "counter", "Packets that sandboxes sent, denied ones too.", ("tenant",)
)
TENANT_RECEIVED_BYTES = Metric(
    "cellwall_tenant_received_bytes", "counter", "Bytes of frames that came to sandboxes.", ("tenant",)
)
TENANT_RECEIVED_PACKETS = Metric(
    "cellwall_tenant_received_packets", "counter", "Packets that came to sandboxes.", ("tenant",)
)
TENANT_DENIED = Metric(
    "cellwall_tenant_denied_packets",
    "counter",
    "Packets of sandboxes, and to them, that rules of ours in nftables denied.",
    ("tenant",),
)
TRAFFIC = (TENANT_SENT_BYTES, TENANT_SENT_PACKETS, TENANT_RECEIVED_BYTES, TENANT_RECEIVED_PACKETS)
"""In the order of the fields of `Traffic`."""

DENIED_PACKETS = Metric(
    "cellwall_denied_packets",
    "counter",
    "Packets by what a rule of ours in nftables says of them. outcome: dropped, rejected, or passed where it only "
    "watches.",
    ("reason", "outcome"),
)
DENIED_BYTES = Metric("cellwall_denied_bytes", "counter", "Bytes of these packets.", ("reason", "outcome"))

CLASSIFIED = Metric(
    "cellwall_classifiers_dropped_packets",
    "counter",
    "Packets that the bridge's classifiers dropped, behind no rule: unfinished checksums, and what no rule had marked.",
)

POOL_READY = Metric("cellwall_pool_ready", "gauge", "Sandboxes that stand ready for a container to claim.")
POOL_CLAIMS = Metric(
    "cellwall_pool_claims",
    "counter",
    "Containers that claimed a ready sandbox. outcome: found, or missed: none was left, and it was attached as any.",
    ("outcome",),
)

RECORDING = Metric(
    "cellwall_audit_recording", "gauge", "1: what sandboxes try is recorded, as far as rules tell of it."
)
ATTEMPTS = Metric(
    "cellwall_audit_attempts",
    "counter",
    "Attempts that were recorded. judgement: deny, or watch where it only would be denied.",
    ("layer", "reason", "judgement"),
)
UNRECORDED = Metric(
    "cellwall_audit_unrecorded",
    "counter",
    "Attempts that were not recorded one by one. cause: rate (too many of a tenant's), queue (faster than they are "
    "read), disk.",
    ("cause",),
)
FOREIGN = Metric("cellwall_audit_foreign", "counter", "Packets that other programs' rules logged to the same group.")

CONNTRACK = Metric("cellwall_conntrack_entries", "gauge", "Flows that the node's connection tracking has.")
CONNTRACK_LIMIT = Metric("cellwall_conntrack_entries_limit", "gauge", "Flows that it can have.")

SAMPLE_SECONDS = Metric("cellwall_sample_seconds", "gauge", "How long the reading of these figures took.")
PARTS = ("record", "traffic", "denied", "rules", "classifiers", "conntrack")
"""What is read each by itself."""

SAMPLE_FAILURES = Metric(
    "cellwall_sample_failures",
    "counter",
    f"Figures that could not be read, and are left out. part: {', '.join(PARTS)}.",
    ("part",),
)

COUNTED = (
    CALLS,
    CALL_SECONDS,
    WRITE_WAIT,
    WRITE_SECONDS,
    DRIFT_REPAIRED,
    DRIFT_REPAIRS,
    DRIFT_FAILURES,
    DRIFT_CLOSED,
    LOOKS,
    SAMPLE_FAILURES,
)
"""What is counted as it happens."""

SAMPLED = (
    BUILD,
    WRITES_WAITING,
    WRITER_BUSY,
    UP,
    OWNED,
    ENDPOINTS,
    EXPOSURES,
    ADDRESSES,
    TENANTS,
    TENANT_ENDPOINTS,
    *TRAFFIC,
    TENANT_DENIED,
    DENIED_PACKETS,
    DENIED_BYTES,
    CLASSIFIED,
    POOL_READY,
    POOL_CLAIMS,
    RECORDING,
    ATTEMPTS,
    UNRECORDED,
    FOREIGN,
    CONNTRACK,
    CONNTRACK_LIMIT,
    SAMPLE_SECONDS,
)
"""What is read when it is asked for."""

METRICS = (*COUNTED, *SAMPLED)
