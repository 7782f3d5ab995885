"""The command: what it runs, what it prints, and the exit status that says how it went."""

import os
import signal
import subprocess
import sys

import msgspec
import pytest

from cellwall.attack import main
from cellwall.attack.command import select
from cellwall.attack.frames import scapy
from cellwall.attack.functional import Done
from cellwall.attack.peers import PEERS
from cellwall.attack.report import Report, document, render, result_of
from cellwall.attack.rows import every_probe
from cellwall.attack.suite import Control, Measured
from cellwall.cli.exits import classify
from cellwall.errors import CellwallError, InvalidSpec, NoPrivilege, TooBusy, Unsupported
from cellwall.lab.namespaces import namespaces_of
from running import come_to, labs_of

PROBES = every_probe()
PROBE = PROBES[0]


def report(*, seen: str = "", missed: str = "", control: Control | None = None, failure: str = "") -> Report:
    found = Measured({}, {PROBE.id: TooBusy(missed)}) if missed else Measured({PROBE.id: seen}, {})
    return Report(
        against="a wall",
        seconds=1.0,
        probes=(result_of(PROBE, found, control),),
        functional=(Done("work", "something that must work", failure),),
    )


# ---------------------------------------------------------------- exit status and words


def test_status_0_is_for_a_wall_that_holds() -> None:
    sound = Control(succeeded=True, stopped=("PIN",))
    assert report().status == report(control=sound).status == 0


def test_status_10_is_for_something_that_is_through() -> None:
    assert report(seen="on the link of victim", failure="does not work").status == 10


def test_status_1_is_for_a_wrong_claim_and_for_work_that_cannot_be_done() -> None:
    assert report(control=Control(succeeded=False)).status == 1
    assert report(control=Control(succeeded=True, passed=("PIN",))).status == 1
    assert report(failure="timeout").status == 1


def test_status_11_is_for_what_could_not_be_measured() -> None:
    assert report(missed="it loses packets").status == 11
    assert report(control=Control(succeeded=False, missed="it loses packets")).status == 11
    assert report(missed="it loses packets", failure="timeout").status == 1
    assert report(seen="a frame", control=Control(succeeded=False, missed="it loses packets")).status == 10
    assert report(control=Control(succeeded=False, passed=("PIN",), missed="it loses packets")).status == 1


def test_what_could_not_be_measured_is_told_with_why() -> None:
    missed = report(missed="it loses packets")
    told = render(missed)
    assert f"not measured: {PROBE.id}: the machine is too busy: it loses packets" in told
    assert "1 probes, 0 through; 1 not measured" in told
    assert document(missed)["not_measured"] == {PROBE.id: "the machine is too busy: it loses packets"}
    in_control = report(control=Control(succeeded=False, missed="nothing can be sent"))
    assert f"not measured: {PROBE.id}: control: nothing can be sent" in render(in_control)
    assert "wrong claim" not in render(in_control)


def test_what_is_through_is_told_with_what_was_seen() -> None:
    told = render(report(seen="on the link of victim: a frame"))
    assert f"THROUGH {PROBE.id}" in told
    assert "on the link of victim: a frame" in told
    assert "1 probes, 1 through" in told
    assert document(report(seen="a frame"))["through"] == [PROBE.id]


def test_a_wrong_claim_names_probe_and_layer() -> None:
    told = render(report(control=Control(succeeded=True, passed=("PORT",))))
    assert f"wrong claim: {PROBE.id}: PORT alone does not stop it" in told


def test_work_that_fails_is_told_with_why() -> None:
    assert "does not work: work: something that must work: timeout" in render(report(failure="timeout"))


# ---------------------------------------------------------------- arguments


def test_rows_and_probes_can_be_chosen() -> None:
    chosen = select(PROBES, ["A13", PROBE.id])
    assert {probe.row for probe in chosen} == {"A13", PROBE.row}
    assert [probe.id for probe in chosen if probe.row == PROBE.row] == [PROBE.id]
    assert select(PROBES, []) == PROBES


@pytest.mark.parametrize(("name", "reason"), [("B12", "is not covered: needs policies by name"), ("Z1", "is no row")])
def test_a_name_that_nothing_has_is_refused(name: str, reason: str) -> None:
    with pytest.raises(InvalidSpec, match=reason) as refused:
        main(["--only", name])
    assert classify(refused.value)[0] == 2


@pytest.mark.parametrize("elsewhere", [["--here"], ["--against", "none"], ["--compare"]])
def test_controls_are_for_a_wall_in_a_lab(elsewhere: list[str]) -> None:
    with pytest.raises(InvalidSpec, match="--controls"):
        main([*elsewhere, "--controls"])


def test_without_root_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NoPrivilege, match="needs root") as refused:
        main([])
    assert classify(refused.value)[0] == 6


def test_without_scapy_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scapy.layers", None)
    scapy.cache_clear()
    try:
        with pytest.raises(Unsupported, match=r"install cellwall\[attack\]") as refused:
            scapy()
        assert classify(refused.value)[0] == 5
    finally:
        scapy.cache_clear()


def test_the_list_needs_no_root_and_no_lab(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["--list", "--json"]) == 0
    listed = msgspec.json.decode(capsys.readouterr().out)
    assert [entry["id"] for entry in listed["probes"]] == [probe.id for probe in PROBES]
    assert listed["not_covered"]["C05"]
    assert main(["--list", "--only", "A13"]) == 0
    assert "A13-uplink" in capsys.readouterr().out


# ---------------------------------------------------------------- runs


@pytest.mark.root
def test_a_run_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "--only", "A13,A02", "--controls"]) == 0
    told = msgspec.json.decode(capsys.readouterr().out)
    assert told["through"] == told["unsound"] == []
    assert {probe["row"] for probe in told["probes"]} == {"A02", "A13"}
    assert all(probe["control"]["succeeded"] and not probe["through"] for probe in told["probes"])


@pytest.mark.root
def test_a_bridge_without_a_wall_is_status_10(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--against", "none", "--only", "A02-udp-v4"]) == 10
    assert "THROUGH A02-udp-v4" in capsys.readouterr().out


@pytest.mark.root
def test_what_the_node_was_told_of_a_path_stops_no_later_flood(capsys: pytest.CaptureFixture[str]) -> None:
    """By the first of the two it takes the path to the attacker for a narrow one, and the other's packets are large."""
    main(["--against", "none", "--only", "B04-too-big-node-neighbour-v6,B10-bytes-in-v6", "--json"])
    assert [probe["through"] for probe in msgspec.json.decode(capsys.readouterr().out)["probes"]] == [True, True]


@pytest.mark.root
def test_a_sandbox_can_do_its_work_without_a_wall(capsys: pytest.CaptureFixture[str]) -> None:
    """The functional half asks for nothing that only cellwall does."""
    main(["--against", "none", "--json"])
    told = msgspec.json.decode(capsys.readouterr().out)
    assert told["broken"] == []
    assert len(told["functional"]) >= 30


@pytest.mark.root
@pytest.mark.parametrize("name", ["cni", "netavark"])
def test_peers_let_through_what_the_wall_stops(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    needed = PEERS[name].needs
    if not os.access(needed, os.X_OK):
        pytest.skip(f"{needed} is not installed")
    assert main(["--against", name, "--only", "A02,A10,C01,D01", "--json"]) == 10
    told = msgspec.json.decode(capsys.readouterr().out)
    assert {probe["row"] for probe in told["probes"] if probe["through"]} == {"A02", "A10", "C01", "D01"}


@pytest.mark.root
def test_a_peer_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PEERS, "cni", PEERS["cni"]._replace(needs="/nowhere/bridge"))  # type: ignore[arg-type]
    with pytest.raises(CellwallError, match="/nowhere/bridge is not installed") as refused:
        main(["--against", "cni"])
    assert classify(refused.value)[0] == 5


@pytest.mark.root
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ended_by_a_signal_it_leaves_no_namespace(number: signal.Signals) -> None:
    code = "import sys; from cellwall.attack import main; sys.exit(main(['--controls']))"
    running = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    prefixes: list[str] = []

    def has_a_lab() -> bool:
        prefixes[:] = labs_of(running.pid)
        return any(map(namespaces_of, prefixes))

    come_to(running, has_a_lab)
    running.send_signal(number)
    assert running.wait(30) != 0
    assert [one for prefix in prefixes for one in namespaces_of(prefix)] == []
    assert labs_of(running.pid) == []
