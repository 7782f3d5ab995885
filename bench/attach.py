"""How long an attach takes until a packet passes both ways, a detach until it returns, and one of each after the other.

    python -m bench attach [--population N] [--rounds N] [--quick] [--state tmpfs|disk] [--json]

Everybody is asked in turn, round after round, in one run: what disturbs the machine disturbs all of them. Each attach
gets a sandbox that was empty before; detached sandboxes are deleted between the measurements, as a runtime deletes
them, and the kernel is given the time to clean them up.

A detach of cellwall closes the endpoint and leaves its link to a later operation. So that nothing hides there, many
attaches and detaches are also timed as a whole, at full speed and with every deletion that falls due among them.
"""

import socket
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack

import msgspec

from bench.bulk import Bulk, measure_bulk
from bench.contestants import (
    Contestant,
    InIptables,
    InLegacyIptables,
    InProcess,
    Netavark,
    Plugin,
    ReferenceChain,
    missing,
)
from bench.figures import Machine, Place, Row, headline, machine, place_state, summarise, table
from bench.firstpacket import Echo
from bench.front import parser_for, tell
from bench.goals import CYCLE, DETACH, FIRST_IPV6_PACKET, FIRST_PACKET, RETURNS, Goal, judge
from bench.served import ByClient, PluginByDaemon
from bench.transactions import RuleCount, count_rules
from cellwall.lab import Lab

_ROUNDS_WITH_IPV6 = 3  # duplicate address detection takes a peer more than a second each time
_PATIENCE = {socket.AF_INET: 5.0, socket.AF_INET6: 10.0}
_SETTLING = 0.05
_CYCLE_SAMPLES = 5
ALL: tuple[type[InProcess | ByClient | Plugin | ReferenceChain | Netavark], ...] = (
    InProcess,
    ByClient,
    InIptables,
    InLegacyIptables,
    Plugin,
    PluginByDaemon,
    ReferenceChain,
    Netavark,
)
Samples = dict[tuple[str, str, int], list[float]]


class Report(msgspec.Struct, frozen=True):
    """Everything of one run."""

    machine: Machine
    rows: list[Row]
    bulk: list[Bulk]
    rules: list[RuleCount]
    goals: list[Goal]
    notes: list[str]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = parser_for("attach", __doc__, quick="4 rounds, 50 attached")
    parser.add_argument("--population", type=int, default=1000, metavar="N", help="attached containers (%(default)s)")
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="at each population (%(default)s)")
    parser.add_argument("--state", choices=("tmpfs", "disk"), default="tmpfs", help="everybody's state (%(default)s)")
    chosen = parser.parse_args(argv)
    population, rounds = (50, 4) if chosen.quick else (chosen.population, chosen.rounds)
    return tell(measure(population, rounds, chosen.state), _text, as_json=chosen.json)


def measure(population: int, rounds: int, state: Place) -> Report:
    """The whole run; it leaves nothing behind."""
    place_state(state)
    samples: Samples = defaultdict(list)
    present = [kind for kind in ALL if not missing(kind)]
    with ExitStack() as cleanup:
        contestants: list[Contestant] = []
        for kind in present:
            contestant: Contestant = kind(cleanup.enter_context(Lab(offload=True)))
            cleanup.callback(contestant.close)
            contestants.append(contestant)
            contestant.prepare()
            _attach_first(contestant)
        counts = [count_rules(contestant.name, 1, contestant.lab.node) for contestant in contestants]
        _rounds(contestants, 0, rounds, samples)
        if population:
            for contestant in contestants:
                contestant.populate(population - 1)  # the first one is attached already
            counts += [count_rules(contestant.name, population, contestant.lab.node) for contestant in contestants]
            _rounds(contestants, population, max(1, rounds // 2), samples)
    rows = [summarise(*key, seconds) for key, seconds in samples.items()]
    notes = [f"left out: {kind.name}: {missing(kind)} is not installed" for kind in ALL if kind not in present]
    bulk = [*measure_bulk(population)] if population else []
    return Report(machine(state), rows, bulk, counts, judge(rows, population), notes + _lost(rows))


def _attach_first(contestant: Contestant) -> None:
    """The first call makes bridges, chains and caches. It stays attached: an empty node is torn down by some."""
    sandbox = contestant.lab.sandbox("first")
    with contestant.lab.node.enter():
        contestant.attach("first", sandbox)
    with Echo(sandbox, socket.AF_INET) as echo:
        echo.await_reply(5)


def _rounds(contestants: Sequence[Contestant], attached: int, rounds: int, samples: Samples) -> None:
    for number in range(rounds):
        for contestant in contestants:
            for repeat in range(contestant.samples_a_round):
                _once(contestant, f"c{attached}-{number}-{repeat}", attached, samples, ipv6=number < _ROUNDS_WITH_IPV6)
        print(f"\r{attached} attached: round {number + 1} of {rounds} ", end="", file=sys.stderr, flush=True)
    for number in range(_CYCLE_SAMPLES):
        for contestant in contestants:
            samples[contestant.name, CYCLE, attached].append(_cycles(contestant, f"y{attached}-{number}"))
    print(file=sys.stderr)


def _once(contestant: Contestant, name: str, attached: int, samples: Samples, *, ipv6: bool) -> None:
    sandbox = contestant.lab.sandbox(name)
    with Echo(sandbox, socket.AF_INET) as echo4, Echo(sandbox, socket.AF_INET6) as echo6:
        with contestant.lab.node.enter():
            began = time.perf_counter()
            contestant.attach(name, sandbox)
            samples[contestant.name, RETURNS, attached].append(time.perf_counter() - began)
            if echo4.passes_within(_PATIENCE[socket.AF_INET]):
                samples[contestant.name, FIRST_PACKET, attached].append(time.perf_counter() - began)
        if ipv6 and echo6.passes_within(_PATIENCE[socket.AF_INET6]):
            samples[contestant.name, FIRST_IPV6_PACKET, attached].append(time.perf_counter() - began)
        with contestant.lab.node.enter():
            began = time.perf_counter()
            contestant.detach(name, sandbox)
            samples[contestant.name, DETACH, attached].append(time.perf_counter() - began)
    contestant.lab.delete_sandbox(sandbox)
    time.sleep(_SETTLING)


def _cycles(contestant: Contestant, name: str) -> float:
    """Seconds for one attach and one detach, the mean of many at full speed."""
    count = contestant.cycles_a_sample
    sandboxes = contestant.lab.sandboxes([f"{name}-{number}" for number in range(count)])
    with contestant.lab.node.enter():
        began = time.perf_counter()
        for sandbox in sandboxes:
            contestant.attach(sandbox.name, sandbox)
            contestant.detach(sandbox.name, sandbox)
        seconds = time.perf_counter() - began
    for sandbox in sandboxes:
        contestant.lab.delete_sandbox(sandbox)
    time.sleep(_SETTLING)
    return seconds / count


def _lost(rows: Sequence[Row]) -> list[str]:
    """Where no packet came through for all the patience there was, no sample was taken: in that node's favour."""
    counted = {(row.contestant, row.operation, row.attached): row.samples for row in rows}
    attaches = [(name, attached, n) for (name, operation, attached), n in counted.items() if operation == RETURNS]
    return [
        f"{name}, {attached} attached: after {n - passed} of {n} attaches no IPv4 packet passed within 5 s"
        for name, attached, n in attaches
        if (passed := counted.get((name, FIRST_PACKET, attached), 0)) < n
    ]


def _text(report: Report) -> str:
    rows = [
        (row.operation, row.contestant, str(row.attached), str(row.samples), f"{row.p50:.2f}", f"{row.p99:.2f}")
        for row in sorted(report.rows, key=lambda row: (row.attached, row.operation))
    ]
    parts = [
        headline(report.machine),
        table(("milliseconds", "contestant", "attached", "n", "p50", "p99"), rows),
        table(
            ("one call", "count", "ms", "ms each", "transactions"),
            [
                (b.what, str(b.count), f"{b.milliseconds:.0f}", f"{b.milliseconds / b.count:.2f}", str(b.transactions))
                for b in report.bulk
            ],
        ),
        table(
            ("in the kernel", "attached", "chains", "rules"),
            [(c.contestant, str(c.attached), str(c.chains), str(c.rules)) for c in report.rules],
        ),
        table(
            ("goal (p50)", "value", "limit", ""),
            [(g.goal, f"{g.value:.2f}", f"{g.limit:.2f}", "reached" if g.reached else "MISSED") for g in report.goals],
        ),
        *report.notes,
    ]
    return "\n\n".join(parts)
