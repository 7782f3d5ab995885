"""A checksum that a sandbox leaves unfinished, and where it says that it goes.

With PACKET_VNET_HDR whoever sends a frame tells the kernel from where on to sum, and where the sum is to be written.
The kernel or the card does it as the packet leaves the node, behind every hook: two bytes of the packet are then others
than those that were judged. The sum is made to be what the sender wants by two bytes at the end of the datagram.

What stops it is a filter at the bridge's own interface, which no rule can be: it lets a checksum be unfinished where
that is TCP's or UDP's own. The controls take it away. Attacks to the end are in `cellwall.attack.rows.unfinished`; here
is which places pass, and what else one may try with them.
"""

import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from cellwall.attack.frames import BROADCAST, arp, frame, ip, packet, scapy
from cellwall.attack.unfinished import Unfinished, filling, send_unfinished, summed
from cellwall.errors import LabError
from cellwall.lab import addresses as at
from cellwall.lab import ping
from cellwall.model.addresses import mac_text
from cellwall.model.settings import Settings, parse_openings
from world import Sandbox, Stream, World, Wrapped, about_nftables, open_world, public, rewired, write_setting

pytestmark = pytest.mark.root
GATEWAY, GATEWAY_MAC, BRIDGE = "192.168.0.1", "02:00:00:00:00:01", "b9_br0"
TRANSPORT, TARGET = {4: 20, 6: 40}, {4: 16, 6: 24}
FIRST = 6
"""The byte of the IP header before which the kernel lets nobody's sum begin."""
TCP4, UDP, TCP6, UDP_L4 = 1, 3, 4, 5
"""VIRTIO_NET_HDR_GSO_*: into what a frame is to be cut."""
DB, OPENED, OTHER, SPORT = "10.0.0.5", 80, 5000, 7777
PAD, PEER = bytes(40), "02:00:00:00:00:08"
OPEN = Settings(exceptions=parse_openings(f"db {DB} udp/{OPENED}", "network.exceptions"))
EVERY, TO_IFB = "u32 match u32 0 0", "action mirred egress redirect dev ifb0"


def framed(sandbox: Sandbox, body: object) -> bytes:
    return frame(mac_text(sandbox.endpoint.mac), GATEWAY_MAC, body)


def unfilter(world: World) -> None:
    world.lab.node.run(["tc", "filter", "del", "dev", BRIDGE, "ingress", "pref", "1"])


class Scene:
    """A sandbox, and all that leaves the node."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.tenant: Sandbox = world.attach("tenant")
        self._capture = world.lab.internet.capture("eth0", outgoing=False)

    def packet(self, family: int, protocol: str, payload: bytes) -> bytes:
        return framed(self.tenant, packet(self.tenant.address(family), public(family), protocol, payload, sport=20000))

    def leaving(self, token: bytes, *frames: Unfinished) -> list[bytes]:
        """What left the node of them."""
        send_unfinished(self.tenant.host, "eth0", frames)
        return self.left(token)

    def left(self, token: bytes) -> list[bytes]:
        """What had the token, of all that left the node before now."""
        sentinel = self.world.token("sentinel")
        self.tenant.host.inject("eth0", [self.packet(4, "udp", sentinel)])
        return [data for data in self._capture.read_until(sentinel) if token in data]


@pytest.fixture(scope="module")
def walled() -> Iterator[Scene]:
    with open_world() as world:
        yield Scene(world)


@pytest.fixture(scope="module")
def unfiltered() -> Iterator[Scene]:
    with open_world() as world:
        scene = Scene(world)
        unfilter(world)
        yield scene


FAMILIES = pytest.mark.parametrize("family", [4, 6])

# Protocol, where the sum begins from the transport header on, and where it goes from there.
OWN = {"udp": (0, 6), "tcp": (0, 16), "a tunnel's": (12, 6)}
ELSEWHERE = {
    "the source port of UDP": ("udp", 0, 0),
    "its target port": ("udp", 0, 2),
    "its target port, beginning there": ("udp", 2, 0),
    "its length": ("udp", 0, 4),
    "the source port of TCP": ("tcp", 0, 0),
    "TCP's flags": ("tcp", 0, 12),
    "TCP's window": ("tcp", 0, 14),
    "behind TCP's header": ("tcp", 0, 20),
    "UDP's own from before its header on": ("udp", -8, 14),
    "as far as TCP's own from before its header on": ("tcp", -8, 16),
    "as far as TCP's own from further before on": ("tcp", -14, 16),
    "ICMP's own": ("icmp", 0, 2),
}


# ---------------------------------------------------------------- which places pass


@FAMILIES
@pytest.mark.parametrize("kind", OWN)
def test_a_checksum_may_be_unfinished_where_tcp_or_udp_has_its_own(walled: Scene, family: int, kind: str) -> None:
    begins, goes = OWN[kind]
    token = walled.world.token()
    data = walled.packet(family, "tcp" if kind == "tcp" else "udp", PAD + token)
    assert walled.leaving(token, Unfinished(data, TRANSPORT[family] + begins, goes))


@FAMILIES
@pytest.mark.parametrize("place", ELSEWHERE)
def test_a_checksum_may_be_unfinished_nowhere_else(walled: Scene, family: int, place: str) -> None:
    protocol, begins, goes = ELSEWHERE[place]
    token = walled.world.token()
    data = walled.packet(family, protocol, PAD + token)
    assert walled.leaving(token, Unfinished(data, TRANSPORT[family] + begins, goes)) == []


@FAMILIES
@pytest.mark.parametrize("place", ELSEWHERE)
def test_without_the_filter_it_may(unfiltered: Scene, family: int, place: str) -> None:
    protocol, begins, goes = ELSEWHERE[place]
    token = unfiltered.world.token()
    data = unfiltered.packet(family, protocol, PAD + token)
    assert unfiltered.leaving(token, Unfinished(data, TRANSPORT[family] + begins, goes))


@pytest.mark.parametrize("begins", [8, 20, 23, 24])
def test_as_far_as_tcps_own_is_none_from_within_an_ipv6_header_on(
    walled: Scene, unfiltered: Scene, begins: int
) -> None:
    """It is the destination's address there."""
    for scene in (walled, unfiltered):
        token = scene.world.token()
        data = scene.packet(6, "tcp", PAD + token)
        left = scene.leaving(token, Unfinished(data, begins, OWN["tcp"][1]))
        assert bool(left) == (scene is unfiltered)


@FAMILIES
def test_no_byte_of_the_ip_header_is_a_place(walled: Scene, family: int) -> None:
    token = walled.world.token()
    data = walled.packet(family, "udp", PAD + token)
    places = range(FIRST, TRANSPORT[family])
    assert walled.leaving(token, *(Unfinished(data, FIRST, place - FIRST) for place in places)) == []


@pytest.mark.parametrize("outer", ["udpcsum", "noudpcsum"])
def test_a_sandboxs_tunnel_arrives_with_every_checksum_right(walled: Scene, outer: str) -> None:
    """The kernel leaves the inner checksum to the card, and takes the outer one from it."""
    host, token = walled.tenant.host, walled.world.token()
    made = f"link add vx0 type vxlan id 7 remote {public(4)} dstport 4789 dev eth0 {outer}"
    host.ip([made, "link set vx0 up", "address add 10.9.0.1/24 dev vx0", f"neigh add 10.9.0.2 lladdr {PEER} dev vx0"])
    with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(token, ("10.9.0.2", 99))
    (arrived,) = walled.left(token)
    host.ip(["link del vx0"])
    inner = arrived[50:]
    pseudo = inner[26:34] + struct.pack("!HH", 17, len(inner) - 34)
    assert summed(pseudo, inner[34:]) == 0xFFFF


# ---------------------------------------------------------------- frames that are cut later


@FAMILIES
@pytest.mark.parametrize(("protocol", "goes"), [("tcp", 16), ("udp", 6)])
def test_what_is_to_be_cut_into_segments_passes(walled: Scene, family: int, protocol: str, goes: int) -> None:
    token = walled.world.token()
    kind = UDP_L4 if protocol == "udp" else {4: TCP4, 6: TCP6}[family]
    data = walled.packet(family, protocol, PAD + token + bytes(3000))
    assert walled.leaving(token, Unfinished(data, TRANSPORT[family], goes, kind, 1000))


@FAMILIES
@pytest.mark.parametrize("begins", [FIRST, 12, 24, 26, 36])
def test_what_is_to_be_cut_has_its_checksum_nowhere_else(walled: Scene, family: int, begins: int) -> None:
    """At each of these places of the address something lies that may pass for a TCP header's length."""
    address = {4: "151.101.80.80", 6: "2a04:4e42:5050:5050:5050:5050:5050:5050"}[family]
    token = walled.world.token()
    body = packet(walled.tenant.address(family), address, "tcp", PAD + token + bytes(3000), sport=20000)
    cut = Unfinished(framed(walled.tenant, body), begins, 16, {4: TCP4, 6: TCP6}[family], 1000)
    try:
        left = walled.leaving(token, cut)
    except OSError:  # the sandbox's own kernel refuses it, from 6.11 on
        left = walled.left(token)
    assert left == []


@FAMILIES
def test_what_the_sandboxs_kernel_cuts_has_nothing_written_into_its_address(walled: Scene, family: int) -> None:
    token = walled.world.token()
    data = walled.packet(family, "udp", PAD + token + bytes(3000))
    pieces = walled.leaving(token, Unfinished(data, FIRST, TARGET[family] - FIRST, UDP, 1000))
    begin = 14 + TARGET[family]
    address = ip_address(public(family)).packed
    assert {piece[begin : begin + len(address)] for piece in pieces} == {address}


@FAMILIES
@pytest.mark.parametrize("bridged", ["0", "1"])
def test_no_piece_of_a_packet_is_unfinished(family: int, bridged: str) -> None:
    """With bridge-nf-call the pieces are one packet before they come by, and without it they are not."""
    with open_world() as world:
        scene, token = Scene(world), world.token()
        write_setting(world.lab.node, "net/bridge/bridge-nf-call-iptables", bridged)
        write_setting(world.lab.node, "net/bridge/bridge-nf-call-ip6tables", bridged)
        assert scene.leaving(token, *_pieces(scene, family, token)) == []
        unfilter(world)
        assert scene.leaving(token, *_pieces(scene, family, token))


def _pieces(scene: Scene, family: int, token: bytes) -> Iterator[Unfinished]:
    addresses = scene.tenant.address(family), public(family)
    body = bytes(scapy().UDP(sport=20000, dport=9, len=1648) / (token.ljust(40) + bytes(1600)))
    for offset, data in ((0, body[:1400]), (1400, body[1400:])):
        more = int(offset == 0)
        if family == 4:
            header = ip(*addresses, proto=17, id=7, flags=more, frag=offset // 8)
        else:
            header = ip(*addresses) / scapy().IPv6ExtHdrFragment(nh=17, id=7, m=more, offset=offset // 8)
        yield Unfinished(framed(scene.tenant, header / data), TARGET[family] + (8 if family == 6 else 0), 0)


# ---------------------------------------------------------------- what else one may try


def test_an_opened_port_of_a_closed_address_stays_the_only_one() -> None:
    """Of a datagram that arrives whole, with a right checksum, the port is another."""
    with open_world(settings=OPEN) as world:
        assert not _reaches_the_other_port(world)


def test_without_the_filter_another_port_is_reached() -> None:
    with open_world(settings=OPEN) as world:
        unfilter(world)
        assert _reaches_the_other_port(world)


def _reaches_the_other_port(world: World) -> bool:
    tenant, services = world.attach("tenant"), world.lab.internet.serve(udp=[OPENED, OTHER])
    with Stream(tenant.host, DB, OPENED, udp=True, source_port=SPORT) as stream:
        asked, token, sentinel = world.token(), world.token(), world.token("sentinel")
        heard(stream, asked)
        node_port = next(seen for seen in services.seen if asked in seen).peer[1]
        body = ip(tenant.address(4), DB, proto=17) / _redirected(tenant.address(4), node_port, token.ljust(40))
        send_unfinished(tenant.host, "eth0", [Unfinished(framed(tenant, body), TRANSPORT[4] + 2, 0)])
        heard(stream, sentinel)
    return any(token in seen and seen.local[1] == OTHER for seen in services.seen)


def _redirected(own: str, node_port: int, payload: bytes) -> bytes:
    """A UDP datagram to the opened port that is a right one to the other once the node has translated and finished it:
    its checksum is over what it will be, and two bytes behind its end make of the sum the port."""
    length = 8 + len(payload)
    pseudo = ip_address(at.NODE4).packed + ip_address(DB).packed + struct.pack("!HH", 17, length)
    final = 0xFFFF ^ summed(pseudo, struct.pack("!HHH", node_port, OTHER, length), payload)
    filler = filling(OTHER, struct.pack("!HHH", OPENED, length, final), payload)
    # Of an unfinished checksum the node's translation changes the part of the addresses alone.
    before = summed(struct.pack("!HH", final, 0xFFFF ^ summed(ip_address(at.NODE4).packed)), ip_address(own).packed)
    return struct.pack("!HHHH", SPORT, OPENED, length, before) + payload + filler


def heard(stream: Stream, token: bytes) -> None:
    """No assertion: that the lab works is not what fails here."""
    if not stream.ask(token):
        raise LabError("the opened port does not answer")


def test_an_unfinished_question_for_the_gateway_gets_no_answer(walled: Scene) -> None:
    """Its sum might go into the sender's address, behind the pin."""
    about_nftables("in iptables the bridge answers such a question, and nobody believes it")
    tenant = walled.tenant
    mac = mac_text(tenant.endpoint.mac)
    ask = frame(mac, BROADCAST, arp(1, mac, tenant.address(4), "00:00:00:00:00:00", GATEWAY), kind=0x0806)
    with tenant.host.capture("eth0", outgoing=False) as answers:

        def answered() -> bool:
            ping(tenant.host, GATEWAY)
            return any(data[12:14] == b"\x08\x06" for data in answers.drain())

        send_unfinished(tenant.host, "eth0", [Unfinished(ask, FIRST, 8)])
        assert not answered()
        tenant.host.inject("eth0", [ask])
        assert answered()


def test_a_frame_that_classifiers_are_to_skip_is_judged_all_the_same(walled: Scene) -> None:
    """An ifb in the sandbox marks what goes by it so."""
    token = walled.world.token()
    host = walled.world.host("marking")
    tenant = walled.world.attach(host=host)
    host.ip(["link add ifb0 type ifb", "link set ifb0 up"])
    lines = ("qdisc add dev eth0 clsact", f"filter add dev eth0 egress protocol all {EVERY} {TO_IFB}")
    host.run(["tc", "-batch", "-"], input="\n".join(lines).encode())
    data = framed(tenant, packet(tenant.address(4), public(4), "udp", PAD + token))
    send_unfinished(host, "eth0", [Unfinished(data, TRANSPORT[4], 2)])
    assert walled.left(token) == []
    assert "Sent 0 bytes" not in host.run(["tc", "-s", "qdisc", "show", "dev", "ifb0"]).text


# ---------------------------------------------------------------- the filter itself


def test_it_goes_with_the_wall_and_comes_with_it() -> None:
    with open_world() as world:
        world.wall.down()
        assert "cellwall" not in _classifiers(world)
        world.wall.up()
        assert "cellwall-checksums" in _classifiers(world)


def test_one_that_was_taken_away_is_drift_and_comes_back() -> None:
    with open_world() as world:
        unfilter(world)
        assert world.wall.status().drift == (f"bridge {BRIDGE} does not filter unfinished checksums",)
        world.wall.reconcile()
        assert world.wall.status().drift == ()
        assert "cellwall-checksums" in _classifiers(world)


def test_where_a_kernel_cannot_have_it_the_wall_stands_and_says_so() -> None:
    with open_world(up=False) as world:
        links = Wrapped(world.wall._site.links, ensure_checksum_filter=lambda index: "it has no such thing")
        poor = rewired(world.wall, links=links)
        assert any(line.endswith("behind every rule: it has no such thing") for line in poor.up().warnings)
        status = poor.status()
        assert any(line.endswith("behind every rule: it has no such thing") for line in status.warnings)
        assert status.drift == ()


def _classifiers(world: World) -> str:
    return world.lab.node.run(["tc", "filter", "show", "dev", BRIDGE, "ingress"], check=False).text
