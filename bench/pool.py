"""What a claim of a ready sandbox costs through the daemon's socket, and how long a thousand callers at once wait.

    python -m bench pool [--population N] [--claims N] [--grown N] [--crowd N] [--quick] [--json]

Each on a node of its own with a daemon, in one run: calls one after the other, claims where client and daemon have a
processor each, and claims with a pause between them, on an empty node and on a full one; containers that come by claims
alone, twenty in a row and then a rest in which the pool is filled again, until the node is full; then as many attaches
at once as a bridge has room for. Of a few calls after a rest most is what caches and processors need to get going; of
the many that fill a node, hundred by hundred, less is. Beside the clock stands the processor time of client and daemon,
which other work on the machine changes less. A ready sandbox is a bridge port, so a full node has fewer than 1,023
containers.
"""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from bench.contestants import batches
from bench.figures import Machine, Row, headline, machine, place_state, summarise, table
from bench.front import parser_for, tell
from bench.served import Daemon
from cellwall.client import AsyncClient
from cellwall.lab import Lab
from cellwall.model.endpoint import EndpointKey
from cellwall.model.pool import was_pooled

_SIZE = "CELLWALL_POOL_SIZE"
_SETTLED = 1.5
"""Seconds after which a daemon has done what it leaves for later, and the watch has looked."""
APART = 0.02
"""Seconds between the claims of a caller that starts something in each: processors and caches are others' then."""
IN_A_ROW, REST = 20, 0.5
"""Claims of those that fill a node, and seconds until the next ones."""
CLAIM, ATTACH, DETACH = "claim", "attach, namespace made by cellwall", "detach"
CLAIM_APART = f"claim, {1000 * APART:.0f} ms apart"
CLAIM_PLACED = "claim, a processor each"


class Cost(msgspec.Struct, frozen=True):
    """Of one call: quantiles, and the processor's time in milliseconds."""

    row: Row
    client_cpu: float
    daemon_cpu: float


class Crowd(msgspec.Struct, frozen=True):
    """Callers at once: seconds until the last was answered, of the clock and of processors, and how many were lost."""

    callers: int
    seconds: float
    client_cpu: float
    daemon_cpu: float
    lost: int


class Grown(msgspec.Struct, frozen=True):
    """Claims of a hundred containers, beside those that came before. `missed`: found no ready sandbox, and are not
    among the samples; milliseconds."""

    row: Row
    least: float
    missed: int


class Report(msgspec.Struct, frozen=True):
    """Everything of one run."""

    machine: Machine
    costs: list[Cost]
    grown: list[Grown]
    crowds: list[Crowd]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = parser_for("pool", __doc__, quick="small numbers")
    parser.add_argument("--population", type=int, default=900, metavar="N", help="attached containers (%(default)s)")
    parser.add_argument("--claims", type=int, default=40, metavar="N", help="calls of a kind (%(default)s)")
    parser.add_argument("--grown", type=int, default=960, metavar="N", help="containers by claims alone (%(default)s)")
    parser.add_argument("--crowd", type=int, default=1000, metavar="N", help="callers at once (%(default)s)")
    chosen = parser.parse_args(argv)
    if chosen.quick:
        chosen.population, chosen.claims, chosen.grown, chosen.crowd = 20, 5, 40, 20
    report = measure(chosen.population, chosen.claims, chosen.grown, chosen.crowd)
    return tell(report, _text, as_json=chosen.json)


def measure(population: int, claims: int, grown: int, crowd: int) -> Report:
    """The whole run; it leaves nothing behind."""
    place_state("tmpfs")
    costs: list[Cost] = []
    with Lab() as lab, _serving(lab, claims + 1) as daemon:
        daemon.client.up()
        costs += _calls(daemon, 0, claims)
        for batch in batches(lab, population):
            daemon.client.attach_many(batch)
        costs += _calls(daemon, population, claims)
    with Lab() as lab, _serving(lab, 2 * IN_A_ROW) as daemon:
        daemon.client.up()
        growth = _grown(daemon, grown)
    crowds = []
    for number in (crowd // 10, crowd):
        with Lab() as lab, _serving(lab, 0) as daemon:
            daemon.client.up()
            crowds.append(_crowd(lab, daemon, number))
    return Report(machine("tmpfs"), costs, growth, crowds)


@contextmanager
def _serving(lab: Lab, ready: int) -> Iterator[Daemon]:
    os.environ[_SIZE] = str(ready)
    try:
        daemon = Daemon(lab)
    finally:
        del os.environ[_SIZE]
    try:
        yield daemon
    finally:
        daemon.close()


def _calls(daemon: Daemon, attached: int, count: int) -> list[Cost]:
    client = daemon.client
    names = [f"c{attached}-{number}" for number in range(count)]
    claims = [lambda name=name: client.claim(name, tenant="acme") for name in names]
    _await_ready(daemon, count)
    apart = _timed(daemon, CLAIM_APART, attached, claims, pause=APART)
    client.detach_many([EndpointKey(name, "eth0") for name in names])
    _await_ready(daemon, count)
    with _placed(daemon):
        placed = _timed(daemon, CLAIM_PLACED, attached, claims)
    client.detach_many([EndpointKey(name, "eth0") for name in names])
    _await_ready(daemon, count)
    return [
        apart,
        placed,
        _timed(daemon, CLAIM, attached, claims),
        _timed(daemon, DETACH, attached, [lambda name=name: client.detach(name) for name in names]),
        _timed(daemon, ATTACH, attached, [lambda name=name: client.attach(name, tenant="acme") for name in names]),
        _timed(daemon, DETACH + ", attached", attached, [lambda name=name: client.detach(name) for name in names]),
    ]


@contextmanager
def _placed(daemon: Daemon) -> Iterator[None]:
    """Client and daemon on a processor each, as a scheduler places two that work in turn where one is idle; some put
    them on one all the same. Where there is but one processor they have that."""
    processors = sorted(os.sched_getaffinity(0))
    _place(daemon, processors[:1], processors[-1:])
    try:
        yield
    finally:
        _place(daemon, processors, processors)


def _place(daemon: Daemon, own: Sequence[int], theirs: Sequence[int]) -> None:
    os.sched_setaffinity(0, own)
    for thread in os.listdir(f"/proc/{daemon.pid}/task"):
        os.sched_setaffinity(int(thread), theirs)


def _await_ready(daemon: Daemon, count: int) -> None:
    while daemon.client.status().ready <= count:
        time.sleep(0.1)
    time.sleep(_SETTLED)


def _timed(
    daemon: Daemon, operation: str, attached: int, calls: Sequence[Callable[[], object]], *, pause: float = 0.0
) -> Cost:
    seconds, own, theirs = [], time.process_time(), _cpu(daemon.pid)
    for call in calls:
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
        if pause:
            time.sleep(pause)
    own, theirs = time.process_time() - own, _cpu(daemon.pid) - theirs
    each = 1000 / len(calls)
    return Cost(summarise("through the socket", operation, attached, seconds), own * each, theirs * each)


def _grown(daemon: Daemon, count: int) -> list[Grown]:
    _await_ready(daemon, 2 * IN_A_ROW - 1)
    seconds, found = list[float](), list[bool]()
    for number in range(count):
        if number % IN_A_ROW == 0 and number:
            time.sleep(REST)
        began = time.perf_counter()
        claimed = daemon.client.claim(f"grown{number}", tenant="acme")
        seconds.append(time.perf_counter() - began)
        found.append(was_pooled(claimed))
    return [_hundred(first, seconds[first : first + 100], found[first : first + 100]) for first in range(0, count, 100)]


def _hundred(first: int, seconds: Sequence[float], found: Sequence[bool]) -> Grown:
    hits = [took for took, hit in zip(seconds, found, strict=True) if hit] or [float("nan")]
    row = summarise("through the socket", CLAIM, first, hits)
    return Grown(row, round(1000 * min(hits), 3), found.count(False))


def _crowd(lab: Lab, daemon: Daemon, callers: int) -> Crowd:
    sandboxes = lab.sandboxes([f"crowd{number}" for number in range(callers)])
    time.sleep(_SETTLED)

    async def ask() -> int:
        async with AsyncClient.open(root=lab.root, patience=30) as client:
            calls = [client.attach(host.name, netns=host.netns, tenant="acme") for host in sandboxes]
            made = await asyncio.gather(*calls, return_exceptions=True)
        return sum(isinstance(one, BaseException) for one in made)

    began, own, theirs = time.perf_counter(), time.process_time(), _cpu(daemon.pid)
    lost = asyncio.run(ask())
    seconds = time.perf_counter() - began
    spent = (time.process_time() - own, _cpu(daemon.pid) - theirs)
    lost += callers - len(daemon.client.endpoints()) - lost
    print(f"\r{callers} callers ", end="", file=sys.stderr, flush=True)
    return Crowd(callers, seconds, *spent, lost)


def _cpu(pid: int) -> float:
    """Seconds that the process has had of processors."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as file:
            total += int(file.read().split()[0])
    return total / 1e9


def _text(report: Report) -> str:
    tables = (_costs(report.costs), _growth(report.grown), _crowds(report.crowds))
    return "\n\n".join([headline(report.machine), *tables])


def _costs(costs: Sequence[Cost]) -> str:
    rows = [
        (
            cost.row.operation,
            str(cost.row.attached),
            str(cost.row.samples),
            f"{cost.row.p50:.2f}",
            f"{cost.row.p99:.2f}",
            f"{cost.client_cpu:.2f}",
            f"{cost.daemon_cpu:.2f}",
        )
        for cost in costs
    ]
    return table(("milliseconds", "attached", "n", "p50", "p99", "client cpu", "daemon cpu"), rows)


def _growth(grown: Sequence[Grown]) -> str:
    rows = [
        (
            f"from {one.row.attached} on",
            str(one.row.samples),
            str(one.missed),
            f"{one.least:.2f}",
            f"{one.row.p50:.2f}",
            f"{one.row.p99:.2f}",
        )
        for one in grown
    ]
    return table(("claims that fill a node, ms", "n", "missed", "least", "p50", "p99"), rows)


def _crowds(crowds: Sequence[Crowd]) -> str:
    rows = [
        (
            str(one.callers),
            f"{one.seconds:.2f}",
            f"{one.client_cpu:.2f}",
            f"{one.daemon_cpu:.2f}",
            f"{1000 * one.daemon_cpu / one.callers:.2f}",
            str(one.lost),
        )
        for one in crowds
    ]
    return table(("attaches at once", "seconds", "client cpu", "daemon cpu", "daemon cpu each, ms", "lost"), rows)
