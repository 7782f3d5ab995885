"""The reference model's eight tests, packet half: a hostile sandbox tries it on a kernel, and somebody looks.

The pure half (`test_pure.py`) has the same names and tells the rule that decides.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether

from cellwall.adapters.node.sysctls import ProcSysctls
from cellwall.lab import addresses as at
from cellwall.names import SECURITY_CHAIN
from reference.cast import GATEWAY_MAC, SUBNET, Cast, routed, sandbox_mac, without
from reference.ranges import CRITICAL
from world import Stream, World, Wrapped, open_world, public, rewired, write_setting

pytestmark = pytest.mark.root
FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
BRIDGED = ("net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables")
PUBLISHED = {"tcp", "udp"}


@pytest.fixture(scope="module")
def cast(node_lab: World) -> Iterator[Cast]:
    people = Cast(node_lab)
    yield people
    people.close()


def off(world: World) -> None:
    for name in BRIDGED:
        write_setting(world.lab.node, name, "0")


def missing(world: World) -> None:
    off(world)
    real = ProcSysctls()

    def read(name: str) -> str | None:
        return None if name in BRIDGED else real.read(name)

    world.wall = rewired(world.wall, sysctls=Wrapped(real, read=read, load_module=lambda name: False))


@pytest.mark.parametrize(("kernel", "possible"), [(off, True), (missing, False)], ids=["off before", "no module"])
def test_enable_bridge_netfilter(kernel: Callable[[World], None], possible: bool) -> None:
    with open_world(up=False) as world:
        kernel(world)
        world.report = world.wall.up()
        assert world.wall.enable_bridge_netfilter() is possible
        with world.lab.node.enter():
            assert [ProcSysctls().read(name) for name in BRIDGED] == ["01"[possible]] * 2
        assert any("br_netfilter" in warning for warning in world.report.warnings) is not possible
        cast = Cast(world)
        direct = [cast.frame(cast.victim.address(family), mac=sandbox_mac(cast.victim)) for family in (4, 6)]
        assert cast.volley(direct, at=cast.victim.host) == []
        with without(cast, "PIN", "PORT"):
            assert cast.volley(direct, at=cast.victim.host) == [0, 1]
        cast.close()


def test_security_chain_constants(cast: Cast) -> None:
    """The chain has this name and no line that depends on an endpoint; with it emptied nothing is denied any more,
    so everything that is forwarded goes through it; and setting it up again repairs it under open attachments."""

    def chain() -> str:
        return cast.world.lab.node.run(["nft", "-s", "list", "chain", "inet", "cellwall", SECURITY_CHAIN]).text

    before = chain()
    assert before.count("goto") >= 3
    other = cast.world.attach("another")
    assert chain() == before
    cast.world.detach(other)
    targets = [cast.victim.address(4), cast.victim.address(6), "10.0.0.5", at.METADATA4["all clouds"]]
    assert [cast.arrives(cast.attacker.host, to) for to in targets] == [set()] * 4
    cast.world.lab.node.run(["nft", "flush", "chain", "inet", "cellwall", SECURITY_CHAIN])
    assert all("tcp" in cast.arrives(cast.attacker.host, to, expected=["tcp"]) for to in targets)
    assert cast.world.wall.setup_security_chain().changed
    assert chain() == before
    assert [cast.arrives(cast.attacker.host, to) for to in targets] == [set()] * 4
    assert not cast.world.wall.setup_security_chain().changed
    assert cast.honest()


def test_security_rules_coverage(cast: Cast) -> None:
    """One address of every range that must be closed, by frames: those that no host can own are aimed at too."""
    reached = [*at.METADATA4.values(), *at.METADATA6.values(), *at.SPECIAL4.values(), *at.SPECIAL6.values()]
    unowned = [address for address in (*at.UNOWNED4.values(), *at.UNOWNED6.values()) if address != "::"]
    first = [prefix.partition("/")[0] for prefix in CRITICAL]
    frames = [cast.frame(to) for to in (*reached, *unowned, *first)]
    internet = cast.world.lab.internet
    for host in (internet, cast.world.lab.lan, cast.world.lab.infra, cast.world.lab.other, cast.victim.host):
        assert cast.volley(frames, at=host) == []
    assert cast.volley([cast.frame(public(4)), cast.frame(public(6))], at=internet) == [0, 1]
    with without(cast, "FWD"):
        assert cast.volley(frames, at=internet)[: len(reached)] == list(range(len(reached)))


@FAMILIES
def test_container_isolation_rules(cast: Cast, family: int) -> None:
    victim = cast.victim.address(family)
    assert cast.arrives(cast.attacker.host, victim) == set()
    kin = cast.world.attach("kin", tenant="blue")  # the victim's own tenant is no exception
    assert cast.arrives(kin.host, victim) == set()
    direct = [cast.frame(victim, mac=sandbox_mac(cast.victim)), cast.frame(victim, mac="ff:ff:ff:ff:ff:ff")]
    assert cast.volley([cast.frame(victim), *direct], at=cast.victim.host) == []
    with without(cast, "FWD"):
        assert cast.reaches(cast.attacker.host, victim)
        assert cast.volley([cast.frame(victim), *direct], at=cast.victim.host) == [0]
    with without(cast, "PIN", "PORT"):
        assert 1 in cast.volley([cast.frame(victim), *direct], at=cast.victim.host)
    assert cast.arrives(cast.attacker.host, victim) == set()
    cast.world.detach(kin)


@FAMILIES
def test_anti_spoofing_logic(cast: Cast, family: int) -> None:
    to, own, theirs = public(family), cast.attacker.address(family), cast.victim.address(family)
    outside, nobody, gateway = {
        4: ("1.2.3.4", "192.168.9.9", "192.168.0.1"),
        6: ("2a00:1450::9", "fd00:abcd::909", "fd00:abcd::1"),
    }[family]
    forged = [cast.frame(to, source=source) for source in (theirs, outside, nobody, gateway, at.NODE[family])]
    forged += [cast.frame(to, source=source, source_mac=sandbox_mac(cast.victim)) for source in (own, theirs)]
    wire = cast.world.lab.internet
    with cast.attacker.host.capture("eth0", outgoing=False) as told:
        assert cast.volley(forged, at=wire) == []
        assert not [frame for frame in told.drain() if b"<volley" in frame]  # dropped in silence
    assert cast.volley([cast.frame(to)], at=wire) == [0]
    with without(cast, "PIN", "RAW"):
        assert 0 in cast.volley(forged, at=wire)  # a neighbour's address is inside the subnet: only the pin knows


def test_anti_spoofing_of_neighbours(cast: Cast) -> None:
    """Whose address it is, the attacker tells the node and the victim in vain."""
    own, victim = sandbox_mac(cast.attacker), cast.victim.address(4)
    lies = [
        Ether(src=own, dst=dst) / ARP(op=op, hwsrc=own, psrc=claimed, pdst=asked)
        for dst in (GATEWAY_MAC, "ff:ff:ff:ff:ff:ff", sandbox_mac(cast.victim))
        for op in (1, 2)
        for claimed, asked in ((victim, "192.168.0.1"), ("192.168.0.1", victim))
    ]
    node = cast.world.lab.node
    before = node.neighbours(), cast.victim.host.neighbours()
    assert before[0][victim] == sandbox_mac(cast.victim)
    assert cast.volley(lies, at=cast.victim.host) == []
    assert (node.neighbours(), cast.victim.host.neighbours()) == before
    with without(cast, "PIN", "NB"):
        cast.volley(lies, at=cast.victim.host)
        assert node.neighbours()[victim] == own


@FAMILIES
def test_expose_port_security(cast: Cast, family: int) -> None:
    lab, victim = cast.world.lab, cast.victim.address(family)
    for client in (lab.lan, lab.internet):
        assert cast.arrives(client, at.NODE[family], 8080, expected=PUBLISHED) >= PUBLISHED
    with Stream(lab.lan, at.NODE[family], 8080) as stream:  # new and established
        assert all(stream.ask(cast.world.token()) for _ in range(3))
    # No tenant, by whatever address of the node; the publisher itself as little.
    addresses = (at.NODE[family], at.NODE_INFRA[family], {4: "192.168.0.1", 6: "fd00:abcd::1"}[family])
    for tenant in (cast.attacker, cast.victim):
        for address in addresses:
            assert cast.arrives(tenant.host, address, 8080) <= {"icmp"}  # the gateway answers an echo
    # Not by another interface of the node, and nothing that was not published.
    assert "tcp" not in cast.arrives(lab.infra, at.NODE_INFRA[family], 8080)
    assert "tcp" not in cast.arrives(lab.infra, at.NODE[family], 8080)
    assert not cast.arrives(lab.lan, at.NODE[family], 8081) & {"tcp", "udp"}
    # Not past the binding, by a route straight to the sandbox.
    with routed(lab.lan, SUBNET[family], at.NODE[family]):
        assert cast.arrives(lab.lan, victim) == set()
        with without(cast, "RAW", "FWD"):
            assert cast.reaches(lab.lan, victim)


@FAMILIES
def test_private_network_blocking(cast: Cast, family: int) -> None:
    """RFC 1918 and unique local addresses: behind the Internet's router, behind the node's other interface, on its
    other bridge."""
    beyond = {4: ("10.0.0.5", "172.16.9.9", "192.168.200.7"), 6: ("fc00:9::9",)}[family]
    near = at.INFRA[family], at.OTHER[family]
    for address in (*beyond, *near):
        for port in (53, 80):
            assert cast.arrives(cast.attacker.host, address, port) == set()
    with without(cast, "FWD"):
        for address in beyond:
            assert cast.reaches(cast.attacker.host, address)
        for address in near:
            assert "udp" in cast.arrives(cast.attacker.host, address, expected=["udp"])
    assert cast.honest()


def test_metadata_service_blocking(cast: Cast) -> None:
    everyone = (*at.METADATA4.values(), *at.METADATA6.values())
    for address in everyone:
        for port in (53, 80):
            assert cast.arrives(cast.attacker.host, address, port) == set()
    # In a fragment, and with a source route to it, as little as plainly.
    tricks: list[Any] = [
        Ether(src=sandbox_mac(cast.attacker), dst=GATEWAY_MAC)
        / IP(src=cast.attacker.address(4), dst="169.254.169.254", flags="MF", id=7)
        / UDP(sport=1, dport=80, len=2000),
        Ether(src=sandbox_mac(cast.attacker), dst=GATEWAY_MAC)
        / IP(src=cast.attacker.address(4), dst=public(4), options=[b"\x83\x07\x04\xa9\xfe\xa9\xfe"])
        / UDP(sport=1, dport=80),
    ]
    assert cast.volley(tricks, at=cast.world.lab.internet) == []
    with without(cast, "FWD"):
        for address in everyone:
            assert cast.reaches(cast.attacker.host, address)
    assert cast.honest()
