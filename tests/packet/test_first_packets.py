"""Rules give way to others while flows begin: not one is lost by its first packet.

A flow that is open passes by its stamp; the first packet of another needs whatever rules look up to give it one.
"""

import itertools
import mmap
import os
import signal
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_network

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from cellwall.model.addresses import mac_text
from cellwall.model.policy import Policy, Rule
from cellwall.model.settings import Settings
from world import Sandbox, World, about_nftables, open_world, public, rewired

pytestmark = [
    pytest.mark.root,
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]
IN_NFTABLES = Settings(backend="nftables", connections=60_000, tenant_connections=60_000)
PORTS = range(8000, 8008)
PAUSE = 0.0001
"""Seconds between flows."""
_SO_RCVBUFFORCE, _BUFFER = 33, 128 << 20


@contextmanager
def beginning(world: World, sandbox: Sandbox) -> Iterator[None]:
    """Flows of one datagram each out of the sandbox while the block runs; all of them must have arrived."""
    for name in ("nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"):
        world.lab.node.run(["sysctl", "-qw", f"net.netfilter.{name}=1"])  # there are 20,000 ports to leave by
    arrived = [_listening(world, port) for port in PORTS]
    sent = mmap.mmap(-1, 8)
    child = os.fork()
    if child == 0:  # a process of its own: what is under test takes the interpreter
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        _send(world, sandbox, sent)
    try:
        yield
    finally:
        time.sleep(0.2)
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
    time.sleep(0.2)
    seen = {number for sock in arrived for number in _numbers(sock)}
    numbers = range(int.from_bytes(sent[:], "big"))
    assert len(numbers) > 1000
    assert [number for number in numbers if number not in seen] == []


def _listening(world: World, port: int) -> socket.socket:
    sock = world.lab.internet.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    sock.bind(("", port))
    return sock


def _send(world: World, sandbox: Sandbox, sent: mmap.mmap) -> None:
    """For ever."""
    gateway = mac_text(world.wall.settings.network.bridge_mac)
    head = IP(src=sandbox.address(4), dst=public(4)) / UDP(sport=1, dport=1, chksum=0)
    frame = bytearray(bytes(Ether(src=mac_text(sandbox.endpoint.mac), dst=gateway) / head / Raw(bytes(8))))
    sock = sandbox.host.socket(socket.AF_PACKET, socket.SOCK_RAW)
    sock.bind(("eth0", 0))
    for number in itertools.count():
        struct.pack_into(">HH", frame, 34, 1024 + number // len(PORTS) % 60_000, PORTS[number % len(PORTS)])
        struct.pack_into(">Q", frame, 42, number)
        sock.send(frame)
        struct.pack_into(">Q", sent, 0, number + 1)
        time.sleep(PAUSE)


def _numbers(sock: socket.socket) -> Iterator[int]:
    with sock, suppress(BlockingIOError):
        while True:
            yield int.from_bytes(sock.recv(100, socket.MSG_DONTWAIT), "big")


@pytest.fixture
def world() -> Iterator[World]:
    about_nftables("maps that go with their table")
    with open_world(settings=IN_NFTABLES) as world:
        yield world


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_no_flow_that_begins_is_lost_while_a_wall_moves(world: World, variant: str) -> None:
    iptables = Settings(backend="iptables", iptables="nft" if variant == "nft" else "legacy", connections=60_000)
    with beginning(world, world.attach("busy")):
        for _ in range(3):
            for settings in (iptables, IN_NFTABLES):
                rewired(world.wall, settings=settings).up()


def test_no_flow_that_begins_is_lost_while_new_forms_of_policies_get_their_rules(world: World) -> None:
    """Rules that add chains are refreshed under a copy, which goes then."""
    with beginning(world, world.attach("busy")):
        for number, prefix in enumerate(("93.0.0.0/8", "93.0.0.0/9", "2a0f::/16")):
            policy = Policy(rules=(Rule("deny", ip_network(prefix)),))
            other = world.attach(f"other-{number}", tenant=f"tenant-{number}", policy=policy)
            world.wall.set_policy(policy, tenant=f"tenant-{number}")
            world.detach(other)
