"""What is told of one tenant has a budget, and what is beyond it is counted exactly: nothing is lost in silence, and
nothing of another tenant."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Literal

import pytest

from audit.recorded import PATIENCE, Recorded
from cellwall.adapters.events.files import Appended
from cellwall.adapters.iptables.counted_sets import read_denied_by_address
from cellwall.adapters.netlink.nfnetlink import open_netfilter_socket
from cellwall.api import Wall
from cellwall.attack.frames import frame, packet
from cellwall.audit.events import Attempt, Event, Unrecorded
from cellwall.daemon.audit.thread import audited
from cellwall.lab import Host
from cellwall.model.addresses import mac_text
from cellwall.model.settings import Audit, Settings
from cellwall.model.versions import STEM
from world import Sandbox, World, about_nftables, open_world

pytestmark = pytest.mark.root
FLOOR = {4: "10.0.0.5", 6: "fc00:9::9"}
FLOOD, SINGLE = 3000, 5


@pytest.fixture
def world() -> Iterator[World]:
    about_nftables("rules that count by bridge port and policy version")
    with open_world(settings=Settings(audit=Audit(rate=5, burst=20))) as world:
        yield world


def frames(world: World, sandbox: Sandbox, source: dict[int, str], count: int) -> list[bytes]:
    macs = mac_text(sandbox.endpoint.mac), mac_text(world.wall.settings.network.bridge_mac)
    made = [frame(*macs, packet(source[family], FLOOR[family], "udp", b"x", sport=1000, dport=9)) for family in (4, 6)]
    return made * count


def own(sandbox: Sandbox) -> dict[int, str]:
    return {4: sandbox.address(4), 6: sandbox.address(6)}


def counted(wall: Wall, sandbox: Sandbox) -> int:
    """What rules counted of its packets that they denied, also of what its kernel announces unasked."""
    denied = wall.meters().denied()
    assert denied is not None
    return denied.of(sandbox.endpoint.host_index, (sandbox.endpoint.generation & STEM,))


def flooded(world: World, kept: Recorded) -> Sandbox:
    """One that floods, and another tenant's few attempts behind it, once these are on record."""
    kept.wait_for_beginning()
    flooding, quiet = world.attach("flooding", tenant="mallory"), world.attach("quiet", tenant="acme")
    flooding.host.inject("eth0", frames(world, flooding, own(flooding), FLOOD))
    flooding.host.inject("eth0", frames(world, flooding, {4: "8.8.8.8", 6: "2a00::8"}, FLOOD))
    quiet.host.inject("eth0", frames(world, quiet, own(quiet), SINGLE))
    kept.found(lambda event: event.tenant == "acme" and event.destination in FLOOR.values(), 2 * SINGLE)
    return flooding


class Failing(Recorded):
    """One that fails at every event while it is to: as by a fault of the program."""

    def __init__(self) -> None:
        super().__init__()
        self.fails = False

    def append(self, events: Sequence[Event]) -> Appended:
        if self.fails:
            raise RuntimeError("a fault")
        return super().append(events)


def test_a_recorder_that_fails_says_so_until_it_records_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cellwall.daemon.audit.thread._AGAIN", 0.3)
    kept = Failing()
    with audited(world.wall, kept, world.wall.endpoints) as auditor:
        kept.wait_for_beginning()
        assert auditor.trouble == ""
        box = world.attach("web", tenant="acme")
        kept.fails = True
        box.host.inject("eth0", frames(world, box, own(box), 1))
        poll(lambda: "a fault" in auditor.trouble)
        assert any("not recorded: " in line and "a fault" in line for line in auditor.notes("nftables"))
        kept.fails = False
        poll(lambda: auditor.trouble == "")
        box.host.inject("eth0", frames(world, box, own(box), 1))
        kept.found(lambda event: event.container == box.name, 2)


def poll(holds: Callable[[], bool]) -> None:
    deadline = monotonic() + PATIENCE
    while not holds():
        assert monotonic() < deadline
        sleep(0.02)


def test_a_flood_is_counted_to_the_last_packet_and_hides_nothing_of_another_tenant(world: World) -> None:
    kept = Recorded()
    with audited(world.wall, kept, world.wall.endpoints):
        flooding = flooded(world, kept)
        at_least = counted(world.wall, flooding)
    at_most = counted(world.wall, flooding)
    attempts = [one for one in kept.events if isinstance(one, Attempt)]
    missed = [one for one in kept.events if isinstance(one, Unrecorded) and one.tenant == "mallory"]
    assert len([one for one in attempts if one.tenant == "acme" and one.destination in FLOOR.values()]) == 2 * SINGLE
    assert {(one.container, one.cause) for one in missed} == {(flooding.name, "rate")}
    told = [one for one in attempts if one.tenant == "mallory"]
    assert 0 < len(told) < 500
    assert 4 * FLOOD <= at_least <= len(told) + sum(one.count for one in missed) <= at_most


def test_nothing_is_missing_of_a_wall_that_came_after_its_recorder() -> None:
    """As of a daemon that begins before `up`: there is nothing that was counted before."""
    about_nftables("rules that count by bridge port and policy version")
    kept = Recorded()
    with open_world(settings=Settings(audit=Audit(rate=5, burst=20)), up=False) as world:
        with audited(world.wall, kept, world.wall.endpoints):
            kept.wait_for_beginning()
            world.wall.up()
            box = world.attach("web", tenant="acme")
            box.host.inject("eth0", frames(world, box, own(box), 500))
            kept.found(lambda event: event.container == box.name, 5)
        at_most = counted(world.wall, box)
    told = [one for one in kept.events if isinstance(one, Attempt)]
    missed = [one for one in kept.events if isinstance(one, Unrecorded)]
    assert at_most >= 1000
    assert len(told) + sum(one.count for one in missed) == at_most


def test_who_claims_a_ready_sandbox_floods_in_its_own_name_from_the_first_packet_on(world: World) -> None:
    """What was told of it before is nobody's."""
    kept, wall = Recorded(), world.wall
    wall.fill_pool(1)
    (ready,) = wall._site.journal.pooled()
    with audited(wall, kept, wall.present_endpoints):
        kept.wait_for_beginning()
        box = Sandbox(Host("ready", Path(ready.netns), world.lab._custody), ready)
        box.host.inject("eth0", frames(world, box, {4: "8.8.8.8", 6: "2a00::8"}, 1))
        before = kept.found(lambda event: event.source in ("8.8.8.8", "2a00::8"), 2)
        claimed = wall.claim("web", tenant="acme")
        box.host.inject("eth0", frames(world, box, {4: "8.8.8.9", 6: "2a00::9"}, 200))
    assert claimed.netns == ready.netns
    assert {(one.tenant, one.container, one.interface) for one in before} == {("", "", "")}
    behind = [one for one in kept.events if isinstance(one, Attempt) and one.source in ("8.8.8.9", "2a00::9")]
    missed = [one for one in kept.events if isinstance(one, Unrecorded)]
    assert {(one.tenant, one.container) for one in (*behind, *missed)} == {("acme", "web")}
    assert len(behind) + sum(one.count for one in missed) >= 400
    wall.detach("web")


def test_what_was_denied_last_is_told_before_the_end(world: World) -> None:
    """The kernel gathers what it tells, and hands it over after a while."""
    kept = Recorded()
    with audited(world.wall, kept, world.wall.endpoints):
        kept.wait_for_beginning()
        box = world.attach("web", tenant="acme")
        box.host.inject("eth0", frames(world, box, own(box), SINGLE))
    told = [event for event in kept.events if isinstance(event, Attempt) and event.container == box.name]
    assert len([event for event in told if event.destination in FLOOR.values()]) == 2 * SINGLE
    assert [event for event in kept.events if isinstance(event, Unrecorded)] == []


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_so_it_is_by_address_in_iptables(variant: Literal["nft", "legacy"]) -> None:
    kept, audit = Recorded(), Audit(rate=5, burst=20)
    with open_world(settings=Settings(backend="iptables", iptables=variant, audit=audit)) as world:
        with audited(world.wall, kept, world.wall.endpoints):
            flooding = flooded(world, kept)
            at_least = counted_by_address(world, flooding)
        at_most = counted_by_address(world, flooding)
    attempts = [one for one in kept.events if isinstance(one, Attempt)]
    missed = [one for one in kept.events if isinstance(one, Unrecorded)]
    assert len([one for one in attempts if one.tenant == "acme" and one.destination in FLOOR.values()]) == 2 * SINGLE
    assert {(one.tenant, one.container, one.cause) for one in missed} == {("mallory", flooding.name, "rate")}
    forged = [one for one in attempts if one.layer == "PIN" and one.tenant == "mallory"]
    told = [one for one in attempts if one.layer != "PIN" and one.tenant == "mallory"]
    assert 0 < len(forged) < 500
    assert 0 < len(told) < 500
    assert 2 * FLOOD <= at_least <= len(told) + sum(one.count for one in missed) <= at_most


def counted_by_address(world: World, sandbox: Sandbox) -> int:
    with world.lab.node.enter(), open_netfilter_socket() as netfilter:
        denied = read_denied_by_address(netfilter)
    assert denied is not None
    assert denied.addresses is not None
    return sum(denied.addresses.get(address, 0) for address in own(sandbox).values())
