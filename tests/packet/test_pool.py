"""Packets of a sandbox that stands ready: none before its claim, whoever drives it; both ways from the claim on."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from cellwall.lab import connect
from cellwall.lab.addresses import NODE4, NODE6
from cellwall.lab.host import Host
from cellwall.model.addresses import mac_text
from cellwall.model.endpoint import Endpoint
from world import PUBLIC4, PUBLIC6, Sandbox, World, assert_connection, open_world

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def node() -> Iterator[World]:
    with open_world() as world:
        world.lab.internet.serve(tcp=[80], udp=[80])
        yield world


def inside(world: World, endpoint: Endpoint) -> Host:
    """Who has got into its namespace, as root there."""
    return Host(endpoint.key.container_id, Path(endpoint.netns), world.lab._custody)


def frames(endpoint: Endpoint, neighbour: Sandbox, token: bytes) -> list[bytes]:
    ether = Ether(src=mac_text(endpoint.mac), dst="02:00:00:00:00:01")
    said = UDP(sport=7, dport=80) / Raw(token)
    own4, own6 = str(endpoint.address4), str(endpoint.address6)
    across = Ether(src=ether.src, dst=mac_text(neighbour.endpoint.mac))
    return [
        bytes(ether / IP(src=own4, dst=PUBLIC4) / said),
        bytes(ether / IPv6(src=own6, dst=PUBLIC6) / said),
        bytes(ether / IP(src=own4, dst="192.168.0.1") / ICMP() / Raw(token)),
        bytes(across / IP(src=own4, dst=neighbour.address(4)) / said),
        bytes(Ether(src=ether.src, dst="ff:ff:ff:ff:ff:ff") / ARP(psrc=own4, pdst="192.168.0.1") / Raw(token)),
        *(
            bytes(Ether(src=ether.src, dst=f"01:80:c2:00:00:{group:02x}", type=kind) / Raw(token))
            for group, kind in ((0x00, 0x0042), (0x01, 0x8808), (0x02, 0x8809), (0x03, 0x888E), (0x0E, 0x88CC))
        ),
    ]


BEFORE: dict[str, tuple[str, list[str]]] = {
    "nothing": ("inside", []),
    "its end down and up": ("inside", ["link set eth0 down", "link set eth0 up"]),
    "another MTU": ("inside", ["link set eth0 mtu 1400"]),
    "another MAC": ("inside", ["link set eth0 down address 02:00:00:00:77:77", "link set eth0 up"]),
    "its end made dormant, and let in": (
        "inside",
        ["link set eth0 mode dormant state up", "link set eth0 mode default"],
    ),
    "the bridge down and up": ("node", ["link set {bridge} down", "link set {bridge} up"]),
    "its port down and up": ("node", ["link set {link} down", "link set {link} up"]),
    "its port's MTU": ("node", ["link set {link} mtu 1400", "link set {link} mtu 1500"]),
}
"""What somebody does before: inside as root there, or who rules the node, by accident."""


@pytest.mark.parametrize("before", BEFORE)
def test_nothing_passes_of_one_that_nobody_claimed_though_root_inside_drives_it(node: World, before: str) -> None:
    wall, neighbour = node.wall, node.attach("neighbour")
    wall.fill_pool(1)
    ready = wall._site.journal.pooled()[0]
    host, token = inside(node, ready), node.token("early")
    host.run(["ip", "link", "set", "eth0", "up"])
    bridge = wall.settings.network.bridge
    where, commands = BEFORE[before]
    place = host if where == "inside" else node.lab.node
    place.ip([command.format(bridge=bridge, link=ready.host_link) for command in commands])
    node.attach("another")  # whose port opens beside it
    with (
        node.lab.internet.capture("eth0") as wire,
        neighbour.host.capture("eth0", outgoing=False) as struck,
        node.lab.node.capture(bridge) as node_side,
        host.capture("eth0", outgoing=False) as into,
    ):
        host.inject("eth0", frames(ready, neighbour, token))
        for address in (ready.address4, ready.address6):  # and to it
            connect(node.lab.node, str(address), 80, udp=True, payload=token, timeout=0.2)
        sentinel = node.token("sentinel")  # a bridge that was down has lost its addresses
        somebody = node.lab.node if "bridge down" in before else neighbour.host
        assert connect(somebody, PUBLIC4, 80, udp=True, payload=sentinel).kind == "answer"
        seen = [*wire.read_until(sentinel), *struck.drain()]
        assert not [frame for frame in seen if token in frame]
        from_it = ready.mac.to_bytes(6, "big")
        assert not [frame for frame in node_side.drain() if frame[6:12] == from_it]
        assert into.drain() == []
    wall.detach("another")
    wall.detach(neighbour.name)
    wall.empty_pool(1)
    wall.reconcile()


def test_nothing_passes_of_one_that_nobody_claimed_where_somebody_flushed_the_rules(node: World) -> None:
    """Nor as far as the bridge: it is the port that is shut."""
    wall, neighbour = node.wall, node.attach("neighbour")
    wall.fill_pool(1)
    ready = wall._site.journal.pooled()[0]
    host, token = inside(node, ready), node.token("flushed")
    node.lab.node.run(["nft", "flush", "ruleset"])
    with (
        neighbour.host.capture("eth0", outgoing=False) as struck,
        node.lab.node.capture(wall.settings.network.bridge) as node_side,
        host.capture("eth0", outgoing=False) as into,
    ):
        host.inject("eth0", frames(ready, neighbour, token))
        for address in (ready.address4, ready.address6):
            with suppress(OSError):  # the latch of a bridge without rules
                connect(node.lab.node, str(address), 80, udp=True, payload=token, timeout=0.2)
        neighbour.host.inject("eth0", frames(neighbour.endpoint, neighbour, node.token("sentinel")))
        seen = node_side.drain()
        assert [frame for frame in seen if frame[6:12] == neighbour.endpoint.mac.to_bytes(6, "big")]
        assert not [frame for frame in seen if frame[6:12] == ready.mac.to_bytes(6, "big")]
        assert not [frame for frame in struck.drain() if token in frame]
        assert into.drain() == []
    wall.reconcile()
    wall.detach(neighbour.name)
    wall.empty_pool(1)


def test_one_whose_port_somebody_unlocked_is_walled_like_any_until_a_repair_ends_it(node: World) -> None:
    """Off the bridge and on: no port is as it was after that. It is a sandbox of nobody's tenant until then."""
    wall, neighbour = node.wall, node.attach("neighbour")
    wall.fill_pool(1)
    ready = wall._site.journal.pooled()[0]
    host, token = inside(node, ready), node.token("unlocked")
    bridge = wall.settings.network.bridge
    node.lab.node.ip([f"link set {ready.host_link} nomaster", f"link set {ready.host_link} master {bridge}"])
    with neighbour.host.capture("eth0", outgoing=False) as struck, node.lab.node.serve(udp=[80]):
        host.inject("eth0", frames(ready, neighbour, token))
        for address in ("192.168.0.1", NODE4, "169.254.169.254"):
            assert connect(host, address, 80, udp=True, payload=token, timeout=0.3).kind != "answer"
        assert not [frame for frame in struck.drain() if token in frame]
    wall.reconcile()
    assert wall.ready == 0
    link = wall._site.links.find(ready.host_link)
    assert link is None or not link.up
    wall.detach(neighbour.name)


def test_from_its_claim_on_packets_pass_both_ways_in_both_families(node: World) -> None:
    node.wall.fill_pool(1)
    web = node.wall.claim("web", tenant="acme", expose=["8080:80"])
    host = inside(node, web)
    with host.serve(tcp=[80]):
        for address, own in ((PUBLIC4, NODE4), (PUBLIC6, NODE6)):
            assert_connection(host, address, 80)
            assert_connection(node.lab.lan, own, 8080)
    node.wall.detach("web")


def test_the_first_packet_after_a_claim_is_not_lost(node: World) -> None:
    node.wall.fill_pool(5)
    for number in range(5):
        endpoint = node.wall.claim(f"first{number}")
        host, token = inside(node, endpoint), node.token("first")
        for address in (PUBLIC4, PUBLIC6):
            assert connect(host, address, 80, udp=True, payload=token, timeout=10.0).kind == "answer"
        node.wall.detach(f"first{number}")


def test_one_whose_end_was_down_at_its_claim_has_packets_pass_when_it_is_up(node: World) -> None:
    node.wall.fill_pool(1)
    host = inside(node, node.wall._site.journal.pooled()[0])
    host.ip(["link set eth0 down"])
    node.wall.claim("late", tenant="acme")
    host.ip(["link set eth0 up", "route add default via 192.168.0.1 dev eth0 onlink"])
    assert_connection(host, PUBLIC4, 80)
    node.wall.detach("late")


def test_one_that_was_driven_before_its_claim_is_walled_like_any_after_it(node: World) -> None:
    """What was done inside beforehand is what its container could do: it may have the interface, and nothing else."""
    wall, neighbour = node.wall, node.attach("neighbour")
    wall.fill_pool(1)
    ready = wall._site.journal.pooled()[0]
    host, token = inside(node, ready), node.token("across")
    host.ip(["address add 192.168.7.7/32 dev eth0", f"address add {neighbour.address(4)}/32 dev eth0"])
    claimed = wall.claim("driven")
    with neighbour.host.capture("eth0", outgoing=False) as struck, node.lab.internet.capture("eth0") as wire:
        host.inject("eth0", frames(claimed, neighbour, token)[3:4])
        ether = Ether(src=mac_text(claimed.mac), dst="02:00:00:00:00:01")
        host.inject("eth0", [bytes(ether / IP(src="192.168.7.7", dst=PUBLIC4) / UDP(sport=7, dport=80) / Raw(token))])
        sentinel = node.token("sentinel")
        assert connect(host, PUBLIC4, 80, udp=True, payload=sentinel).kind == "answer"
        assert not [frame for frame in (*wire.read_until(sentinel), *struck.drain()) if token in frame]
    wall.detach("driven")
    wall.detach(neighbour.name)


def test_one_attached_or_claimed_while_stp_was_on_has_packets_pass_once_that_is_repaired(node: World) -> None:
    """A port that begins then listens and learns for 30 s, though STP be switched off a moment later."""
    node.wall.fill_pool(1)
    bridge = node.wall.settings.network.bridge
    node.lab.node.ip([f"link set {bridge} type bridge stp_state 1"])
    claimed, attached = inside(node, node.wall.claim("claimed")), node.attach("attached")
    assert any("not forwarding" in line for line in node.wall.verify(attached.name))
    node.wall.reconcile()
    for host in (claimed, attached.host):
        assert_connection(host, PUBLIC4, 80)
    node.wall.detach("claimed")
    node.wall.detach(attached.name)
