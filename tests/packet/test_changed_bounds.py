"""A bound that is changed while a sandbox floods is in force for that very flood: to throttle who floods is what bounds
are changed for."""

from time import monotonic
from typing import Literal

import msgspec
import pytest

from cellwall.attack.frames import frame, packet
from cellwall.model.addresses import mac_text
from cellwall.model.settings import Bound, Settings
from world import Sandbox, World, assert_connection, open_world, public, rewired

pytestmark = pytest.mark.root
FLOOD, SIZE, LOW, HIGH = 240, 1000, 5, 200
"""Datagrams; of a bound of bytes as many times their size."""


def bound(world: World, name: Bound, value: int) -> None:
    """Have it changed, and no other."""
    settings = msgspec.structs.replace(world.wall.settings, **{name: value * (SIZE if name == "bytes" else 1)})
    rewired(world.wall, settings=settings).up()


def flooded(world: World, tenant: Sandbox, other: Sandbox, family: int, first_port: int) -> tuple[int, float]:
    """How many datagrams of as many flows arrived on the Internet, and after how many seconds the last had."""
    body = b"flood".ljust(SIZE, b".")
    ports = range(first_port, first_port + FLOOD)
    bodies = [packet(tenant.address(family), public(family), "udp", body, sport=port, dport=9) for port in ports]
    macs = mac_text(tenant.endpoint.mac), mac_text(world.wall.settings.network.bridge_mac)
    with world.lab.internet.capture("eth0", outgoing=False) as wire:
        begun = monotonic()
        tenant.host.inject("eth0", [frame(*macs, one) for one in bodies])
        assert_connection(other.host, public(family), 80)
        return sum(b"flood" in data for data in wire.drain()), monotonic() - begun


@pytest.mark.parametrize(
    ("backend", "name", "at_once", "rate"),
    [
        ("nftables", "connections", LOW, 0),
        ("nftables", "tenant_connections", LOW, 0),
        ("nftables", "packets", LOW, LOW),
        ("nftables", "bytes", LOW + (128 << 10) // SIZE, LOW),
        ("iptables", "connections", LOW, 0),
        ("iptables", "packets", LOW, LOW),
    ],
)
def test_a_bound_that_is_changed_amid_a_flood_holds_for_it(
    backend: Literal["nftables", "iptables"], name: Bound, at_once: int, rate: int
) -> None:
    with open_world(settings=Settings(backend=backend)) as world:
        world.lab.internet.serve(tcp=[80])
        other, tenant = world.attach("other"), world.attach("tenant")
        family = 6 if name == "packets" else 4
        arrived = []
        for turn, value in enumerate((LOW, HIGH, LOW)):
            bound(world, name, value)
            arrived.append(flooded(world, tenant, other, family, 10000 + 1000 * turn))
    (first, soon), (more, _), (last, late) = arrived
    assert 0 < first <= at_once + rate * (soon + 1) < HIGH
    assert more > 0.9 * HIGH
    assert 0 < last <= at_once + rate * (late + 1)
