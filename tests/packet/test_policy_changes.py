"""Policies that loosen and tighten all the time, under traffic: what both deny never passes, what both allow is never
lost, and what one of them denies stops with it."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_network

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from cellwall.attack.flood import Flood
from cellwall.lab.addresses import PUBLIC4, PUBLIC6
from cellwall.model.addresses import mac_text
from cellwall.model.policy import Policy, Rule
from packet.test_blink import blinking
from world import Sandbox, Stream, World, open_world

pytestmark = [pytest.mark.root, pytest.mark.slow]
CHANGES = 400
NEVER, SOMETIMES = 81, 82
EVERYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))


def denying(*ports: int) -> Policy:
    rules = [Rule("deny", prefix, "udp", (port, port)) for prefix in EVERYWHERE for port in ports]
    return Policy("open", tuple(rules))


LOOSE, TIGHT = denying(NEVER), denying(NEVER, SOMETIMES)


@pytest.fixture
def world() -> Iterator[World]:
    with open_world() as world:
        yield world


def denied_by_both(world: World, sandbox: Sandbox) -> list[bytes]:
    ether = Ether(src=mac_text(sandbox.endpoint.mac), dst=mac_text(world.wall.settings.network.bridge_mac))
    heads = [IP(src=sandbox.address(4), dst=PUBLIC4[0]), IPv6(src=sandbox.address(6), dst=PUBLIC6[0])]
    return [bytes(ether / head / UDP(sport=5, dport=NEVER) / Raw(b"<never>")) for head in heads]


class Toggled:
    """A UDP flow that is allowed now and then."""

    def __init__(self, sandbox: Sandbox, address: str) -> None:
        self._sock = sandbox.host.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.connect((address, SOMETIMES))
        self._sock.settimeout(2.0)

    def say(self, payload: bytes) -> None:
        """Whatever becomes of it: the node says how many refusals it tells of in a second."""
        with suppress(OSError):  # of an earlier one
            self._sock.send(payload)

    def is_answered(self, payload: bytes) -> bool:
        self.say(payload)
        self.say(payload)  # the first may have been told of a refusal
        got = b""
        while payload not in got:
            try:
                got = self._sock.recv(1000)
            except TimeoutError:
                return False
            except OSError:
                continue
        return True

    def close(self) -> None:
        self._sock.close()


@pytest.mark.parametrize("of", ["tenant", "container"])
def test_hundreds_of_changes_under_traffic_lose_nothing_and_let_nothing_through(world: World, of: str) -> None:
    with blinking(world) as (_, mover):
        subject = {of: mover.endpoint.tenant if of == "tenant" else mover.name}
        never, sometimes = world.lab.internet.serve(udp=[NEVER]), world.lab.internet.serve(udp=[SOMETIMES])
        world.wall.set_policy(LOOSE, **subject)
        idle = [Stream(mover.host, to, 80, udp=udp) for to in (PUBLIC4[1], PUBLIC6[1]) for udp in (False, True)]
        assert all(stream.ask(world.token()) for stream in idle)
        toggled = [Toggled(mover, address) for address in (PUBLIC4[2], PUBLIC6[0])]
        with Flood(mover.host, "eth0", denied_by_both(world, mover)) as flood:
            for number in range(CHANGES // 2):
                world.wall.set_policy(TIGHT, **subject)
                for flow in toggled:
                    flow.say(f"<late {number}>".encode())
                world.wall.set_policy(LOOSE, **subject)
                assert all(flow.is_answered(f"<fine {number}>".encode()) for flow in toggled)
            flood.wait()
        assert all(stream.ask(world.token()) for stream in idle)  # through all of them
        assert not never.seen
        assert not sometimes.saw(b"<late")
        assert world.wall.status().drift == ()
        world.wall.remove_policy(**subject)  # it is the policy that held
        with Flood(mover.host, "eth0", denied_by_both(world, mover)) as flood:
            flood.wait()
        assert never.saw(b"<never>")
        for flow in (*idle, *toggled):
            flow.close()
