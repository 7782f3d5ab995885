"""The hostile tenant against the wall: nothing is through, and every claim about a layer is true."""

import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import pytest

import cellwall
from cellwall.attack.catalogue import CATALOGUE, UNCOVERED_PARTS
from cellwall.attack.command import attack
from cellwall.attack.observers import Observers
from cellwall.attack.probe import Layer, Probe, Volley, layers
from cellwall.attack.removal import Footing
from cellwall.attack.report import Report
from cellwall.attack.rows import every_probe
from cellwall.attack.rows.ended import Kept
from cellwall.attack.stage import WalledStage, walled_stage
from cellwall.attack.suite import assault, control
from cellwall.attack.threats import LAYER_WORDS, SUITE_TEST, threats
from cellwall.errors import LabError
from cellwall.lab import Lab
from cellwall.ruleset.types import ElementChange
from measured import assert_few
from world import Wrapped, rewired

pytestmark = pytest.mark.minutes
PROBES = every_probe()
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def stage() -> Iterator[WalledStage]:
    with walled_stage() as stage:
        yield stage


@pytest.fixture(scope="module")
def report(stage: WalledStage) -> Report:
    """The whole suite, run once."""
    return attack(stage, PROBES, against="this wall")


# ---------------------------------------------------------------- against the wall


@pytest.mark.root
def test_nothing_is_through(report: Report) -> None:
    assert {result.id: result.seen for result in report.through} == {}
    assert_few({result.id: result.not_measured for result in report.missed}, len(PROBES))
    assert report.left_out == 0
    assert {result.id for result in report.probes} == {probe.id for probe in PROBES}


@pytest.mark.root
def test_a_sandbox_can_do_its_work(report: Report) -> None:
    assert {done.id: done.failure for done in report.broken} == {}
    assert len(report.functional) >= 30


@pytest.mark.root
@pytest.mark.slow
def test_every_claim_about_layers_is_true(stage: WalledStage, report: Report) -> None:
    checked = control(stage.world, Footing(stage.wall, stage.lab.node), PROBES)
    assert {name: found for name, found in checked.items() if not found.sound} == {}
    assert_few({name: found.missed for name, found in checked.items() if found.missed}, len(PROBES))
    assert set(checked) == {probe.id for probe in PROBES if "CTL" not in probe.layers or probe.kernel}


@pytest.mark.root
def test_a_control_finds_a_layer_that_does_not_stop_the_probe(stage: WalledStage) -> None:
    probe = next(probe for probe in PROBES if probe.id == "A02-udp-v4")
    boasting = msgspec.structs.replace(probe, layers=frozenset[Layer]({"FWD", "OUT"}))
    found = control(stage.world, Footing(stage.wall, stage.lab.node), [boasting])[probe.id]
    assert found.passed == ("OUT",)
    assert not found.sound


@pytest.mark.root
def test_a_control_finds_a_layer_that_nobody_named(stage: WalledStage) -> None:
    probe = next(probe for probe in PROBES if probe.id == "A01-unicast-udp-v4")
    modest = msgspec.structs.replace(probe, layers=frozenset[Layer]({"PORT"}))
    found = control(stage.world, Footing(stage.wall, stage.lab.node), [modest])[probe.id]
    assert not found.succeeded
    assert not found.sound


@pytest.mark.root
def test_a_control_finds_that_the_kernel_would_not_stop_a_probe(stage: WalledStage) -> None:
    probe = next(probe for probe in PROBES if probe.id == "A02-udp-v4")
    trusting = msgspec.structs.replace(probe, kernel="the kernel sees to it")
    assert not control(stage.world, Footing(stage.wall, stage.lab.node), [trusting])[probe.id].sound


@pytest.mark.root
def test_a_busy_machine_that_counts_late_takes_no_pile_for_a_small_one(
    stage: WalledStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    remembered = Kept.remembered

    def late(kept: Kept) -> int:
        time.sleep(1.5)
        return remembered(kept)

    monkeypatch.setattr(Kept, "remembered", late)
    footing = Footing(stage.wall, stage.lab.node)
    footing.remove(frozenset({"FWD"}))
    try:
        found = assault(stage.world, [probe for probe in PROBES if probe.id == "B06-ended-reset-v4"])
    finally:
        footing.restore()
    assert all(found.values())


@contextmanager
def careless(stage: WalledStage, **replaced: Callable[..., object]) -> Iterator[None]:
    """The control plane without something that it does, for as long as the block lasts."""
    whole = stage.world.wall
    stage.world.wall = rewired(stage.wall, rules=Wrapped(stage.wall._site.rules, **replaced))
    try:
        yield
    finally:
        stage.world.wall = whole
        stage.wall.reconcile()


def chosen(pattern: str) -> list[Probe]:
    probes = [probe for probe in PROBES if re.fullmatch(pattern, probe.id)]
    assert {probe.layers for probe in probes} == {layers("CTL")}
    return probes


@pytest.mark.root
def test_a_control_plane_that_forgets_no_flow_is_found_out(stage: WalledStage) -> None:
    """The rules stop what such a flow delivers, so that alone it would not be noticed."""
    with careless(stage, purge_flows=lambda generations: None):
        found = assault(stage.world, chosen("D09-(flow|published)-v[46]"))
    assert len(found) == 4
    assert [name for name, seen in found.items() if not seen] == []


@pytest.mark.root
def test_a_control_plane_that_leaves_open_flows_alone_is_found_out(stage: WalledStage) -> None:
    """What new policies list is in force at once, and for flows that are under way with the next operation only."""
    rules, late = stage.wall._site.rules, []

    def apply(changes: Sequence[ElementChange], where: object = None) -> None:
        while late:
            rules.apply(late.pop())
        if {change.op for change in changes if change.set == "live"} == {"add", "delete"}:
            late.append([change for change in changes if change.set in ("live", "version4", "version6")])
        rules.apply([change for change in changes if not late or change not in late[0]])

    with careless(stage, apply=apply, holds=lambda elements: True):
        found = assault(stage.world, chosen("D10-(out|answer|client)-.*"))
    assert len(found) == 20
    assert [name for name, seen in found.items() if not seen] == []


@pytest.mark.root
@pytest.mark.parametrize("family", [4, 6])
def test_a_control_plane_that_leaves_a_port_published_is_found_out(stage: WalledStage, family: int) -> None:
    rules = stage.wall._site.rules

    def apply(changes: Sequence[ElementChange], where: object = None) -> None:
        published = [change for change in changes if change.set.startswith(("publish", "exposed"))]
        rules.apply([change for change in changes if change.op == "add" or change not in published])

    with careless(stage, apply=apply):
        (seen,) = assault(stage.world, chosen(f"D09-former-port-v{family}")).values()
    assert seen


@pytest.mark.root
def test_the_wall_is_whole_again_after_the_controls(stage: WalledStage) -> None:
    footing = Footing(stage.wall, stage.lab.node)
    probe = next(probe for probe in PROBES if probe.id == "A02-udp-v4")
    footing.remove(frozenset({"FWD"}))
    assert "192.168.0" in assault(stage.world, [probe])[probe.id]
    footing.restore()
    assert assault(stage.world, [probe]) == {probe.id: ""}


@pytest.mark.root
def test_an_observer_that_lost_packets_says_nothing(lab: Lab) -> None:
    observers = Observers(lab.node, {})
    try:
        for sock in observers._node:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 19)
        with lab.lan.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.connect((lab.node.addresses("eth0")[0], 9))
            for _ in range(2000):
                with suppress(ConnectionRefusedError):
                    sender.send(b"noise")
        with pytest.raises(LabError, match="ran full"):
            observers.discard()
    finally:
        observers.close()


# ---------------------------------------------------------------- the catalogue


def test_every_row_has_probes_or_a_reason() -> None:
    covered = {probe.row for probe in PROBES}
    assert {row.id for row in CATALOGUE if row.id not in covered and not row.missing} == set()
    assert {row.id for row in CATALOGUE if row.id in covered and row.missing} == set()
    assert covered <= {row.id for row in CATALOGUE}
    assert set(UNCOVERED_PARTS) <= covered


def test_probes_and_their_tokens_are_told_apart() -> None:
    assert len({probe.id for probe in PROBES}) == len(PROBES)
    assert len({probe.token for probe in PROBES}) == len(PROBES)
    assert all(probe.id.startswith(f"{probe.row}-") for probe in PROBES)


def test_every_probe_says_what_stops_it() -> None:
    assert [probe.id for probe in PROBES if not probe.layers and not probe.kernel] == []
    assert [probe.id for probe in PROBES if isinstance(probe, Volley) and not probe.at] == []
    assert [probe.id for probe in PROBES if probe.together and len(probe.layers) < 2] == []


def test_nothing_else_knows_a_probe() -> None:
    source = Path(cellwall.__file__).parent
    probe = re.compile(r"\b[A-D](0[1-9]|1[0-6])-[\w:]")
    assert all(probe.match(known.id) for known in PROBES)
    knowing = [
        str(path)
        for path in source.rglob("*.py")
        if "attack" not in path.relative_to(source).parts and probe.search(path.read_text())
    ]
    assert knowing == []


# ---------------------------------------------------------------- the pages


def test_the_page_of_threats_is_what_the_suite_runs() -> None:
    page = (REPOSITORY / "docs/threats.md").read_text()
    assert page == threats(PROBES), "cellwall attack --table > docs/threats.md"


def test_the_page_of_threats_names_what_is_there() -> None:
    named = {SUITE_TEST, *(path for row in CATALOGUE for path in row.also)}
    named |= {f"src/cellwall/{where.strip()}" for _, place in LAYER_WORDS.values() for where in place.split(",")}
    assert {path for path in named if not (REPOSITORY / path).exists()} == set()


def test_the_comparison_was_measured_with_these_probes() -> None:
    page = (REPOSITORY / "docs/comparison.md").read_text()
    told = dict(re.findall(r"^\| ([A-D]\d\d) \|[^|]*\| 0 of (\d+) \|", page, re.MULTILINE))
    counted = [probe.row for probe in PROBES if not probe.kernel]
    assert told == {row: str(counted.count(row)) for row in set(counted)}, "cellwall attack --compare"
