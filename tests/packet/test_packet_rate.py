"""How many packets of a sandbox cross the node in a second, on the wire, either way and in a flow that is open."""

import socket
from collections.abc import Callable
from ipaddress import ip_network
from time import monotonic
from typing import Literal

import msgspec
import pytest

from cellwall.attack.frames import frame, packet
from cellwall.lab import addresses as at
from cellwall.model.addresses import mac_text
from cellwall.model.policy import Policy, Rule
from cellwall.model.settings import Settings, parse_openings
from world import Sandbox, Stream, World, assert_connection, open_world, public

pytestmark = pytest.mark.root
RATE, FLOOD, PORT = 20, 400, 8443
BOUND = Settings(packets=RATE)
POLICED = Policy(rules=(Rule("deny", ip_network("9.9.9.9/32"), "udp", (9, 9)),))
MECHANISMS = pytest.mark.parametrize("backend", ["nftables", "iptables"])
FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
Backend = Literal["nftables", "iptables"]
Way = Callable[[World, Sandbox, Sandbox, int], tuple[int, float]]


def sent(world: World, tenant: Sandbox, other: Sandbox, family: int) -> tuple[int, float]:
    """How many of a flood of one flow arrived on the Internet, and after how many seconds the last had."""
    body = packet(tenant.address(family), public(family), "udp", b"flood", dport=9)
    macs = mac_text(tenant.endpoint.mac), mac_text(world.wall.settings.network.bridge_mac)
    with world.lab.internet.capture("eth0", outgoing=False) as wire:
        begun = monotonic()
        tenant.host.inject("eth0", [frame(*macs, body)] * FLOOD)
        assert_connection(other.host, public(family), 80)
        return sum(b"flood" in data for data in wire.drain()), monotonic() - begun


def got(world: World, tenant: Sandbox, other: Sandbox, family: int) -> tuple[int, float]:
    """The same of a flood of its published port."""
    internet = world.lab.internet
    body = packet(public(family), at.NODE[family], "udp", b"flood", dport=PORT)
    with tenant.host.capture("eth0", outgoing=False) as inside:
        begun = monotonic()
        internet.inject("eth0", [frame(internet.mac("eth0"), world.lab.node.mac("eth0"), body)] * FLOOD)
        assert_connection(other.host, public(family), 80)
        return sum(b"flood" in data for data in inside.drain()), monotonic() - begun


@pytest.mark.parametrize("way", [sent, got])
@FAMILIES
@MECHANISMS
def test_a_flood_is_cut_to_the_rate_and_a_neighbour_is_not(backend: Backend, family: int, way: Way) -> None:
    with open_world(settings=msgspec.structs.replace(BOUND, backend=backend)) as world:
        world.lab.internet.serve(tcp=[80])
        tenant, other = world.attach("tenant", expose=[f"{PORT}:{PORT}/udp"]), world.attach("other")
        arrived, seconds = way(world, tenant, other, family)
        assert 0 < arrived <= RATE * (1 + seconds + 1) < FLOOD
        assert world.wall.status().drift == ()


@pytest.mark.parametrize("settings", [Settings(), msgspec.structs.replace(BOUND, watched=("packets",))])
@pytest.mark.parametrize("way", [sent, got])
@MECHANISMS
def test_without_the_bound_and_where_it_is_only_watched_the_same_flood_passes(
    backend: Backend, way: Way, settings: Settings
) -> None:
    with open_world(settings=msgspec.structs.replace(settings, backend=backend)) as world:
        world.lab.internet.serve(tcp=[80])
        tenant, other = world.attach("tenant", expose=[f"{PORT}:{PORT}/udp"]), world.attach("other")
        for family in (4, 6):
            assert way(world, tenant, other, family)[0] == FLOOD


GATEWAY = {4: "192.168.0.1", 6: "fd00:abcd::1"}
SERVICES = tuple(one for at in GATEWAY.values() for one in parse_openings(f"resolver {at} udp/53", "node.services"))


def asked(world: World, tenant: Sandbox, family: int) -> tuple[int, float]:
    """How many of a flood of one flow a service of the node had, and after how many seconds the last."""
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    body = packet(tenant.address(family), GATEWAY[family], "udp", b"flood", dport=53)
    macs = mac_text(tenant.endpoint.mac), mac_text(world.wall.settings.network.bridge_mac)
    with world.lab.node.socket(kind, socket.SOCK_DGRAM) as service:
        service.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        service.bind((GATEWAY[family], 53))
        service.settimeout(1.0)
        begun, got = monotonic(), 0
        tenant.host.inject("eth0", [frame(*macs, body)] * FLOOD)
        try:
            while service.recv(100):
                got += 1
        except TimeoutError:
            return got, monotonic() - begun
        return got, monotonic() - begun


@pytest.mark.parametrize("policy", [None, POLICED], ids=["no policy", "a policy"])
@MECHANISMS
def test_a_flood_of_a_service_of_the_node_is_cut_to_the_rate(backend: Backend, policy: Policy | None) -> None:
    """It is there for all sandboxes, and one flow is enough to keep it busy."""
    with open_world(settings=msgspec.structs.replace(BOUND, backend=backend, services=SERVICES)) as world:
        tenant = world.attach("tenant", policy=policy)
        for family in (4, 6):
            arrived, seconds = asked(world, tenant, family)
            assert 0 < arrived <= RATE * (1 + seconds + 1) < FLOOD
        assert world.wall.status().drift == ()


@FAMILIES
@MECHANISMS
def test_who_is_no_client_uses_up_nothing_of_what_clients_may_send(backend: Backend, family: int) -> None:
    slow = Settings(packets=5, new_connections=5, backend=backend)
    with open_world(settings=slow) as world:
        internet, lan = world.lab.internet, world.lab.lan
        tenant = world.attach("tenant", expose=[f"{PORT}:{PORT}/udp@{at.LAN[family]}"])
        tenant.host.serve(udp=[PORT])
        body = packet(public(family), at.NODE[family], "udp", b"flood", dport=PORT)
        flood = [frame(internet.mac("eth0"), world.lab.node.mac("eth0"), body)] * FLOOD
        with Stream(lan, at.NODE[family], PORT, udp=True) as client:
            internet.inject("eth0", flood)
            assert client.ask(world.token())
