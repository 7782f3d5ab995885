"""What is said of frames holds on a busy machine too: none is lost unnoticed."""

import errno
import itertools
import socket
from collections.abc import Iterator
from typing import cast

import pytest

from cellwall.attack import wire
from cellwall.attack.probe import Shot
from cellwall.attack.rows import every_probe
from cellwall.attack.stage import WalledStage, walled_stage
from cellwall.attack.suite import assault
from cellwall.errors import LabError


class FullQueue:
    """A socket whose queue takes nothing the first few times, as the kernel's says it; `lost` as the kernel counts."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.sent: list[bytes] = []
        self.losses = 0

    def lost(self) -> int:
        return self.losses

    def send(self, data: bytes) -> int:
        if self.refusals:
            self.refusals -= 1
            self.losses += 1
            raise OSError(errno.ENOBUFS, "No buffer space available")
        self.sent.append(data)
        return len(data)


@pytest.fixture(scope="module")
def stage() -> Iterator[WalledStage]:
    with walled_stage() as stage:
        yield stage


def test_a_full_queue_is_waited_for_and_every_frame_goes_once() -> None:
    queue = FullQueue(3)
    wire.send(cast(socket.socket, queue), [b"one", b"two"], queue.lost)
    assert queue.sent == [b"one", b"two"]


def test_a_queue_that_stays_full_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "_PATIENCE", 0.01)
    queue = FullQueue(1 << 40)
    with pytest.raises(LabError, match="too busy"):
        wire.send(cast(socket.socket, queue), [b"one"], queue.lost)


def test_a_frame_that_the_link_itself_drops_is_sent_and_no_reason_to_wait() -> None:
    dropping = FullQueue(2)
    wire.send(cast(socket.socket, dropping), [b"one", b"two"], lambda: 0)
    assert dropping.sent == [b"two"]


def test_another_failure_is_none_of_the_queue() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unconnected, pytest.raises(OSError, match="connected"):
        wire.send(unconnected, [b"one"])


def test_losses_are_counted() -> None:
    assert wire.lost() <= wire.lost()


@pytest.mark.root
def test_frames_are_sent_again_where_the_machine_lost_packets(
    stage: WalledStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = stage.world
    before = len(world.fire([echo(stage, b"<once>")]).seen["attacker"])
    counts = iter([0, 1, 1, 1])
    monkeypatch.setattr(wire, "lost", lambda: next(counts))
    seen = world.fire([echo(stage, b"<twice>")]).seen["attacker"]
    assert sum(b"<twice>" in frame for frame in seen) == 2
    assert before >= 1


@pytest.mark.root
def test_a_machine_that_goes_on_losing_packets_gets_no_verdict(
    stage: WalledStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = itertools.count()
    monkeypatch.setattr(wire, "lost", lambda: next(counts))
    with pytest.raises(LabError, match="loses packets"):
        stage.world.fire([])


@pytest.mark.root
def test_a_theft_during_which_packets_were_lost_gets_no_verdict(
    stage: WalledStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame of it that was lost is none that was stopped."""
    counts = itertools.count()
    theft = next(probe for probe in every_probe() if probe.id == "A10-llc")
    assert assault(stage.world, [theft]) == {"A10-llc": ""}
    monkeypatch.setattr(wire, "lost", lambda: next(counts))
    with pytest.raises(LabError, match="loses packets"):
        assault(stage.world, [theft])


def echo(stage: WalledStage, token: bytes) -> Shot:
    """What the attacker may send and is answered."""
    from cellwall.attack.frames import frame, packet

    world = stage.world
    body = packet(world.attacker.ip4, world.gateway.ip4, "icmp", token)
    return Shot("attacker", frame(world.attacker.mac, world.gateway.mac, body))
