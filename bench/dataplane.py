"""What the wall costs a packet: connections and small datagrams a second, against no firewall and beside the peers.

    python -m bench dataplane [--populations 10,1000] [--rounds N] [--quick] [--json]

One sandbox of each node sends to the Internet through the node's forwarding and NAT, while as many others as asked are
attached. In each round everybody carries the same load one after the other, each round begins with another, and a ratio
is taken within its round: what disturbs the machine disturbs both sides of it. A load is carried several times and the
best counts, since whatever else the machine does can only take time away. The median of the ratios is the figure, and
where nine tenths of them lie is its spread.
"""

import argparse
import socket
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import msgspec

from bench.bare import NoFirewall
from bench.contestants import Contestant, InIptables, InLegacyIptables, InProcess, Netavark, ReferenceChain, missing
from bench.figures import Machine, headline, machine, place_state, quantile, table
from bench.firstpacket import Echo
from bench.front import parser_for, tell
from bench.load import CONNECTIONS, DATAGRAMS, Load
from cellwall.lab import Lab

FAMILIES = {"IPv4": socket.AF_INET, "IPv6": socket.AF_INET6}
# The base comes first; what a node enforces does not depend on who called it, so the plugin is not among them.
_MEASURED: Sequence[type[NoFirewall | InProcess | ReferenceChain | Netavark]] = (
    NoFirewall,
    InProcess,
    InIptables,
    InLegacyIptables,
    ReferenceChain,
    Netavark,
)
_BEST_OF = 4
Key = tuple[str, str, str]
Samples = dict[Key, list[float]]


class Ratio(msgspec.Struct, frozen=True):
    """`rate` a second is the median; the ratios are against the first contestant, each within one round."""

    contestant: str
    what: str
    family: str
    attached: int
    samples: int
    rate: float
    ratio: float
    ratio_p5: float
    ratio_p95: float


class Report(msgspec.Struct, frozen=True):
    """Everything of one run."""

    machine: Machine
    rows: list[Ratio]
    left_out: list[str]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = parser_for("dataplane", __doc__, quick="10 rounds at 10")
    parser.add_argument("--populations", type=_numbers, default=[10, 1000], metavar="N,…", help="default: 10,1000")
    parser.add_argument("--rounds", type=int, default=60, metavar="N", help="at each population (%(default)s)")
    chosen = parser.parse_args(argv)
    populations, rounds = ([10], 10) if chosen.quick else (chosen.populations, chosen.rounds)
    return tell(measure(populations, rounds), _text, as_json=chosen.json)


def measure(populations: Sequence[int], rounds: int) -> Report:
    """The whole run; it leaves nothing behind."""
    place_state("tmpfs")
    present = [kind for kind in _MEASURED if not missing(kind)]
    rows = [row for population in populations for row in _at(population, rounds, present)]
    left_out = [f"{kind.name}: {missing(kind)} is not installed" for kind in _MEASURED if kind not in present]
    return Report(machine("tmpfs"), rows, left_out)


def _at(
    population: int, rounds: int, kinds: Sequence[type[NoFirewall | InProcess | ReferenceChain | Netavark]]
) -> list[Ratio]:
    """All ratios at one population, on fresh nodes."""
    samples: Samples = defaultdict(list)
    with ExitStack() as cleanup:
        everybody: list[list[tuple[Key, Callable[[], float]]]] = []
        for kind in kinds:
            contestant = kind(cleanup.enter_context(Lab(offload=True)))
            cleanup.callback(contestant.close)
            everybody.append(_loads(contestant, population, cleanup))
        for number in range(rounds):
            turn = number % len(everybody)
            for alike in zip(*everybody, strict=True):
                for key, act in alike[turn:] + alike[:turn]:
                    samples[key].append(max(act() for _ in range(_BEST_OF)))
            print(f"\r{population} attached: round {number + 1} of {rounds} ", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
    return ratios_of(samples, population, kinds[0].name)


def _loads(contestant: Contestant, population: int, cleanup: ExitStack) -> list[tuple[Key, Callable[[], float]]]:
    """What is asked of one contestant in a round. Both families pass before the node is full: a broadcast to 1,000
    bridge ports fills the queue that its answer needs (net.core.netdev_max_backlog), and a peer's node needs one."""
    contestant.prepare()
    sandbox = contestant.lab.sandbox("sender")
    with contestant.lab.node.enter():
        contestant.attach("sender", sandbox)
    asked: list[tuple[Key, Callable[[], float]]] = []
    for name, family in FAMILIES.items():
        with Echo(sandbox, family) as echo:
            echo.await_reply(10)
        load = Load(contestant.lab, sandbox, family)
        cleanup.callback(load.close)
        asked.append(((contestant.name, "connections", name), load.connections))
        asked.append(((contestant.name, "datagrams", name), load.datagrams))
    contestant.populate(population - 1)
    return asked


def ratios_of(samples: Samples, population: int, base: str) -> list[Ratio]:
    """One row for each contestant, load and family; the samples of a round have the same position."""
    rows = []
    for (contestant, what, family), rates in samples.items():
        ratios = [rate / other for rate, other in zip(rates, samples[base, what, family], strict=True)]
        p5, p50, p95 = (round(quantile(ratios, share), 3) for share in (0.05, 0.5, 0.95))
        rate = round(quantile(rates, 0.5))
        rows.append(Ratio(contestant, what, family, population, len(rates), rate, p50, p5, p95))
    return rows


def _text(report: Report) -> str:
    rows = [
        (
            *(row.what, row.contestant, row.family, str(row.attached), str(row.samples)),
            *(f"{row.rate:,.0f}", f"{row.ratio:.2f}", f"{row.ratio_p5:.2f}–{row.ratio_p95:.2f}"),
        )
        for row in sorted(report.rows, key=lambda row: (row.what, row.attached, row.family))
    ]
    head = ("a second", "contestant", "family", "attached", "n", "p50", "of no firewall", "p5–p95")
    size = f"a sample: the best of {_BEST_OF} × {CONNECTIONS:,} connections, {DATAGRAMS:,} datagrams of 18 bytes"
    return "\n\n".join(
        [
            f"{headline(report.machine)} · {size}",
            table(head, rows),
            *(f"left out: {line}" for line in report.left_out),
        ]
    )


def _numbers(text: str) -> list[int]:
    numbers = [int(part) for part in text.split(",")]
    if min(numbers) < 2:
        raise argparse.ArgumentTypeError("a population has 2 or more")
    return numbers
