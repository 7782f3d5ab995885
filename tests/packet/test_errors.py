"""ICMP errors from a sandbox to the node: heard about its own flows, and about nobody else's.

The kernel takes a path MTU from any error that quotes a flow, whoever sent it: an error about a flow of the node's own
slows that down to 552 bytes a packet, for every process of the node.
"""

import socket
from collections.abc import Iterator

import pytest

from cellwall.attack.frames import frame, packet, scapy
from cellwall.lab import addresses as at
from cellwall.model.addresses import mac_text
from world import Sandbox, World, open_world, public

pytestmark = pytest.mark.root
BOTH = pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
GATEWAY_MAC = "02:00:00:00:00:01"
GATEWAY = {4: "192.168.0.1", 6: "fd00:abcd::1"}
SERVED = 5400
SMALL = 1280  # the smallest that IPv6 allows


@pytest.fixture(scope="module")
def erring() -> Iterator[World]:
    with open_world() as world:
        world.lab.internet.serve(udp=[SERVED])
        yield world


def path_mtu(world: World, source: str, target: str, sender: Sandbox) -> int:
    """The node's MTU of the path to `target`, after `sender` quoted a datagram of the node's to it as too big."""
    family, level, option = (
        (socket.AF_INET, socket.IPPROTO_IP, 14) if "." in target else (socket.AF_INET6, socket.IPPROTO_IPV6, 24)
    )
    with world.lab.node.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((source, 0))
        sock.connect((target, SERVED))
        sock.send(b"of the node")
        quoted = packet(source, target, "udp", bytes(1200), sport=sock.getsockname()[1], dport=SERVED)
        send_and_settle(sender, too_big(sender, source, bytes(quoted)), world.token("settled"))
        return sock.getsockopt(level, option)


def too_big(sandbox: Sandbox, target: str, quoted: bytes) -> bytes:
    """An error of this sandbox's to `target`: the quoted packet does not fit."""
    s = scapy()
    if ":" in target:
        return bytes(s.IPv6(src=sandbox.address(6), dst=target) / s.ICMPv6PacketTooBig(mtu=SMALL) / s.Raw(quoted[:600]))
    return bytes(
        s.IP(src=sandbox.address(4), dst=target) / s.ICMP(type=3, code=4, nexthopmtu=SMALL) / s.Raw(quoted[:500])
    )


def send_and_settle(sandbox: Sandbox, body: bytes, token: bytes) -> None:
    """Send a packet, and a ping of the gateway behind it; the answer says that the packet was judged."""
    family = body[0] >> 4
    mac = mac_text(sandbox.endpoint.mac)
    ping = packet(sandbox.address(family), GATEWAY[family], "icmp", token, sport=77)
    with sandbox.host.capture("eth0", outgoing=False) as capture:
        sandbox.host.inject("eth0", [frame(mac, GATEWAY_MAC, body), frame(mac, GATEWAY_MAC, ping)])
        capture.read_until(token)


@BOTH
def test_an_error_about_a_flow_of_the_node_to_the_internet_is_not_heard(erring: World, family: int) -> None:
    assert path_mtu(erring, at.NODE[family], public(family), erring.attach()) == 1500


@BOTH
def test_an_error_about_a_flow_of_the_node_to_a_neighbour_is_not_heard(erring: World, family: int) -> None:
    attacker, victim = erring.attach(), erring.attach()
    victim.host.serve(udp=[SERVED])
    assert path_mtu(erring, GATEWAY[family], victim.address(family), attacker) == 1500


@BOTH
def test_an_error_about_a_flow_of_the_node_to_the_sender_itself_is_heard(erring: World, family: int) -> None:
    sandbox = erring.attach()
    sandbox.host.serve(udp=[SERVED])
    assert path_mtu(erring, GATEWAY[family], sandbox.address(family), sandbox) == SMALL
