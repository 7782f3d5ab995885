"""The record of CNI's own attachments."""

from pathlib import Path

from cellwall.cni.ledger import Ledger
from cellwall.model.endpoint import EndpointKey

WEB, WEB1, DB = EndpointKey("web", "eth0"), EndpointKey("web", "eth1"), EndpointKey("db", "eth0")


def test_an_attachment_goes_from_absent_over_pending_to_delivered(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path / "cni"))
    assert ledger.stage(WEB) == "absent"
    ledger.begin(WEB, "net")
    assert ledger.stage(WEB) == "pending"
    ledger.deliver(WEB)
    assert ledger.stage(WEB) == "delivered"
    ledger.begin(WEB, "net")
    assert ledger.stage(WEB) == "pending"


def test_networks_and_interfaces_are_kept_apart(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path / "cni"))
    for key, network in ((WEB, "a"), (WEB1, "b"), (DB, "a")):
        ledger.begin(key, network)
    ledger.deliver(DB)
    assert set(ledger.keys("a")) == {WEB, DB}
    assert set(ledger.keys("b")) == {WEB1}
    ledger.drop(WEB)
    assert set(ledger.keys("a")) == {DB}
    assert ledger.stage(WEB1) == "pending"


def test_dropping_leaves_nothing_behind_and_tolerates_absence(tmp_path: Path) -> None:
    directory = tmp_path / "cni"
    ledger = Ledger(str(directory))
    ledger.drop(WEB)
    ledger.begin(WEB, "a")
    (directory / "web" / "eth0.pending.77").touch()  # the draft of a killed call
    assert list(ledger.keys("a")) == [WEB]
    ledger.drop(WEB)
    ledger.drop(WEB)
    assert list(directory.iterdir()) == []


def test_the_longest_names_fit(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path))
    key = EndpointKey("x" * 253, "e" * 15)
    ledger.begin(key, "n" * 253)
    ledger.deliver(key)
    assert list(ledger.keys("n" * 253)) == [key]


def test_an_interface_named_like_a_stage_is_only_a_name(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path))
    key = EndpointKey("web", "eth0.pending")
    ledger.begin(key, "a")
    ledger.deliver(key)
    assert list(ledger.keys("a")) == [key]
    assert ledger.stage(WEB) == "absent"
    ledger.drop(WEB)
    assert list(ledger.keys("a")) == [key]
