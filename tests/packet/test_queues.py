"""What a sandbox writes into a packet does not decide how soon the node's queues send it."""

import re

import pytest

from cellwall.attack.frames import frame, packet
from cellwall.model.settings import Settings
from world import PUBLIC4, PUBLIC6, open_world

pytestmark = pytest.mark.root
COUNT = 10
LOW_DELAY, BULK, EXPEDITED = 0x10, 0x08, 0xB8
"""What the kernel reads of a TOS are its four bits of RFC 1349."""
_READ = b"""
table inet queues {
	chain leaving { type filter hook postrouting priority 300; udp dport 9 jump sent; }
	chain sent { meta priority none counter; meta priority != none counter; }
}
"""
"""By what a queue goes that knows nothing but a packet's priority, as the kernel's own (pfifo_fast)."""


@pytest.mark.parametrize("backend", ["nftables", "iptables"])
def test_no_tos_puts_a_sandbox_before_its_neighbours_in_a_queue_of_the_node(backend: str) -> None:
    with open_world(settings=Settings(backend=backend)) as world:
        node, sandbox, token = world.lab.node, world.attach(), world.token()
        node.run(["nft", "-f", "-"], input=_READ)
        gateway, mac = node.mac(world.wall.settings.network.bridge), sandbox.host.mac("eth0")
        with world.lab.internet.capture("eth0") as seen:
            for family, target in ((6, PUBLIC6), (4, PUBLIC4)):
                for tos in (LOW_DELAY, BULK, EXPEDITED):
                    one = packet(sandbox.address(family), target, "udp", token, sport=1000 + tos, dport=9, tos=tos)
                    sandbox.host.inject("eth0", [frame(mac, gateway, one)] * COUNT)
            last = packet(sandbox.address(4), PUBLIC4, "udp", b"last" + token, sport=999, dport=9, tos=LOW_DELAY)
            sandbox.host.inject("eth0", [frame(mac, gateway, last)])
            arrived = seen.read_until(b"last" + token)
        told = node.run(["nft", "list", "table", "inet", "queues"]).text
        ordinary, others = (int(number) for number in re.findall(r"packets (\d+)", told))
        assert others == 0 and ordinary > 5 * COUNT
        datagrams = [data for data in arrived if token in data and data[12:14] == b"\x08\x00" and data[23] == 17]
        assert {data[15] for data in datagrams} == {LOW_DELAY, BULK, EXPEDITED}, "it leaves as it was written"
