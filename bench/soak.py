"""Churn for a long time: whether the daemon's memory and descriptors, and what the kernel holds, stay as they are.

    ./dev bench soak [--minutes 60] [--workers 4] [--json FILE]

Workers attach, publish, change policies and detach through the daemon without a pause. Every few seconds all of them
stop, everything is detached, and what is left is counted: then there is nothing that may be more than the time before.
The first samples are left out, in which caches fill. Ends with 1 where something grew, or the node is not as desired.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from bench.figures import machine
from bench.served import Daemon
from cellwall.client import Client
from cellwall.lab import Host, Lab

_ROUND = 5.0
"""Seconds between two samples."""
_SETTLE = 0.1
"""The share of the samples in which caches fill."""
_SLACK = 1.05
"""How much more memory is none: the allocator's pages."""


class Sample(msgspec.Struct, frozen=True):
    """What there is when nothing is attached. `memory` in kB; `elements`: of all our sets."""

    operations: int
    memory: int
    descriptors: int
    threads: int
    links: int
    elements: int
    rules: int
    namespaces: int


class Latency(msgspec.Struct, frozen=True):
    """How long the calls of one kind took, in seconds, as the daemon counts them: below what half of them and 99 of a
    hundred were, at the next bucket's bound."""

    count: int
    half: float
    most: float


class Worker:
    """Who has one sandbox, and has it attached and detached."""

    def __init__(self, root: Path, name: str, sandbox: Host, port: int) -> None:
        self._client = Client.open(root=root, patience=30)
        self._name, self._sandbox, self._port = name, sandbox, port
        self.operations = 0

    def work(self, until: float) -> None:
        """All that can be asked for of an endpoint, over and over."""
        client, name, port = self._client, self._name, self._port
        while time.monotonic() < until:
            client.attach(name, netns=self._sandbox.netns, tenant=name, expose=[f"{port}:80"])
            client.expose(name, f"{port}:53/udp")
            client.set_policy({"mode": "block"}, tenant=name)
            client.unexpose(name, f"{port}:80")
            client.remove_policy(tenant=name)
            client.detach(name)
            self.operations += 6

    def close(self) -> None:
        """Let the connection go."""
        self._client.close()


def sample(lab: Lab, pid: int, operations: int) -> Sample:
    """Count, with nothing attached."""
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    listed = lab.node.run(["nft", "-j", "list", "ruleset"]).stdout
    entries = [entry for entry in msgspec.json.decode(listed)["nftables"] if _ours(entry)]
    links = lab.node.run(["ip", "-o", "link"]).text
    kept = lab.root / "run/cellwall/netns"
    return Sample(
        operations=operations,
        memory=int(status["VmRSS"].split()[0]),
        descriptors=len(os.listdir(f"/proc/{pid}/fd")),
        threads=int(status["Threads"]),
        links=links.count(": b9h"),
        elements=sum(len(entry[kind].get("elem", ())) for entry in entries for kind in ("set", "map") if kind in entry),
        rules=sum("rule" in entry for entry in entries),
        namespaces=len(os.listdir(kept)) if kept.exists() else 0,
    )


def latencies(text: str) -> dict[str, Latency]:
    """Of every kind of call, from the daemon's metrics."""
    buckets: dict[str, list[tuple[float, int]]] = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            if one.name == "cellwall_call_seconds_bucket":
                buckets.setdefault(one.labels["call"], []).append((float(one.labels["le"]), int(one.value)))
    return {
        call: Latency(found[-1][1], _below(found, 0.5), _below(found, 0.99))
        for call, found in sorted((call, sorted(found)) for call, found in buckets.items())
    }


def grown(samples: Sequence[Sample]) -> list[str]:
    """What is more at the end than it was when caches had filled, a line each: the least of the last quarter beside the
    least of the first, for at any one moment a look at the wall may be going on."""
    settled = samples[max(1, int(len(samples) * _SETTLE)) :]
    quarter = len(settled) // 4
    if not quarter:
        return ["too few samples to tell"]
    lines = []
    for name in ("memory", "descriptors", "threads", "links", "elements", "rules", "namespaces"):
        first, last = (min(getattr(one, name) for one in some) for some in (settled[:quarter], settled[-quarter:]))
        if last > first * (_SLACK if name == "memory" else 1):
            lines.append(f"{name}: {first}, then {last}")
    return lines


def soak(minutes: float, workers: int) -> tuple[list[Sample], tuple[str, ...], dict[str, Latency]]:
    """The samples, what differs from what is desired at the end, and how long calls took."""
    samples: list[Sample] = []
    with Lab() as lab:
        daemon = Daemon(lab)
        daemon.client.up()
        crew = [Worker(lab.root, f"w{n}", lab.sandbox(f"w{n}"), 8000 + n) for n in range(workers)]
        end = time.monotonic() + minutes * 60
        while time.monotonic() < end:
            _work(crew, min(time.monotonic() + _ROUND, end))
            daemon.client.reconcile()  # what drains is cleaned up with it
            daemon.client.metrics()  # as Prometheus asks: links that ended are remembered until their figures are read
            samples.append(sample(lab, daemon.pid, sum(worker.operations for worker in crew)))
            print(msgspec.json.encode(samples[-1]).decode(), file=sys.stderr, flush=True)
        drift = daemon.client.status().drift
        took = latencies(daemon.client.metrics())
        for worker in crew:
            worker.close()
        daemon.close()
    return samples, drift, took


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(prog="bench soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(argv)
    samples, drift, took = soak(given.minutes, given.workers)
    wrong = [*grown(samples), *(f"drift: {line}" for line in drift)]
    if given.json:
        found = {"machine": machine("tmpfs"), "samples": samples, "wrong": wrong, "calls": took}
        given.json.write_bytes(msgspec.json.encode(found))
    for call, latency in took.items():
        print(f"{call}: {latency.count}, half below {latency.half * 1000:g} ms, 99 % below {latency.most * 1000:g} ms")
    print(f"{samples[-1].operations} operations in {given.minutes:g} minutes: {'; '.join(wrong) or 'nothing grew'}")
    return 1 if wrong else 0


def _work(crew: Sequence[Worker], until: float) -> None:
    """All of them at once; what one of them is refused is raised."""
    with ThreadPoolExecutor(len(crew)) as pool:
        for working in [pool.submit(worker.work, until) for worker in crew]:
            working.result()


def _below(buckets: Sequence[tuple[float, int]], share: float) -> float:
    return next(bound for bound, count in buckets if count >= buckets[-1][1] * share)


def _ours(entry: dict[str, Any]) -> bool:
    (body,) = entry.values()
    return bool(body.get("table", "").startswith("cellwall"))
