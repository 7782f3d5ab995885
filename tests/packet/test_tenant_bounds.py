"""What the sandboxes of a tenant may use together, on the wire: of two that send, in both families, as much passes as
of one, and other tenants lose nothing."""

from collections.abc import Iterator
from time import monotonic

import msgspec
import pytest

from cellwall.attack.frames import frame, packet
from cellwall.lab import addresses as at
from cellwall.lab.host import Host
from cellwall.model.addresses import mac_text
from cellwall.model.settings import Bound, Settings
from world import Sandbox, World, assert_connection, open_world, public, rewired

pytestmark = pytest.mark.root
MANY, RATE, FLOOD, SIZE, PORT = 40, 20, 150, 1000, 8443
ENDS = [(sandbox, family) for sandbox in ("one", "two") for family in (4, 6)]
Shots = dict[tuple[str, int], list[bytes]]


class Town(msgspec.Struct, frozen=True):
    """Two sandboxes of one tenant and one of another."""

    world: World
    sandboxes: dict[str, Sandbox]

    def bound(self, name: Bound, value: int, *, watched: bool = False) -> None:
        """Have nothing bounded but this, from now on."""
        settings = Settings(**{"tenant_connections": 0, name: value}, watched=(name,) if watched else ())
        rewired(self.world.wall, settings=settings).up()
        for seat in self.sandboxes.values():
            for family, end in [(family, end) for family in (4, 6) for end in ("--orig-src", "--reply-src")]:
                query = ["conntrack", "-D", "-f", f"ipv{family}", end, seat.address(family)]
                self.world.lab.node.run(query, check=False)

    def out(self, *, flows: int = FLOOD) -> tuple[dict[tuple[str, int], int], float]:
        """What of a flood of each end arrived on the Internet, and after how many seconds the last had."""
        gateway = mac_text(self.world.wall.settings.network.bridge_mac)
        shots: Shots = {}
        for name, family in ENDS:
            seat = self.sandboxes[name]
            macs = mac_text(seat.endpoint.mac), gateway
            bodies = [_datagram(seat.address(family), public(family), name, n % flows, 9) for n in range(FLOOD)]
            shots[name, family] = [frame(*macs, body) for body in bodies]
        return self._arrived(self.world.lab.internet, {key: self.sandboxes[key[0]].host for key in shots}, shots)

    def into(self) -> tuple[int, float]:
        """The same of a flood of the published port of one, by clients that differ, inside of it."""
        internet, seat = self.world.lab.internet, self.sandboxes["one"]
        macs = internet.mac("eth0"), self.world.lab.node.mac("eth0")
        shots = {
            ("one", family): [
                frame(*macs, _datagram(public(family), at.NODE[family], "one", n, PORT)) for n in range(FLOOD)
            ]
            for family in (4, 6)
        }
        arrived, seconds = self._arrived(seat.host, dict.fromkeys(shots, internet), shots)
        return sum(arrived.values()), seconds

    def _arrived(
        self, where: Host, senders: dict[tuple[str, int], Host], shots: Shots
    ) -> tuple[dict[tuple[str, int], int], float]:
        with where.capture("eth0", outgoing=False) as wire:
            begun = monotonic()
            for key, frames in shots.items():
                senders[key].inject("eth0", frames)
            for family in (4, 6):
                assert_connection(self.sandboxes["other"].host, public(family), 80)
            seen = wire.drain()
            seconds = monotonic() - begun
        return {
            key: sum(f"flood {key[0]}".encode() in one and _family(one) == key[1] for one in seen) for key in shots
        }, seconds


def _datagram(source: str, to: str, name: str, number: int, port: int) -> bytes:
    return packet(source, to, "udp", f"flood {name}".encode().ljust(SIZE, b"."), sport=10000 + number, dport=port)


def _family(data: bytes) -> int:
    return {b"\x08\x00": 4, b"\x86\xdd": 6}[data[12:14]]


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    with open_world() as world:
        world.lab.internet.serve(tcp=[80])
        one = world.attach("one", tenant="acme", expose=[f"{PORT}:{PORT}/udp"])
        sandboxes = {"one": one, "two": world.attach("two", tenant="acme"), "other": world.attach("other", tenant="b")}
        yield Town(world, sandboxes)


def test_a_tenant_has_as_many_flows_as_the_bound_says_whichever_sandbox_and_family_they_are_of(town: Town) -> None:
    town.bound("tenant_connections", MANY)
    arrived, _ = town.out()
    assert sum(arrived.values()) == MANY
    assert town.into()[0] == MANY  # those of its clients are counted on their own
    assert town.world.wall.status().drift == ()


def test_a_flood_of_new_flows_is_cut_to_the_tenants_rate(town: Town) -> None:
    town.bound("tenant_new_connections", RATE)
    for passed, seconds in ((sum((out := town.out())[0].values()), out[1]), town.into()):
        assert 0 < passed <= RATE * (2 + seconds + 1) < FLOOD


def test_a_flood_of_packets_is_cut_to_the_tenants_rate_in_open_flows_too(town: Town) -> None:
    town.bound("tenant_packets", RATE)
    for passed, seconds in ((sum((out := town.out(flows=1))[0].values()), out[1]), town.into()):
        assert 0 < passed <= RATE * (1 + seconds + 1) < FLOOD


def test_a_flood_of_bytes_is_cut_to_the_tenants_rate(town: Town) -> None:
    rate = RATE * SIZE
    town.bound("tenant_bytes", rate)
    for passed, seconds in ((sum((out := town.out())[0].values()), out[1]), town.into()):
        assert 0 < passed * SIZE <= (128 << 10) + rate * (1 + seconds + 1) < 2 * FLOOD * SIZE


@pytest.mark.parametrize("name", ["tenant_connections", "tenant_new_connections", "tenant_packets", "tenant_bytes"])
def test_what_is_only_watched_passes(town: Town, name: Bound) -> None:
    town.bound(name, RATE, watched=True)
    assert set(town.out()[0].values()) == {FLOOD}
    assert town.into()[0] == 2 * FLOOD
