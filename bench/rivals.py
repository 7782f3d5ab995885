"""What a neighbour's rates lose by the clock to a tenant that floods, and to one that merely computes.

    python -m bench rivals [--rounds N] [--quick] [--json]

By the clock the scheduler has the first word: whoever wants the same processor takes a share of it, whatever it does
there. What a wall has to answer for is what a flood takes beyond that. So beside the flood stand two rivals that send
nothing through it: one that spins, and one whose flood never leaves its sandbox. Each is a process in a scheduling
group of its own, on the neighbour's processor and on another: in one with the neighbour, even a rival on another
processor takes half of what the group has. Within a round everybody has a turn, and ratios are taken within it.

The sandboxes have bounds by tenant, of packets and of flows at once; what a flood sends beyond them is dropped.
"""

import ctypes
import os
import signal
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Literal, NoReturn
from warnings import catch_warnings

import msgspec

from bench.figures import Machine, headline, machine, place_state, quantile, table
from bench.front import parser_for, tell
from bench.load import CONNECTIONS, DATAGRAMS
from bench.neighbour import FAMILIES, Family, Node
from cellwall.model.settings import Settings

What = Literal["spins", "floods itself", "floods"]
_WHATS: tuple[What, ...] = ("spins", "floods itself", "floods")
_SETTINGS = Settings(tenant_packets=100_000)
"""More than the neighbour sends in its turns, and a quarter of what a flood does."""
_SAMPLES = 2
"""Of the neighbour's load in a sample: less is over before the scheduler has everybody have a turn."""
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None)
_WARM = 0.05  # seconds that a rival runs before it counts


class Beside(msgspec.Struct, frozen=True):
    """What is left of a neighbour's rate by the clock, and of what it has beside who spins: medians of the ratios, and
    where nine tenths of them lie. `worked`: the part of its processor that the rival had; where it is the neighbour's
    that is what the scheduler gave it."""

    family: Family
    rival: What
    shared: bool
    what: str
    samples: int
    left: float
    left_p5: float
    left_p95: float
    of_spinning: float
    of_spinning_p5: float
    of_spinning_p95: float
    worked: float


class Report(msgspec.Struct, frozen=True):
    """Everything of one run."""

    machine: Machine
    rows: list[Beside]


@contextmanager
def rival(work: Callable[[], NoReturn], processor: int) -> Iterator[Callable[[], float]]:
    """A process that does this until the end of the block; what is yielded tells its seconds of processor time."""
    with catch_warnings(action="ignore"):  # a fork beside threads: the child takes no lock that one of them could hold
        pid = os.fork()
    if not pid:
        try:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            os.setsid()  # a scheduling group of its own (sched_autogroup), as a tenant has one by its control group
            os.sched_setaffinity(0, {processor})
            work()
        finally:
            os._exit(1)
    try:
        yield lambda: _worked(pid)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def spin() -> NoReturn:
    """Compute nothing."""
    while True:
        pass


_Samples = Mapping[tuple[What | None, bool, str], Sequence[float]]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = parser_for("rivals", __doc__, quick="2 rounds")
    parser.add_argument("--rounds", type=int, default=30, metavar="N", help="of everybody (%(default)s)")
    chosen = parser.parse_args(argv)
    return tell(measure(2 if chosen.quick else chosen.rounds), _text, as_json=chosen.json)


def measure(rounds: int) -> Report:
    """The whole run; it leaves nothing behind."""
    place_state("tmpfs")
    processors = os.sched_getaffinity(0)
    rows: list[Beside] = []
    try:
        for family in FAMILIES:
            os.sched_setaffinity(0, {min(processors)})
            with ExitStack() as opened:
                rows += _measured(
                    Node("by tenant", opened, family, settings=_SETTINGS), rounds, min(processors), max(processors)
                )
            os.sched_setaffinity(0, processors)
    finally:
        os.sched_setaffinity(0, processors)
    return Report(machine("tmpfs"), rows)


def _measured(node: Node, rounds: int, here: int, elsewhere: int) -> Iterator[Beside]:
    works: dict[What, Callable[[], NoReturn]] = {
        "spins": spin,
        "floods itself": node.inner.send_forever,
        "floods": node.flood.send_forever,
    }
    rates: dict[tuple[What | None, bool, str], list[float]] = defaultdict(list)
    worked: dict[tuple[What, bool], list[float]] = defaultdict(list)
    places = [(what, shared) for what in _WHATS for shared in (True, False)]
    for turn in range(rounds):
        _sample(node, rates, None, shared=False)
        at = turn % len(places)
        for what, shared in (*places[at:], *places[:at]):
            with rival(works[what], here if shared else elsewhere) as seconds:
                time.sleep(_WARM)
                before, began = seconds(), time.perf_counter()
                _sample(node, rates, what, shared=shared)
                worked[what, shared].append((seconds() - before) / (time.perf_counter() - began))
            node.remembered()
    for what, shared in places:
        for load in ("connections", "datagrams"):
            yield _beside(node.family, what, shared, load, rates, statistics.median(worked[what, shared]))


def _sample(
    node: Node, rates: dict[tuple[What | None, bool, str], list[float]], what: What | None, *, shared: bool
) -> None:
    """The neighbour's rates by the clock."""
    for load, count, carry in (
        ("connections", CONNECTIONS, node.load.connections),
        ("datagrams", DATAGRAMS, node.load.datagrams),
    ):
        began = time.perf_counter()
        for _ in range(_SAMPLES):
            carry()
        rates[what, shared, load].append(_SAMPLES * count / (time.perf_counter() - began))


def _beside(family: Family, what: What, shared: bool, load: str, rates: _Samples, worked: float) -> Beside:
    own = rates[what, shared, load]
    left = [one / alone for one, alone in zip(own, rates[None, False, load], strict=True)]
    of_spinning = [one / other for one, other in zip(own, rates["spins", shared, load], strict=True)]
    return Beside(
        family=family,
        rival=what,
        shared=shared,
        what=load,
        samples=len(own),
        left=statistics.median(left),
        left_p5=quantile(left, 0.05),
        left_p95=quantile(left, 0.95),
        of_spinning=statistics.median(of_spinning),
        of_spinning_p5=quantile(of_spinning, 0.05),
        of_spinning_p95=quantile(of_spinning, 0.95),
        worked=worked,
    )


def _worked(pid: int) -> float:
    """Seconds of processor time of a process, what it had done for it in the kernel included (proc(5), stat)."""
    with open(f"/proc/{pid}/stat") as shown:
        fields = shown.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _text(report: Report) -> str:
    rows = [
        [f"IPv{row.family}", row.rival, "the neighbour's" if row.shared else "another", row.what,
         f"{row.left:.2f}", f"{row.left_p5:.2f}-{row.left_p95:.2f}",
         f"{row.of_spinning:.2f}", f"{row.of_spinning_p5:.2f}-{row.of_spinning_p95:.2f}", f"{row.worked:.2f}"]
        for row in report.rows
    ]  # fmt: skip
    head = ["", "a rival that", "on processor", "of its neighbour", "left by the clock", "90 %"]
    head += ["of what spinning leaves", "90 %", "processor it had"]
    note = f"a sample: {_SAMPLES} times {CONNECTIONS} connections or {DATAGRAMS:,} datagrams"
    return "\n".join([headline(report.machine), "", table(head, rows), "", note])
