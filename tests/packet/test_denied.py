"""What a tenant may not: told at once where it is a destination, dropped in silence where it is forged."""

from collections.abc import Iterator

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from cellwall.lab import addresses as at
from cellwall.lab import connect, ping
from cellwall.lab.capture import Capture, one_cpu
from cellwall.lab.services import Services
from cellwall.model.addresses import mac_text
from world import (
    Sandbox,
    Stream,
    World,
    assert_connection,
    open_world,
    public,
    take_out,
    write_setting,
)

pytestmark = pytest.mark.root
BOTH = pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
PORTS = (22, 53, 80, 443, 2375, 10250)
SERVICES = {"tcp": PORTS, "udp": PORTS}


@pytest.fixture(scope="module")
def around(node_lab: World) -> Iterator[dict[str, object]]:
    """Services on everything around the tenants, so that a hole is an answer."""
    lab = node_lab.lab
    served = {host.name: host.serve(**SERVICES) for host in (lab.internet, lab.lan, lab.infra, lab.other, lab.node)}
    yield served
    for services in served.values():
        services.close()


@pytest.fixture(scope="module")
def tenant(node_lab: World) -> Sandbox:
    return node_lab.attach("tenant")


@pytest.fixture(scope="module")
def neighbour(node_lab: World) -> Iterator[Sandbox]:
    sandbox = node_lab.attach("neighbour")
    with sandbox.host.serve(**SERVICES):
        yield sandbox


DENIED = [
    *((name, address) for name, addresses in at.AROUND.items() for address in addresses.values()),
    *at.METADATA4.items(),
    *at.METADATA6.items(),
    *at.SPECIAL4.items(),
    *at.SPECIAL6.items(),
]


@pytest.mark.parametrize(("name", "address"), DENIED, ids=[f"{name} {address}" for name, address in DENIED])
def test_denied_destination_is_refused_and_not_left_to_time_out(
    tenant: Sandbox, around: dict[str, object], name: str, address: str
) -> None:
    # A rate-limited kernel answers a burst of refused datagrams only for a while (icmp_ratelimit): UDP and ICMP may
    # be met by silence, TCP never.
    assert connect(tenant.host, address, 80, timeout=5.0).kind == "refused"
    assert connect(tenant.host, address, 53, udp=True, timeout=0.05).kind in ("unreachable", "timeout")
    assert ping(tenant.host, address, timeout=0.05).kind in ("unreachable", "timeout")


@BOTH
def test_neighbours_refuse_and_are_not_silent(
    node_lab: World, tenant: Sandbox, neighbour: Sandbox, family: int
) -> None:
    kin = node_lab.attach("kin", tenant=tenant.name)
    with kin.host.serve(tcp=[80]):
        for victim in (neighbour, kin):
            assert connect(tenant.host, victim.address(family), 80, timeout=5.0).kind == "refused"
    node_lab.detach(kin)


@BOTH
def test_a_refusal_says_that_an_administrator_refused(node_lab: World, family: int) -> None:
    sandbox = node_lab.attach("told")  # of its own: the kernel bounds the errors that it sends to one address
    target = "10.0.0.5" if family == 4 else "fc00:9::9"
    with sandbox.host.capture("eth0", outgoing=False) as capture:
        assert connect(sandbox.host, target, 53, udp=True, timeout=10.0).kind == "unreachable"
        assert connect(sandbox.host, target, 53, timeout=10.0).kind == "refused"
        heard = [Ether(frame) for frame in capture.drain()]
    errors = [frame for frame in heard if frame.haslayer(ICMP) or frame.haslayer(ICMPv6DestUnreach)]
    resets = [frame for frame in heard if frame.haslayer(TCP) and frame[TCP].flags & 4]
    assert errors
    assert resets
    if family == 4:
        assert (errors[0][ICMP].type, errors[0][ICMP].code) == (3, 13)
    else:
        assert errors[0][ICMPv6DestUnreach].code == 1
    node_lab.detach(sandbox)


def frame(sandbox: Sandbox, upper: Packet, *, source_mac: str | None = None) -> Packet:
    gateway = "02:00:00:00:00:01"
    return Ether(src=source_mac or mac_text(sandbox.endpoint.mac), dst=gateway) / upper


def forged(attacker: Sandbox, victim: Sandbox, family: int) -> list[Packet]:
    """Frames with a source that is not the attacker's, each with its number as payload."""
    target = public(family)
    own, theirs = attacker.address(family), victim.address(family)
    ip = IP if family == 4 else IPv6
    outside = "1.2.3.4" if family == 4 else "2a00:1450::9"
    unassigned = "192.168.9.9" if family == 4 else "fd00:abcd::909"
    gateway = "192.168.0.1" if family == 4 else "fd00:abcd::1"
    tagged = Ether(src=mac_text(attacker.endpoint.mac), dst="02:00:00:00:00:01") / Dot1Q(vlan=0)
    return [
        frame(attacker, ip(src=theirs, dst=target) / UDP(sport=1, dport=80)),
        frame(attacker, ip(src=outside, dst=target) / UDP(sport=1, dport=80)),
        frame(attacker, ip(src=unassigned, dst=target) / UDP(sport=1, dport=80)),
        frame(attacker, ip(src=gateway, dst=target) / UDP(sport=1, dport=80)),
        frame(attacker, ip(src=own, dst=target) / UDP(sport=1, dport=80), source_mac=mac_text(victim.endpoint.mac)),
        frame(attacker, ip(src=theirs, dst=target) / UDP(sport=1, dport=80), source_mac=mac_text(victim.endpoint.mac)),
        tagged / ip(src=own, dst=target) / UDP(sport=1, dport=80),
        frame(attacker, ip(src=theirs, dst=target) / (ICMP() if family == 4 else ICMPv6EchoRequest())),
    ]


@BOTH
def test_forged_frames_vanish_in_silence(
    node_lab: World, tenant: Sandbox, neighbour: Sandbox, around: dict[str, object], family: int
) -> None:
    lab = node_lab.lab
    marked = [
        bytes(packet / Raw(b"forged-%d-%d" % (family, n))) for n, packet in enumerate(forged(tenant, neighbour, family))
    ]
    sentinel = node_lab.token("sentinel")
    honest = (IP if family == 4 else IPv6)(src=tenant.address(family), dst=public(family)) / UDP(sport=9, dport=80)
    with (
        lab.internet.capture("eth0") as wire,
        tenant.host.capture("eth0", outgoing=False) as heard,
        neighbour.host.capture("eth0", outgoing=False) as struck,
    ):
        tenant.host.inject("eth0", [*marked, bytes(frame(tenant, honest / Raw(sentinel)))])
        assert not any(b"forged-" in seen for seen in wire.read_until(sentinel))
        # Nobody is told: neither the forger nor whom it named. The sentinel's answer comes behind whatever there is.
        assert not any(b"forged-" in seen for seen in heard.read_until(sentinel))
        assert _unasked(struck) == []
    assert assert_connection(tenant.host, public(family), 80)


def _unasked(capture: Capture) -> list[bytes]:
    return [frame for frame in capture.drain() if b"forged-" in frame]


def test_forged_arp_changes_nobodys_mind(node_lab: World, tenant: Sandbox, neighbour: Sandbox) -> None:
    own, gateway = mac_text(tenant.endpoint.mac), "02:00:00:00:00:01"
    theirs = str(neighbour.endpoint.address4)
    before = node_lab.lab.node.neighbours(), neighbour.host.neighbours()
    lies = [
        Ether(src=own, dst=target) / ARP(op=op, hwsrc=own, psrc=claimed, pdst=asked)
        for target in (gateway, "ff:ff:ff:ff:ff:ff", mac_text(neighbour.endpoint.mac))
        for op in (1, 2)
        for claimed, asked in ((theirs, "192.168.0.1"), ("192.168.0.1", theirs), (at.NODE4, "192.168.0.1"))
    ]
    tenant.host.inject("eth0", [bytes(lie) for lie in lies])
    assert ping(tenant.host, "192.168.0.1").kind == "answer"
    assert (node_lab.lab.node.neighbours(), neighbour.host.neighbours()) == before


@BOTH
def test_a_lan_neighbour_cannot_route_to_a_sandbox(
    node_lab: World, neighbour: Sandbox, around: dict[str, object], family: int
) -> None:
    lan = node_lab.lab.lan
    subnet, via = {4: "192.168.0.0/20", 6: "fd00:abcd::/64"}[family], at.NODE[family]
    lan.run(["ip", "route", "add", subnet, "via", via])
    gateway = "192.168.0.1" if family == 4 else "fd00:abcd::1"
    for address in (neighbour.address(family), gateway):
        assert connect(lan, address, 80, timeout=0.1).kind == "timeout"
    lan.run(["ip", "route", "del", subnet, "via", via])


ELSEWHERE = ("eth0", "eth1", "br-other")
THE_RULE = "the node is no router"


def forwarded(world: World, services: dict[str, Services], family: int) -> dict[str, bool]:
    """Whose datagrams to whom arrive, by way of the node: the client is told nothing where there is no way back."""
    lab = world.lab
    infra, other = at.INFRA[family], at.OTHER[family]
    found = {}
    for client, server, target in (
        (lab.lan, lab.infra, infra),
        (lab.infra, lab.other, other),
        (lab.other, lab.infra, infra),
        (lab.other, lab.internet, public(family)),
    ):
        for sender in (client, lab.node):  # they are met: a packet that waits for ARP would come after the sentinel
            assert ping(sender, at.NODE[family])
        assert connect(lab.node, target, 80, udp=True)
        token, sentinel = world.token(), world.token("sentinel")
        with one_cpu():
            for sender, payload in ((client, token), (lab.node, sentinel)):
                with Stream(sender, target, 80, udp=True) as stream:
                    stream.say(payload)
        assert services[server.name].wait_for(sentinel)
        found[f"{client.name} to {server.name}"] = services[server.name].saw(token)
    return found


@BOTH
def test_the_node_is_no_router_for_its_other_networks(family: int) -> None:
    """Forwarding was turned on for the sandboxes; everyone else's packets are forwarded as little as before, even
    where another program turns it on everywhere."""
    with open_world() as world:
        lab = world.lab
        services = {host.name: host.serve(udp=[80]) for host in (lab.internet, lab.infra, lab.other)}
        lab.lan.run(["ip", "route", "add", at.INFRA[family], "via", at.NODE[family]])
        assert not any(forwarded(world, services, family).values())
        for link in ELSEWHERE:
            write_setting(lab.node, f"net/ipv4/conf/{link}/forwarding", "1")
            lab.node.run(["sysctl", "-qw", f"net.ipv6.conf.{link}.force_forwarding=1"], check=False)
        assert not any(forwarded(world, services, family).values())
        take_out(world, THE_RULE)
        assert all(forwarded(world, services, family).values())
