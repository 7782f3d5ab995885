"""What holds of a sender for which a bound's set has no room, or in which its place is soon forgotten."""

import json
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from itertools import islice

import pytest

from cellwall.attack.frames import frame, packet
from cellwall.model.addresses import mac_text
from cellwall.model.settings import Settings
from world import Sandbox, World, assert_connection, open_world, public

pytestmark = pytest.mark.root
RATE, FLOOD, ROOM = 20, 400, 3 << 12
SENT = "sent4"


@pytest.fixture
def world() -> Iterator[World]:
    with open_world(settings=Settings(packets=RATE, backend="nftables")) as world:
        world.lab.internet.serve(tcp=[80])
        yield world


def flood(world: World, tenant: Sandbox, other: Sandbox) -> int:
    """How many packets of a flood arrived on the Internet."""
    body = packet(tenant.address(4), public(4), "udp", b"flood", dport=9)
    macs = mac_text(tenant.endpoint.mac), mac_text(world.wall.settings.network.bridge_mac)
    with world.lab.internet.capture("eth0", outgoing=False) as wire:
        tenant.host.inject("eth0", [frame(*macs, body)] * FLOOD)
        assert_connection(other.host, public(4), 80)
        return sum(b"flood" in data for data in wire.drain())


def fill(world: World, family: str, name: str) -> None:
    """Until the kernel has no room for another key."""
    keys = (str(IPv4Address("203.0.0.0") + number) for number in range(ROOM + 1))

    def add(count: int) -> bool:
        elements = ", ".join(f"{key} timeout 1h" for key in islice(keys, count))
        text = f"add element {family} cellwall {name} {{ {elements} }}\n"
        return world.lab.node.run(["nft", "-f", "-"], input=text.encode(), check=False).returncode == 0

    assert add(ROOM - 8)
    while add(1):
        pass


def test_for_whom_a_full_set_has_no_room_no_bound_holds_and_nobody_is_cut_off(world: World) -> None:
    """It takes 1,100 that come and go in each second to fill one. Who has a place keeps it, and has its bound."""
    first, other = world.attach("first"), world.attach("other")
    assert_connection(other.host, public(4), 80)
    assert flood(world, first, other) < FLOOD
    fill(world, "inet", SENT)
    assert flood(world, first, other) < FLOOD
    newcomer = world.attach("newcomer")
    assert flood(world, newcomer, other) == FLOOD
    assert_connection(newcomer.host, public(4), 80)


def seconds_left(world: World, sandbox: Sandbox) -> float:
    """Until what was counted of it is forgotten."""
    listed = json.loads(world.lab.node.run(["nft", "-j", "list", "set", "inet", "cellwall", SENT]).stdout)
    elements = [one["elem"] for each in listed["nftables"] if "set" in each for one in each["set"]["elem"]]
    return float(next(one["expires"] for one in elements if one["val"] == str(sandbox.address(4))))


def test_who_sends_on_is_not_counted_from_nothing_again(world: World) -> None:
    """A bucket that was forgotten in the middle of a flood would be a full one."""
    tenant = world.attach("tenant")
    assert_connection(tenant.host, public(4), 80)
    time.sleep(2.1)
    before = seconds_left(world, tenant)
    assert_connection(tenant.host, public(4), 80)
    assert seconds_left(world, tenant) > before
