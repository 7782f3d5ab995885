"""How long an attach takes until a packet passes both ways, and a detach until it returns.

    python -m bench.attach [--population N] [--rounds N] [--state tmpfs|disk] [--json]

Everybody is asked in turn, round after round, in one run: what disturbs the machine disturbs all of them. Each attach
gets a sandbox that was empty before; detached sandboxes are deleted between the measurements, as a runtime deletes
them, and the kernel is given the time to clean them up.
"""

import argparse
import socket
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import msgspec

from bench.contestants import ALL, Contestant, InProcess, Netavark, Plugin, ReferenceChain, missing
from bench.figures import Machine, Place, Row, headline, machine, place_state, summarise, table
from bench.firstpacket import Echo
from cellwall.api import AttachRequest, Wall
from cellwall.lab import Lab
from cellwall.model.endpoint import PortBinding

_ROUNDS_WITH_IPV6 = 3  # duplicate address detection takes a peer more than a second each time
_SETTLING = 0.05
_FIRST_PORT = 30001  # beyond the ports that masqueraded flows use
Samples = dict[tuple[str, str, int], list[float]]


class Goal(msgspec.Struct, frozen=True):
    """One of the goals, and whether this run reached it."""

    goal: str
    value: float
    limit: float
    reached: bool


class Bulk(msgspec.Struct, frozen=True):
    """Many in one transaction."""

    what: str
    count: int
    milliseconds: float


class Report(msgspec.Struct, frozen=True):
    """Everything of one run."""

    machine: Machine
    rows: list[Row]
    bulk: list[Bulk]
    goals: list[Goal]
    left_out: list[str]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="bench.attach", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--population", type=int, default=1000, metavar="N", help="attached containers (%(default)s)")
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="at each population (%(default)s)")
    parser.add_argument("--state", choices=("tmpfs", "disk"), default="tmpfs", help="everybody's state (%(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    chosen = parser.parse_args(argv)
    report = measure(chosen.population, chosen.rounds, chosen.state)
    print(msgspec.json.format(msgspec.json.encode(report)).decode() if chosen.json else _text(report))
    return 0


def measure(population: int, rounds: int, state: Place) -> Report:
    """The whole run; it leaves nothing behind."""
    place_state(state)
    samples: Samples = defaultdict(list)
    present = [kind for kind in ALL if not missing(kind)]
    with ExitStack() as cleanup:
        contestants: list[Contestant] = []
        for kind in present:
            contestant = kind(cleanup.enter_context(Lab()))
            cleanup.callback(contestant.close)
            contestants.append(contestant)
            contestant.prepare()
            _attach_first(contestant)
        _rounds(contestants, 0, rounds, samples)
        if population:
            for contestant in contestants:
                contestant.populate(population)
            _rounds(contestants, population, max(1, rounds // 2), samples)
    rows = [summarise(*key, seconds) for key, seconds in samples.items()]
    left_out = [f"{kind.name}: {missing(kind)} is not installed" for kind in ALL if kind not in present]
    bulk = [*_bulk(population)] if population else []
    return Report(machine(state), rows, bulk, _goals(rows, population), left_out)


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
    print(file=sys.stderr)


def _once(contestant: Contestant, name: str, attached: int, samples: Samples, *, ipv6: bool) -> None:
    sandbox = contestant.lab.sandbox(name)
    with Echo(sandbox, socket.AF_INET) as echo4, Echo(sandbox, socket.AF_INET6) as echo6:
        with contestant.lab.node.enter():
            began = time.perf_counter()
            contestant.attach(name, sandbox)
            returned = time.perf_counter()
            echo4.await_reply(5)
            passed4 = time.perf_counter()
        if ipv6:
            echo6.await_reply(10)
            samples[contestant.name, "attach, first IPv6 packet", attached].append(time.perf_counter() - began)
        samples[contestant.name, "attach, call returns", attached].append(returned - began)
        samples[contestant.name, "attach, first packet", attached].append(passed4 - began)
        with contestant.lab.node.enter():
            began = time.perf_counter()
            contestant.detach(name, sandbox)
            samples[contestant.name, "detach", attached].append(time.perf_counter() - began)
    contestant.lab.delete_sandbox(sandbox)
    time.sleep(_SETTLING)


def _bulk(count: int) -> list[Bulk]:
    """One transaction of `count` on a fresh node, without and with a published port each, and a range of ports."""
    with Lab() as lab:
        bulk = _bulk_attach(lab, "attachments", [()] * count)
    with Lab() as lab:
        published = [(PortBinding("tcp", _FIRST_PORT + number, 80),) for number in range(count)]
        bulk += _bulk_attach(lab, "attachments with a published port each", published)
    with Lab() as lab, lab.node.enter(), Wall.open(root=lab.root) as wall:
        wall.attach("one", netns=lab.sandbox("one").netns, expose=[PortBinding("udp", _FIRST_PORT, 80)])
        # Host and container ports differ, so each port is an element of the map, in both families.
        wide = PortBinding("tcp", _FIRST_PORT, 1000, host_port_last=_FIRST_PORT + count - 1)
        bulk.append(Bulk("exposures of one container", count, _timed(lambda: wall.expose("one", wide))))
    return bulk


def _bulk_attach(lab: Lab, what: str, bindings: Sequence[tuple[PortBinding, ...]]) -> list[Bulk]:
    hosts = lab.sandboxes([f"bulk{number}" for number in range(len(bindings) + 1)])
    with lab.node.enter(), Wall.open(root=lab.root) as wall:
        # The first use of a form of exposure loads its rules, which is part of no attachment.
        first = (PortBinding("tcp", _FIRST_PORT - 1, 80),) if bindings[0] else ()
        wall.attach("first", netns=hosts.pop().netns, expose=first)
        requests = [
            AttachRequest(host.name, netns=str(host.netns), bindings=own)
            for host, own in zip(hosts, bindings, strict=True)
        ]
        together = _timed(lambda: wall.attach_many(requests))
        apart = _timed(lambda: wall.detach_many([request.key for request in requests]))
    return [Bulk(what, len(requests), together), Bulk("their detachments", len(requests), apart)]


def _timed(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return round((time.perf_counter() - began) * 1000, 1)


def _goals(rows: Sequence[Row], population: int) -> list[Goal]:
    p50 = {(row.contestant, row.operation, row.attached): row.p50 for row in rows}
    attach = "attach, first packet"
    ours, plugin, chain, peer = InProcess.name, Plugin.name, ReferenceChain.name, Netavark.name
    compared = [
        ("in-process attach ≤ 1/10 of netavark's", (ours, attach, 0), (peer, attach, 0), 10),
        ("in-process detach ≤ 1/50 of netavark's", (ours, "detach", 0), (peer, "detach", 0), 50),
        ("executable ADD ≤ 1/3 of the reference chain's", (plugin, attach, 0), (chain, attach, 0), 3),
        (
            f"executable ADD ≤ 1/10 of the reference chain's at {population}",
            (plugin, attach, population),
            (chain, attach, population),
            10,
        ),
    ]
    goals = [
        Goal(text, p50[one], round(p50[other] / share, 3), p50[one] <= p50[other] / share)
        for text, one, other, share in compared
        if one in p50 and other in p50
    ]
    guides = [(attach, 0, 3.0), ("detach", 0, 0.5), (attach, population, 5.0)]
    return goals + [
        Goal(f"guide: {operation} in process, {attached} attached (ms)", value, limit, value <= limit)
        for operation, attached, limit in guides
        if (value := p50.get((ours, operation, attached))) is not None
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
            ("one transaction", "count", "ms", "ms each"),
            [(b.what, str(b.count), f"{b.milliseconds:.0f}", f"{b.milliseconds / b.count:.2f}") for b in report.bulk],
        ),
        table(
            ("goal (p50)", "value", "limit", ""),
            [(g.goal, f"{g.value:.2f}", f"{g.limit:.2f}", "reached" if g.reached else "MISSED") for g in report.goals],
        ),
        *(f"left out: {line}" for line in report.left_out),
    ]
    return "\n\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
