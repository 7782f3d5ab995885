"""Who can be the client of a published port: an answer to a client that never asked is a way out.

Whoever can write a source address outside makes any address a client. The sandbox then answers, and to connection
tracking that is a reply: past the floor, and past the guard of the node.
"""

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest

from cellwall.attack.frames import frame, packet, scapy
from cellwall.lab import addresses as at
from cellwall.lab import connect
from cellwall.lab.host import Host
from cellwall.model.addresses import mac_text
from cellwall.model.settings import Settings
from world import Sandbox, World, assert_connection, open_world, write_setting

pytestmark = pytest.mark.root
BOTH = pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
GATEWAY_MAC = "02:00:00:00:00:01"
PORT, HIDDEN = 8443, "151.101.65.9"


@pytest.fixture(scope="module")
def published() -> Iterator[World]:
    with open_world(settings=Settings(public_addresses=(ip_address(HIDDEN),))) as world:
        yield world


@pytest.fixture
def tenant(published: World) -> Iterator[Sandbox]:
    sandbox = published.attach("tenant", expose=[f"{PORT}:{PORT}", f"{PORT}:{PORT}/udp"])
    yield sandbox
    published.detach(sandbox)
    published.wall.reconcile()


def from_outside(world: World, host: Host, body: Any) -> None:
    host.inject("eth0", [frame(host.mac("eth0"), world.lab.node.mac("eth0"), body)])


def answered(world: World, tenant: Sandbox, client: str, port: int, *, by: Host) -> bool:
    """Whether the tenant's answer to a forged datagram of `client` leaves."""
    token, sentinel = world.token("answer"), world.token("sentinel")
    family = 6 if ":" in client else 4
    own, mac = tenant.address(family), mac_text(tenant.endpoint.mac)
    from_outside(world, by, packet(client, at.NODE[family], "udp", b"forged", sport=port, dport=PORT))
    answer = packet(own, client, "udp", token, sport=PORT, dport=port)
    last = packet(tenant.address(4), at.PUBLIC4[2], "udp", sentinel)
    with by.capture("eth0", outgoing=False) as wire, world.lab.internet.capture("eth0", outgoing=False) as far:
        tenant.host.inject("eth0", [frame(mac, GATEWAY_MAC, answer), frame(mac, GATEWAY_MAC, last)])
        seen = far.read_until(sentinel)
        return any(token in data for data in (*seen, *wire.drain()))


@pytest.mark.parametrize("client", [*at.METADATA4.values(), *at.METADATA6.values(), "64:ff9b::a9fe:a9fe", HIDDEN])
def test_what_is_closed_for_good_is_no_client(published: World, tenant: Sandbox, client: str) -> None:
    assert not answered(published, tenant, client, 53, by=published.lab.internet)


@BOTH
def test_a_neighbour_on_the_lan_is_a_client(published: World, tenant: Sandbox, family: int) -> None:
    assert answered(published, tenant, at.LAN[family], 40000, by=published.lab.lan)


@pytest.mark.parametrize("address", [at.NODE6, at.NODE_INFRA6])
def test_an_address_of_the_node_is_no_client_from_outside(published: World, tenant: Sandbox, address: str) -> None:
    """IPv6 has no martian sources: the answer would be taken for that to a flow of the node's own."""
    services = published.lab.node.serve(udp=[5301])
    token = published.token("to-node")
    mac = mac_text(tenant.endpoint.mac)
    from_outside(published, published.lab.lan, packet(address, at.NODE6, "udp", b"forged", sport=5301, dport=PORT))
    answer = packet(tenant.address(6), address, "udp", token, sport=PORT, dport=5301)
    ping = packet(tenant.address(4), "192.168.0.1", "icmp", token)
    with tenant.host.capture("eth0", outgoing=False) as inside:
        tenant.host.inject("eth0", [frame(mac, GATEWAY_MAC, answer), frame(mac, GATEWAY_MAC, ping)])
        inside.read_until(token)
    assert not services.saw(token)
    services.close()


ELSEWHERE = ["93.184.216.255", "172.20.0.255", "2606:2800:220:1::", "fd00:20::"]
"""Broadcast of the node's IPv4 networks; the anycast address that a router has in each IPv6 one (RFC 4291 2.6.1)."""


@pytest.mark.parametrize("address", ELSEWHERE)
def test_an_address_that_leads_to_the_node_is_no_client(published: World, tenant: Sandbox, address: str) -> None:
    """The answer would be the node's to receive: a broadcast, or to a router's anycast address."""
    lab, family = published.lab, 6 if ":" in address else 4
    write_setting(lab.node, "net/ipv6/conf/all/forwarding", "1")  # as before Linux 6.17, where it is all or nothing
    token, sentinel = published.token("to-node"), published.token("sentinel")
    own, mac = tenant.address(family), mac_text(tenant.endpoint.mac)
    with lab.node.serve(udp=[5302, 5303]) as services:
        from_outside(published, lab.lan, packet(address, at.NODE[family], "udp", b"forged", sport=5302, dport=PORT))
        tenant.host.inject(
            "eth0", [frame(mac, GATEWAY_MAC, packet(own, address, "udp", token, sport=PORT, dport=5302))]
        )
        connect(lab.lan, at.NODE[family], 5303, udp=True, payload=sentinel)
        assert services.wait_for(sentinel)
        assert not services.saw(token)


@BOTH
def test_a_connection_is_not_opened_backwards(published: World, tenant: Sandbox, family: int) -> None:
    """TCP lets both ends begin: a tenant that answers a forged SYN with one of its own would connect to the client."""
    client, own = at.LAN[family], tenant.address(family)
    token = published.token("backwards")
    mac, s = mac_text(tenant.endpoint.mac), scapy()
    tenant.host.run(["nft", "add table inet mute"])
    tenant.host.run(["nft", "add chain inet mute in { type filter hook input priority 0; policy drop; }"])
    from_outside(published, published.lab.lan, packet(client, at.NODE[family], "tcp", b"", sport=22, dport=PORT))
    opening = packet(own, client, "tcp", b"", sport=PORT, dport=22)
    last = packet(tenant.address(4), at.PUBLIC4[2], "udp", token)
    with (
        published.lab.lan.capture("eth0", outgoing=False) as wire,
        published.lab.internet.capture("eth0", outgoing=False) as far,
    ):
        tenant.host.inject("eth0", [frame(mac, GATEWAY_MAC, opening), frame(mac, GATEWAY_MAC, last)])
        far.read_until(token)
        arrived = [s.Ether(data) for data in wire.drain()]
    assert not [one for one in arrived if one.haslayer("TCP") and one["TCP"].dport == 22]


def test_a_load_balancer_that_probes_from_a_metadata_address_is_answered(published: World, tenant: Sandbox) -> None:
    """Azure's health probes are TCP from 168.63.129.16: a connection that completes was asked for."""
    tenant.host.serve(tcp=[PORT])
    answer = connect(published.lab.internet, at.NODE4, PORT, source="168.63.129.16")
    assert answer.data.startswith(tenant.host.name.encode())
    assert assert_connection(published.lab.lan, at.NODE4, PORT)
