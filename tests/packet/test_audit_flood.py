"""A tenant floods the wall with what is denied: every attempt of another is on record, and every packet counted."""

import json
import socket
from collections.abc import Callable, Iterator, Sequence
from threading import Condition
from typing import Literal

import pytest

from cellwall.adapters.events.files import Appended
from cellwall.adapters.iptables.counted_sets import read_denied_by_address
from cellwall.adapters.netlink.nfnetlink import open_netfilter_socket
from cellwall.attack import wire
from cellwall.attack.frames import frame, packet
from cellwall.audit.events import Attempt, Event
from cellwall.daemon.audit.thread import Auditor, audited
from cellwall.model.addresses import mac_text
from cellwall.model.settings import Settings
from cellwall.model.versions import STEM
from cellwall.names import TABLE
from world import Sandbox, World, about_nftables, open_world

pytestmark = pytest.mark.root
FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
FLOOR = {4: "10.0.0.5", 6: "fc00:9::9"}
FORGED = {4: "8.8.8.8", 6: "2a00:1450::8"}
ROUNDS, AT_ONCE = 20, 5000
"""Without a pause, which is more than 50,000 a second wherever a second is enough for that."""
PATIENCE = 20.0


class Recorded:
    """Attempts as they are written, for who waits for some."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self._more = Condition()

    def append(self, events: Sequence[Event]) -> Appended:
        with self._more:
            self.attempts += [event for event in events if isinstance(event, Attempt)]
            self._more.notify_all()
        return Appended(len(events))

    def wait(self, enough: Callable[[], bool]) -> None:
        with self._more:
            self._more.wait_for(enough, PATIENCE)


Recording = tuple[World, Recorded, Auditor]


@pytest.fixture(scope="module")
def recorded() -> Iterator[Recording]:
    about_nftables("budgets and counters by bridge port and policy version")
    with open_world() as world:
        kept = Recorded()
        with audited(world.wall, kept, world.wall.endpoints) as auditor:
            yield world, kept, auditor


def denied(world: World, family: str, name: str) -> dict[int | str, int]:
    """What a set of the rules has counted, by its key: a number, or the name of an interface."""
    listed = json.loads(world.lab.node.run(["nft", "-j", "list", "set", family, TABLE, name]).text)["nftables"]
    elements = next(entry["set"] for entry in listed if "set" in entry).get("elem", [])
    return {one["elem"]["val"]: one["elem"]["counter"]["packets"] for one in elements}


def datagram(world: World, sandbox: Sandbox, source: str, target: str, sport: int) -> bytes:
    macs = mac_text(sandbox.endpoint.mac), mac_text(world.wall.settings.network.bridge_mac)
    return frame(*macs, packet(source, target, "udp", b"x", sport=sport))


@FAMILIES
def test_a_flood_of_one_tenant_loses_no_attempt_of_another(recorded: Recording, family: int) -> None:
    world, kept, auditor = recorded
    loud, quiet = world.attach(f"loud{family}", tenant="loud"), world.attach(f"quiet{family}", tenant="quiet")
    flood = [datagram(world, loud, source, FLOOR[family], 1) for source in (FORGED[family], loud.address(family))] * (
        AT_ONCE // 2
    )
    attempts = {20000 + number: (FORGED[family], quiet.address(family))[number % 2] for number in range(ROUNDS)}
    with loud.host.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind(("eth0", 0))
        for sport, source in attempts.items():
            wire.send(sender, flood)
            quiet.host.inject("eth0", [datagram(world, quiet, source, FLOOR[family], sport)])
        wire.send(sender, flood)

    def found() -> list[int | None]:
        return [one.source_port for one in kept.attempts if one.container == quiet.name and one.source_port in attempts]

    kept.wait(lambda: len(found()) >= len(attempts))
    assert sorted(map(str, found())) == sorted(map(str, attempts))
    assert {one.tenant for one in kept.attempts if one.container == quiet.name} == {"quiet"}
    assert auditor.tallied.unrecorded.keys() <= {("loud", "rate")}  # what its counts say, if they were read by now
    of_loud = [one for one in kept.attempts if one.container == loud.name]
    assert 0 < len(of_loud) < ROUNDS * AT_ONCE / 10
    sent = (ROUNDS + 1) * AT_ONCE // 2
    assert denied(world, "inet", "deniedout")[loud.endpoint.generation & STEM] == sent
    # Beside what its own kernel announces of itself.
    assert 0 <= denied(world, "bridge", "deniedports")[loud.endpoint.host_link] - sent < 50


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_nor_does_one_in_iptables_of_what_is_denied_behind_the_pins(variant: Literal["nft", "legacy"]) -> None:
    """Half of the flood is forged: of that iptables has one budget for all, and the quiet one forges nothing."""
    kept = Recorded()
    with (
        open_world(settings=Settings(backend="iptables", iptables=variant)) as world,
        audited(world.wall, kept, world.wall.endpoints),
    ):
        loud, quiet = world.attach("loud", tenant="loud"), world.attach("quiet", tenant="quiet")
        own, calm = loud.address(4), quiet.address(4)
        flood = [datagram(world, loud, source, FLOOR[4], 1) for source in (FORGED[4], own)] * (AT_ONCE // 2)
        attempts = range(20000, 20000 + ROUNDS)
        with loud.host.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind(("eth0", 0))
            for sport in attempts:
                wire.send(sender, flood)
                quiet.host.inject("eth0", [datagram(world, quiet, calm, FLOOR[4], sport)])
        kept.wait(lambda: len([one for one in kept.attempts if one.source == calm]) >= ROUNDS)
        with world.lab.node.enter(), open_netfilter_socket() as netfilter:
            counted = read_denied_by_address(netfilter)
    told = [one for one in kept.attempts if one.source == calm]
    assert [one.source_port for one in told] == list(attempts)
    assert {one.tenant for one in told} == {"quiet"}
    of_loud = [one for one in kept.attempts if one.container == loud.name]
    assert {one.layer for one in of_loud} >= {"PIN", "FWD"}
    assert len(of_loud) < ROUNDS * AT_ONCE / 10
    assert counted is not None
    assert counted.addresses == {own: ROUNDS * AT_ONCE // 2, calm: ROUNDS}
