"""The wall in iptables where no set holds (IPv6 address, MAC): endpoints that asked for a MAC and others."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.l2 import ARP, Ether

from cellwall.attack.frames import frame, packet
from cellwall.lab import connect
from cellwall.lab.addresses import NODE4
from cellwall.lab.host import Host
from cellwall.model.addresses import mac_text
from cellwall.model.settings import Settings
from packet.stopped import GATEWAY_MAC, goes_out
from world import Sandbox, World, open_world, public

pytestmark = pytest.mark.root
ASKED = 0x02F00D000001


@pytest.fixture(scope="module", params=["nft", "legacy"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with open_world(settings=Settings(backend="iptables", iptables=request.param)) as world:
        world.lab.internet.serve(udp=[80])
        yield world


@pytest.fixture(scope="module")
def seats(world: World) -> dict[str, Sandbox]:
    return {
        "usual": world.attach("usual"),
        "asked": world.attach("asked", mac=ASKED),
        "other": world.attach("other", mac=ASKED + 1),
    }


def passes(world: World, sender: Sandbox, family: int, source: str, mac: int) -> bool:
    def send(token: bytes) -> None:
        body = packet(source, public(family), "udp", token)
        sender.host.inject("eth0", [frame(mac_text(mac), GATEWAY_MAC, body)])

    return goes_out(world, sender, family, send)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("name", ["usual", "asked", "other"])
def test_an_endpoint_speaks_for_itself(world: World, seats: dict[str, Sandbox], name: str, family: int) -> None:
    sender = seats[name]
    assert passes(world, sender, family, sender.address(family), sender.endpoint.mac)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("name", ["usual", "asked", "other"])
def test_an_endpoint_speaks_for_nobody_else(world: World, seats: dict[str, Sandbox], name: str, family: int) -> None:
    sender = seats[name]
    world.lab.node.run(["bridge", "link", "set", "dev", sender.endpoint.host_link, "locked", "off"])
    others = [one for one in seats.values() if one is not sender]
    macs = {sender.endpoint.mac, 0x0A58 << 32 | int(sender.endpoint.address4)}
    macs |= {sender.endpoint.mac ^ bit for bit in (1, 1 << 31, 1 << 33, 1 << 47)}
    for one in others:
        for mac in sorted(macs):
            assert not passes(world, sender, family, one.address(family), mac), (one.name, hex(mac))
    for mac in sorted(macs - {sender.endpoint.mac}):
        assert not passes(world, sender, family, sender.address(family), mac), hex(mac)
    world.lab.node.run(["bridge", "link", "set", "dev", sender.endpoint.host_link, "locked", "on"])


@pytest.mark.parametrize("family", [4, 6])
def test_an_address_without_an_endpoint_is_nobodys(world: World, seats: dict[str, Sandbox], family: int) -> None:
    sender, network = seats["usual"], world.wall.settings.network
    address4 = network.subnet4[999]
    source = address4 if family == 4 else network.address6(address4)
    assert not passes(world, sender, family, str(source), 0x0A58 << 32 | int(address4))


@pytest.mark.parametrize("which", ["attached", "ready"])
def test_off_the_bridge_the_node_answers_no_arp_of_a_sandbox(world: World, which: str) -> None:
    """There no rule of ours sees ARP: nothing may depend on that a host end stays where it was put."""
    if which == "ready":
        world.wall.fill_pool(1)
        endpoint = world.wall._site.journal.pooled()[0]
    else:
        endpoint = world.attach("off").endpoint
    inside = Host(endpoint.key.container_id, Path(endpoint.netns), world.lab._custody)
    node, mac = world.lab.node, mac_text(endpoint.mac)
    node.ip([f"link set {endpoint.host_link} nomaster"])
    asks = [
        bytes(Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / ARP(hwsrc=mac, psrc=source, pdst=address))
        for source in (str(endpoint.address4), "0.0.0.0")
        for address in (NODE4, "192.168.0.1")
    ]
    with inside.capture("eth0", outgoing=False) as answers:
        inside.inject("eth0", asks)
        time.sleep(0.3)
        assert [frame for frame in answers.drain() if frame[12:14] == b"\x08\x06"] == []
    assert node.run(["ip", "neigh", "show", "dev", endpoint.host_link]).text.strip() == ""
    world.wall.reconcile()
    if which == "attached":
        assert connect(inside, public(4), 80, udp=True, payload=b"again").kind == "answer"
        world.wall.detach(endpoint.key.container_id)
