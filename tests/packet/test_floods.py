"""A flood of a published port takes flows from that port, and nothing else of the sandbox; and what is no flood yet."""

import socket
from typing import Literal

import pytest

from cellwall.attack.frames import frame, packet
from cellwall.lab import addresses as at
from cellwall.model.addresses import mac_text
from cellwall.model.settings import Settings
from world import assert_connection, open_world, public

pytestmark = pytest.mark.root
PORT, LIMIT, ALLOWED = 8443, 64, 10
Backend = Literal["nftables", "iptables"]
SPOOFED = {4: "8.8.4.4", 6: "2001:4860:4860::8844"}


@pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
def test_a_flood_of_a_published_port_leaves_the_sandbox_its_own_connections(family: int) -> None:
    with open_world(settings=Settings(connections=LIMIT)) as world:
        internet, last = world.lab.internet, world.token("last")
        tenant = world.attach("tenant", expose=[f"{PORT}:{PORT}/udp"])
        internet.serve(tcp=[80])
        flood = [
            packet(
                SPOOFED[family],
                at.NODE[family],
                "udp",
                last if number == 2 * LIMIT else b"flood",
                sport=number,
                dport=PORT,
            )
            for number in range(1, 2 * LIMIT + 1)
        ]
        macs = internet.mac("eth0"), world.lab.node.mac("eth0")
        with tenant.host.capture("eth0", outgoing=False) as inside:
            internet.inject("eth0", [frame(*macs, body) for body in flood])
            assert_connection(tenant.host, public(family), 80)
            arrived = [data for data in inside.drain() if b"flood" in data]
        assert len(arrived) == LIMIT


@pytest.mark.parametrize("backend", ["nftables", "iptables"])
@pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
def test_as_many_echoes_of_the_gateway_are_answered_as_are_allowed(backend: Backend, family: int) -> None:
    """The same clauses stand twice on a packet's way, and each counts for itself."""
    with open_world(settings=Settings(backend=backend)) as world:
        tenant, network, last = world.attach("tenant"), world.wall.settings.network, world.token("last")
        gateway = str(network.gateway4 if family == 4 else network.gateway6)
        asked = [packet(tenant.address(family), gateway, "icmp", b"<echo>", sport=1000 + n) for n in range(ALLOWED)]
        macs = mac_text(tenant.endpoint.mac), mac_text(network.bridge_mac)
        with tenant.host.capture("eth0", outgoing=False) as capture:
            tenant.host.inject("eth0", [frame(*macs, body) for body in asked])
            with world.lab.node.socket(socket.AF_INET, socket.SOCK_DGRAM) as node:
                node.sendto(last, (tenant.address(4), 9))
            answers = sum(b"<echo>" in data for data in capture.read_until(last))
        assert answers == ALLOWED
