"""What policies cost: how long they take to come into force, and what a new connection pays for a list.

    python -m bench policies [--rules N] [--endpoints N] [--most N] [--rounds N] [--quick] [--json]

Lists are of networks of one prefix length each, so a list with 32 of them is 32 lookups in each family; the server is
on the last. An established flow asks no list. Everybody is asked in turn within a round, and a ratio is against the
wall without policies; rates are of processor time.
"""

import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from ipaddress import ip_address, ip_network

import msgspec

from bench.contestants import InProcess
from bench.dataplane import FAMILIES, Ratio, Samples, ratios_of
from bench.figures import Machine, headline, machine, place_state, quantile, table
from bench.front import parser_for, tell
from bench.load import CONNECTIONS, DATAGRAMS, Load
from cellwall.api import AttachRequest, Wall
from cellwall.lab import Lab
from cellwall.lab.addresses import PUBLIC4, PUBLIC6
from cellwall.model.policy import Policy, Rule

_FORMS = (0, 8, 32)
_BEST_OF = 4
_BASE = "no policies"
_SEVERAL = 20
_FEW = 3


class Change(msgspec.Struct, frozen=True):
    """A change of policies, and the medians of how long it took: of the clock, and of a processor, whatever else the
    machine did."""

    what: str
    samples: int
    milliseconds: float
    processor: float


class Report(msgspec.Struct, frozen=True):
    """Everything of one run."""

    machine: Machine
    changes: list[Change]
    ratios: list[Ratio]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = parser_for("policies", __doc__, quick="few of each")
    parser.add_argument("--rules", type=int, default=1000, metavar="N", help="of one endpoint (%(default)s)")
    parser.add_argument("--endpoints", type=int, default=1000, metavar="N", help="of ten rules each (%(default)s)")
    parser.add_argument("--most", type=int, default=262, metavar="N", help="of --rules each, of a tenant (%(default)s)")
    parser.add_argument("--rounds", type=int, default=60, metavar="N", help="of the data plane (%(default)s)")
    chosen = parser.parse_args(argv)
    size = (100, 20, 5, 3) if chosen.quick else (chosen.rules, chosen.endpoints, chosen.most, chosen.rounds)
    return tell(measure(*size), _text, as_json=chosen.json)


def measure(rules: int, endpoints: int, most: int, rounds: int) -> Report:
    """The whole run; it leaves nothing behind."""
    place_state("tmpfs")
    changes = [*_of_one(rules), *_of_many(endpoints), *_of_most(most, rules)]
    return Report(machine("tmpfs"), changes, _rates(rounds) if rounds else [])


# ---------------------------------------------------------------- coming into force


def _of_one(rules: int) -> Iterator[Change]:
    """One endpoint with many rules."""
    with Lab() as lab, lab.node.enter(), Wall.open(root=lab.root) as wall:
        wall.attach("one", netns=lab.sandbox("one").netns)
        long, other = list_of_addresses(rules), list_of_addresses(rules, last=1)
        yield _timed(f"the first policy of a node, {rules} rules", [lambda: wall.set_policy(long, container="one")])
        one_rule = [lambda: wall.set_policy(other, container="one"), lambda: wall.set_policy(long, container="one")]
        yield _timed(f"one of {rules} rules changed", one_rule * _SEVERAL)
        all_of_them = [
            lambda: wall.set_policy(Policy("block"), container="one"),
            lambda: wall.set_policy(long, container="one"),
        ]
        yield _timed(f"{rules} rules replaced by none, and back", all_of_them * _SEVERAL)
        hosts = lab.sandboxes([f"c{number}" for number in range(_SEVERAL)])
        attaches = [lambda host=host: wall.attach(host.name, netns=host.netns, policy=long) for host in hosts]
        yield _timed(f"an attach under {rules} rules", attaches)


def _of_many(count: int) -> Iterator[Change]:
    """Many endpoints of one tenant."""
    with Lab() as lab, lab.node.enter(), Wall.open(root=lab.root) as wall:
        ten, others = list_of_addresses(10), list_of_addresses(10, last=1)
        wall.set_policy(others, tenant="acme")
        hosts = lab.sandboxes([f"c{number}" for number in range(count)])
        requests = [AttachRequest(host.name, netns=str(host.netns), tenant="acme") for host in hosts]
        yield _timed(f"{count} attached at once under 10 rules each", [lambda: wall.attach_many(requests)])
        whole = [lambda: wall.set_policy(ten, tenant="acme"), lambda: wall.set_policy(others, tenant="acme")]
        yield _timed(f"one of 10 rules of a tenant changed, {count} endpoints", whole * 3)
        single = [
            lambda: wall.set_policy(Policy("block"), container="c0"),
            lambda: wall.set_policy(Policy(), container="c0"),
        ]
        yield _timed(f"the policy of one of {count} endpoints", single * _SEVERAL)


def _of_most(count: int, rules: int) -> Iterator[Change]:
    """As much as one tenant may have. The changes are those of a process that is alone, and of a daemon, which owns
    the wall."""
    with Lab() as lab, lab.node.enter(), Wall.open(root=lab.root) as wall:
        hosts = lab.sandboxes([f"c{number}" for number in range(count)])
        wall.attach_many([AttachRequest(host.name, netns=str(host.netns), tenant="acme") for host in hosts])
        size = f"{rules} rules of {count} endpoints"
        yield from _of_large(wall, rules, size)
        flushes = [lambda: _relaid(lab, wall)] * _FEW
        yield _timed(f"{size} laid again after a flush of all rules", flushes)
        if wall.own() == "":
            wall.repair()
            yield from _of_large(wall, rules, f"{size}, of a daemon")


def _of_large(wall: Wall, rules: int, size: str) -> Iterator[Change]:
    def change(policy: Policy) -> Callable[[], object]:
        return lambda: wall.set_policy(policy, tenant="acme")

    long, other, apart = (list_of_addresses(rules, last, first) for last, first in ((0, 0), (1, 0), (0, 1 << 16)))
    wall.set_policy(long, tenant="acme")
    yield _timed(f"one of {size} changed", [change(other), change(long)] * _FEW)
    yield _timed(f"all of {size} changed", [change(apart), change(long)] * _FEW)
    yield _timed(f"{size} replaced by none, and back", [change(Policy("block")), change(long)] * _FEW)


def _relaid(lab: Lab, wall: Wall) -> None:
    lab.node.run(["nft", "flush", "ruleset"])
    wall.repair(unseen=True)


def list_of_addresses(rules: int, last: int = 0, first: int = 0) -> Policy:
    """Addresses beside each other, half of either family; with another `last` one rule is another, and all are with
    another `first`."""
    four, six = ip_address("151.0.0.0") + first, ip_address("2a04::") + first
    hosts = [(four if number % 2 else six) + number for number in (*range(rules - 1), rules + last)]
    return Policy("allow", tuple(Rule("allow", ip_network(host)) for host in hosts))


def _timed(what: str, acts: Sequence[Callable[[], object]]) -> Change:
    seconds, processor = [], []
    for act in acts:
        began, before = time.perf_counter(), os.times()
        act()
        seconds.append(time.perf_counter() - began)
        processor.append(sum(os.times()[:4]) - sum(before[:4]))  # in hundredths, that of programs it ran included
    return Change(what, len(seconds), *(round(quantile(each, 0.5) * 1000, 2) for each in (seconds, processor)))


# ---------------------------------------------------------------- what a packet pays


class _Listed(InProcess):
    """A wall whose sender is under a list of that many prefix lengths in each family."""

    def __init__(self, lab: Lab, lengths: int) -> None:
        super().__init__(lab)
        self.lengths = lengths
        self.name = f"{lengths} prefix lengths" if lengths else _BASE

    def limit(self, name: str) -> None:
        """Put an attached container under the list. Called inside the node's namespace."""
        if self.lengths:
            self._wall.set_policy(list_of_lengths(self.lengths), container=name)


def list_of_lengths(count: int) -> Policy:
    """The server's address is the last that is looked for; what comes before is beside it."""
    rules = []
    for server in (ip_address(PUBLIC4[2]), ip_address(PUBLIC6[2])):
        rules.append(Rule("allow", ip_network(server)))
        for length in range(server.max_prefixlen - count + 1, server.max_prefixlen):
            beside = ip_address(int(server) ^ 1 << server.max_prefixlen - length)
            rules.append(Rule("allow", ip_network(f"{beside}/{length}", strict=False)))
    return Policy("allow", tuple(rules))


def _rates(rounds: int) -> list[Ratio]:
    samples: Samples = defaultdict(list)
    with ExitStack() as cleanup:
        everybody = []
        for lengths in _FORMS:
            contestant = _Listed(cleanup.enter_context(Lab(offload=True)), lengths)
            cleanup.callback(contestant.close)
            everybody.append(_loads(contestant, cleanup))
        for number in range(rounds):
            turn = number % len(everybody)
            for alike in zip(*everybody, strict=True):
                for key, act in alike[turn:] + alike[:turn]:
                    samples[key].append(max(act() for _ in range(_BEST_OF)))
            print(f"\rround {number + 1} of {rounds} ", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
    return ratios_of(samples, 2, _BASE)


def _loads(contestant: _Listed, cleanup: ExitStack) -> list[tuple[tuple[str, str, str], Callable[[], float]]]:
    contestant.prepare()
    sandbox = contestant.lab.sandbox("sender")
    with contestant.lab.node.enter():
        contestant.attach("sender", sandbox)
        contestant.limit("sender")
    asked: list[tuple[tuple[str, str, str], Callable[[], float]]] = []
    for name, family in FAMILIES.items():
        load = Load(contestant.lab, sandbox, family)
        cleanup.callback(load.close)
        asked.append(((contestant.name, "connections", name), partial(_per_second, load.connections, CONNECTIONS)))
        asked.append(((contestant.name, "datagrams", name), partial(_per_second, load.datagrams, DATAGRAMS)))
    return asked


def _per_second(act: Callable[[], object], count: int) -> float:
    """In a second of the sender's processor time, in which all packets travel: whatever else the machine does."""
    began = time.thread_time()
    act()
    return count / (time.thread_time() - began)


def _text(report: Report) -> str:
    changes = [
        (row.what, str(row.samples), f"{row.milliseconds:.2f}", f"{row.processor:.0f}") for row in report.changes
    ]
    ratios = [
        (row.what, row.contestant, row.family, str(row.samples), f"{row.rate:,.0f}", f"{row.ratio:.3f}",
         f"{row.ratio_p5:.3f}–{row.ratio_p95:.3f}")
        for row in sorted(report.ratios, key=lambda row: (row.what, row.family))
    ]  # fmt: skip
    return "\n\n".join(
        [
            headline(report.machine),
            table(("a change", "n", "p50, ms", "of a processor"), changes),
            table(("a processor's second", "wall", "family", "n", "p50", f"of {_BASE}", "p5–p95"), ratios),
        ]
    )
