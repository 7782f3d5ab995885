"""How many bytes of a sandbox cross the node in a second, on the wire, either way, with both mechanisms."""

from collections.abc import Callable
from time import monotonic
from typing import Literal

import msgspec
import pytest

from cellwall.attack.frames import frame, packet
from cellwall.lab import addresses as at
from cellwall.model.addresses import mac_text
from cellwall.model.settings import Settings
from world import Sandbox, World, assert_connection, open_world, public

pytestmark = pytest.mark.root
RATE, FLOOD, SIZE, PORT = 20_000, 400, 1000, 8443
BUCKET = RATE + (128 << 10)
BOUND = Settings(bytes=RATE)
MECHANISMS = pytest.mark.parametrize("backend", ["nftables", "iptables"])
Backend = Literal["nftables", "iptables"]
Way = Callable[[World, Sandbox, Sandbox, int], tuple[int, float]]
_BODY = b"flood".ljust(SIZE, b".")


def sent(world: World, tenant: Sandbox, other: Sandbox, family: int) -> tuple[int, float]:
    """How many of a flood of one flow arrived on the Internet, and after how many seconds the last had."""
    body = packet(tenant.address(family), public(family), "udp", _BODY, dport=9)
    macs = mac_text(tenant.endpoint.mac), mac_text(world.wall.settings.network.bridge_mac)
    with world.lab.internet.capture("eth0", outgoing=False) as wire:
        begun = monotonic()
        tenant.host.inject("eth0", [frame(*macs, body)] * FLOOD)
        assert_connection(other.host, public(family), 80)
        return sum(_BODY in data for data in wire.drain()), monotonic() - begun


def got(world: World, tenant: Sandbox, other: Sandbox, family: int) -> tuple[int, float]:
    """The same of a flood of its published port."""
    internet = world.lab.internet
    body = packet(public(family), at.NODE[family], "udp", _BODY, dport=PORT)
    with tenant.host.capture("eth0", outgoing=False) as inside:
        begun = monotonic()
        internet.inject("eth0", [frame(internet.mac("eth0"), world.lab.node.mac("eth0"), body)] * FLOOD)
        assert_connection(other.host, public(family), 80)
        return sum(_BODY in data for data in inside.drain()), monotonic() - begun


@pytest.mark.parametrize("way", [sent, got])
@MECHANISMS
def test_a_flood_is_cut_to_the_rate_and_a_neighbour_is_not(backend: Backend, way: Way) -> None:
    with open_world(settings=msgspec.structs.replace(BOUND, backend=backend)) as world:
        world.lab.internet.serve(tcp=[80])
        tenant, other = world.attach("tenant", expose=[f"{PORT}:{PORT}/udp"]), world.attach("other")
        for family in (4, 6):
            arrived, seconds = way(world, tenant, other, family)
            assert 0 < arrived * SIZE <= BUCKET + RATE * (seconds + 1) < FLOOD * SIZE
        assert world.wall.status().drift == ()


@MECHANISMS
def test_where_it_is_only_watched_the_same_flood_passes(backend: Backend) -> None:
    settings = msgspec.structs.replace(BOUND, backend=backend, watched=("bytes",))
    with open_world(settings=settings) as world:
        world.lab.internet.serve(tcp=[80])
        tenant, other = world.attach("tenant", expose=[f"{PORT}:{PORT}/udp"]), world.attach("other")
        for way in (sent, got):
            assert way(world, tenant, other, 4)[0] == FLOOD


@MECHANISMS
def test_a_merged_packet_that_is_more_than_a_seconds_worth_passes_a_quiet_bucket(backend: Backend) -> None:
    """Else a slow rate would be none."""
    with open_world(settings=Settings(bytes=1000, backend=backend)) as world:
        world.lab.internet.serve(tcp=[80])
        tenant, other = world.attach("tenant"), world.attach("other")
        for family in (4, 6):
            body = packet(tenant.address(family), public(family), "udp", _BODY + bytes(300), dport=9)
            macs = mac_text(tenant.endpoint.mac), mac_text(world.wall.settings.network.bridge_mac)
            with world.lab.internet.capture("eth0", outgoing=False) as wire:
                tenant.host.inject("eth0", [frame(*macs, body)])
                assert_connection(other.host, public(family), 80)
                assert any(_BODY in data for data in wire.drain())
