"""A packet that meets a change of its policy half-way: whatever it saw of it, its flow does not outlive the change."""

import socket
from ipaddress import ip_network

import pytest

from cellwall.attack.flood import Flood
from cellwall.attack.frames import frame, packet
from cellwall.lab.addresses import PUBLIC4, PUBLIC6
from cellwall.model.addresses import mac_text
from cellwall.model.policy import Policy, Rule
from cellwall.model.settings import Settings
from world import Sandbox, World, open_world

pytestmark = [pytest.mark.root, pytest.mark.minutes]
FLOWS, CHANGES = 1000, 30
PORT = 9
NARROW = Policy(rules=tuple(Rule("deny", ip_network(at[1]), "udp", (PORT, PORT)) for at in (PUBLIC4, PUBLIC6)))


def opening(world: World, sandbox: Sandbox, family: int) -> list[bytes]:
    """The first packets of many flows."""
    target = (PUBLIC4 if family == 4 else PUBLIC6)[1]
    gateway = mac_text(world.wall.settings.network.bridge_mac)
    flows = (packet(sandbox.address(family), target, "udp", b"x", sport=2000 + n, dport=PORT) for n in range(FLOWS))
    return [bytes(frame(mac_text(sandbox.endpoint.mac), gateway, body)) for body in flows]


class Sink:
    """Whatever arrives."""

    def __init__(self, world: World, family: int) -> None:
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        self.socket = world.lab.internet.socket(kind, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
        self.socket.bind(((PUBLIC4 if family == 4 else PUBLIC6)[1], PORT))
        self.socket.setblocking(False)

    def drain(self) -> int:
        """How much since the last time."""
        count = 0
        while True:
            try:
                self.socket.recv(10)
            except BlockingIOError:
                return count
            count += 1


@pytest.mark.parametrize("family", [4, 6])
def test_no_flow_goes_on_after_a_tightening_that_it_was_opened_amid(family: int) -> None:
    with open_world(settings=Settings(connections=1 << 20)) as world:
        sandbox = world.attach("one", policy=NARROW)
        sink, arrived = Sink(world, family), 0
        with Flood(sandbox.host, "eth0", opening(world, sandbox, family), every=0) as flood:
            for _ in range(CHANGES):
                world.wall.set_policy(Policy(), container=sandbox.name)
                flood.wait(1)
                world.wall.set_policy(NARROW, container=sandbox.name)
                flood.wait(2)  # what was on its way has arrived
                arrived += sink.drain()
                flood.wait(2)
                assert sink.drain() == 0
        sink.socket.close()
        assert arrived  # of the flows that were open meanwhile
