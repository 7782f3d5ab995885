"""`cellwall attack`: the suite against a wall, and an exit status that says whether it held.

    0   nothing through, everything that must work works
    1   the suite is wrong about a layer (--controls), or something that must work does not
    10  something is through
    11  nothing is, but of some probes it cannot be said: the machine was too busy, or what they begin with failed

Ends its lab, or its two sandboxes on a live node, also on Ctrl-C, SIGTERM and SIGHUP.
"""

import argparse
import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from cellwall import __version__
from cellwall.arguments import Parser
from cellwall.attack.catalogue import CATALOGUE
from cellwall.attack.comparison import comparison
from cellwall.attack.functional import Done, work
from cellwall.attack.live import gentle, live_world
from cellwall.attack.peers import PEERS, peer_stage, peer_version
from cellwall.attack.probe import Probe
from cellwall.attack.removal import Footing
from cellwall.attack.report import Report, document, not_covered, render, render_list, result_of, stopped_by
from cellwall.attack.rows import every_probe
from cellwall.attack.stage import Stage, WalledStage, walled_stage
from cellwall.attack.suite import control, measure, measure_by_row
from cellwall.attack.threats import threats
from cellwall.errors import InvalidSpec, NoPrivilege
from cellwall.lab.ending import ended_by_signals

WALLED = "cellwall"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the suite; the exit status. NoPrivilege without root, Unsupported where a program is missing."""
    chosen = _parser().parse_args(argv)
    probes = select(every_probe(), chosen.only)
    if chosen.list:
        _print_list(probes, json=chosen.json)
        return 0
    if chosen.table:
        print(threats(every_probe()), end="")
        return 0
    if chosen.controls and (chosen.here or chosen.compare or chosen.against != WALLED):
        raise InvalidSpec("--controls", "", "takes layers of a wall away: in a lab, and of cellwall's")
    if os.geteuid() != 0:
        raise NoPrivilege("the suite sends raw frames and makes network namespaces: it needs root")
    with ended_by_signals():
        if chosen.compare:
            reports = [_run_against(name, probes) for name in (WALLED, *PEERS)]
            print(comparison(probes, reports), end="")
            return reports[0].status
        report = _run(chosen, probes)
    if chosen.json:
        print(msgspec.json.format(msgspec.json.encode(document(report)), indent=2).decode(), flush=True)
    else:
        print(render(report, covered=not chosen.only), flush=True)
    return report.status


def select(probes: Sequence[Probe], only: Iterable[str]) -> tuple[Probe, ...]:
    """The probes that are named, by row or by id; all where nothing is. InvalidSpec for a name that nothing has."""
    wanted = tuple(only)
    if not wanted:
        return tuple(probes)
    for name in wanted:
        if not any(name in (probe.id, probe.row) for probe in probes):
            known = next((row for row in CATALOGUE if row.id == name), None)
            raise InvalidSpec("--only", name, f"is not covered: {known.missing}" if known else "is no row and no probe")
    return tuple(probe for probe in probes if {probe.id, probe.row} & set(wanted))


def attack(
    stage: Stage, probes: Sequence[Probe], *, against: str, controls: bool = False, useful: bool = True
) -> Report:
    """The suite on one stage of a lab. `useful`: do what must work, too."""
    began = time.monotonic()
    done: tuple[Done, ...] = work(stage) if useful else ()
    fitting = [probe for probe in probes if stage.world.applies(probe)]
    walled = isinstance(stage, WalledStage)
    found = measure(stage.world, fitting) if walled else measure_by_row(stage.world, fitting)
    checked = {}
    if controls and isinstance(stage, WalledStage):
        checked = control(stage.world, Footing(stage.wall, stage.lab.node), fitting)
    results = (result_of(probe, found, checked.get(probe.id)) for probe in fitting)
    return Report(
        against=against,
        seconds=time.monotonic() - began,
        probes=tuple(results),
        functional=done,
        left_out=len(probes) - len(fitting),
    )


def attack_here(root: str | None, probes: Sequence[Probe]) -> Report:
    """The gentle part of the suite on the live node that the calling thread is on."""
    began = time.monotonic()
    with live_world(root) as world:
        fitting = [probe for probe in gentle(probes) if world.applies(probe)]
        found = measure(world, fitting)
    return Report(
        against=f"cellwall {__version__} on this node",
        seconds=time.monotonic() - began,
        probes=tuple(result_of(probe, found) for probe in fitting),
        left_out=len(probes) - len(fitting),
    )


def _run(chosen: argparse.Namespace, probes: Sequence[Probe]) -> Report:
    if chosen.here:
        return attack_here(chosen.root, probes)
    return _run_against(chosen.against, probes, controls=chosen.controls, useful=not chosen.only)


@contextmanager
def _warnings_unsaid() -> Iterator[None]:
    """What the walls of a lab have to say about its node is nothing that the user can act upon."""
    log = logging.getLogger("cellwall")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _run_against(name: str, probes: Sequence[Probe], *, controls: bool = False, useful: bool = True) -> Report:
    if name == WALLED:
        with _warnings_unsaid(), walled_stage() as stage:
            return attack(stage, probes, against=f"cellwall {__version__}", controls=controls, useful=useful)
    with peer_stage(name) as peer:
        return attack(peer, probes, against=peer_version(name), useful=useful)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="cellwall attack",
        description="A hostile tenant, root in its container, tries everything in the catalogue of attacks against a "
        "wall in a throw-away lab. What counts is what arrived. Exit status 0: nothing is through; 10: something is; "
        "1: the suite is wrong about a layer, or a sandbox cannot work; 11: nothing is through, but not "
        "everything could be measured.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    parser.add_argument(
        "--only",
        action="extend",
        type=lambda names: names.split(","),
        default=[],
        metavar="ID[,ID]",
        help="these rows or probes",
    )
    parser.add_argument("--list", action="store_true", help="list the probes and the layers that stop them; run none")
    parser.add_argument("--table", action="store_true", help="print docs/threats.md: attacks, probes, layers, tests")
    parser.add_argument(
        "--controls",
        action="store_true",
        help="also take away the layers that are said to stop a probe: the same frames must then succeed, and with "
        "any independent one of them left they must fail",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--against", choices=(WALLED, *PEERS), default=WALLED, help="send the same frames against somebody else"
    )
    where.add_argument("--compare", action="store_true", help="against all of these; print docs/comparison.md")
    where.add_argument(
        "--here",
        action="store_true",
        help="attack this live node from two throw-away sandboxes, with what cannot disturb anybody",
    )
    parser.add_argument("--root", metavar="DIR", help="with --here: the node whose files are under DIR")
    return parser


def _print_list(probes: Sequence[Probe], *, json: bool) -> None:
    if not json:
        print(render_list(probes))
        print("\n".join(["", "not covered", *(f"{name:<4} {why}" for name, why in sorted(not_covered().items()))]))
        return
    listed = [{"id": p.id, "row": p.row, "title": p.title, "stopped_by": stopped_by(p)} for p in probes]
    print(msgspec.json.encode({"probes": listed, "not_covered": not_covered()}).decode())
