"""Other bridges and interfaces of the node: what is theirs goes on, what is a sandbox's does not leave by them."""

from collections.abc import Iterator

import pytest

from cellwall.attack.frames import frame, packet
from cellwall.lab import connect
from cellwall.lab.addresses import LAN, OTHER
from cellwall.lab.host import Host
from world import Sandbox, World, assert_connection, open_world, public, write_setting

pytestmark = pytest.mark.root
BOTH = pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
BESIDE = {4: "172.17.0.9", 6: "fd00:17::9"}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A node that was no router, with a bridge of its own for two machines, and cellwall up beside it."""
    with open_world(up=False) as world:
        for name in ("iptables", "ip6tables"):
            write_setting(world.lab.node, f"net/bridge/bridge-nf-call-{name}", "0")
        yield world


@pytest.fixture(scope="module")
def machine(world: World) -> Host:
    host = world.host("machine")
    world.lab.node.ip(
        [
            f"link add vethmachine type veth peer name eth0 netns {host.netns.name}",
            "link set vethmachine master br-other up",
        ]
    )
    host.ip(
        [
            f"address add {BESIDE[4]}/16 dev eth0",
            f"address add {BESIDE[6]}/64 dev eth0 nodad",
            "link set eth0 up",
        ]
    )
    return host


@BOTH
def test_another_bridge_of_the_node_goes_on_forwarding_frames(world: World, machine: Host, family: int) -> None:
    """br_netfilter has one switch for every bridge of a node, and its frames then meet the rules for routed packets."""
    with world.lab.other.serve(tcp=[80], udp=[80]):
        assert_connection(machine, OTHER[family], 80)
        report = world.wall.up()
        assert report.uplink == "eth0"
        for udp in (False, True):
            assert_connection(machine, OTHER[family], 80, udp=udp)
        outside = connect(machine, LAN[family], 80, timeout=0.2)
        assert outside.kind != "answer"  # routed, and the node is no router


def test_a_cable_between_two_bridges_carries_no_judgement(world: World) -> None:
    """The mark of a frame outlives a link between two bridges of one node: on ours it would speak for a sandbox."""
    lab = world.lab
    world.wall.up()
    tenant = world.attach("spoken-for")
    lab.node.ip(
        [
            "link add cable0 type veth peer name cable1",
            "link set cable0 master br-other up",
            "link set cable1 master b9_br0 up",
        ]
    )
    for name in ("iptables", "ip6tables"):
        write_setting(lab.node, f"net/bridge/bridge-nf-call-{name}", "0")
    try:
        forged, sentinel = world.token("forged"), world.token("sentinel")
        body = packet(tenant.address(4), public(4), "udp", forged, sport=1, dport=9)
        with lab.internet.capture("eth0", outgoing=False) as wire, lab.node.capture("cable1", outgoing=False) as cable:
            lab.other.inject("eth0", [frame(lab.other.mac("eth0"), "02:00:00:00:00:01", body)])
            assert any(forged in data for data in cable.read_until(forged))  # it came as far as our bridge
            connect(tenant.host, public(4), 9, udp=True, payload=sentinel, timeout=0.1)
            assert not [data for data in wire.read_until(sentinel) if forged in data]
    finally:
        lab.node.ip(["link del cable0"])
        world.detach(tenant)
        world.wall.reconcile()


@pytest.fixture
def tenant(world: World) -> Iterator[Sandbox]:
    world.wall.up()
    sandbox = world.attach("tenant")
    yield sandbox
    world.detach(sandbox)


@BOTH
def test_a_route_that_takes_a_sandbox_elsewhere_carries_nothing(world: World, tenant: Sandbox, family: int) -> None:
    """A more specific route is all that it takes, and over IPv6 anybody on the LAN announces one."""
    lab, own = world.lab, tenant.address(family)
    length, lan = {4: 32, 6: 128}[family], LAN[family]
    mac = lab.lan.mac("eth0")
    token, sentinel = world.token("private"), world.token("sentinel")
    with tenant.host.serve(udp=[80]), lab.lan.capture("eth0", outgoing=False) as wire, lab.internet.serve(udp=[80]):
        assert_connection(lab.node, own, 80, udp=True)
        lab.node.ip([f"neighbour replace {own} lladdr {mac} dev eth0", f"route add {own}/{length} dev eth0"])
        try:
            connect(lab.node, own, 80, udp=True, payload=token, timeout=0.1)  # of the node
            connect(tenant.host, public(family), 80, udp=True, payload=token, timeout=0.1)  # its answer
            connect(lab.node, lan, 80, udp=True, payload=sentinel, timeout=0.1)
            heard = wire.read_until(sentinel)
        finally:
            lab.node.ip([f"route del {own}/{length} dev eth0", f"neighbour del {own} dev eth0"])
    assert not [frame for frame in heard if token in frame]
