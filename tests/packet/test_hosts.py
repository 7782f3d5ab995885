"""Hosts that lack something: br_netfilter, IPv6, its NAT, a route, a log of packets. IPv4 is whole, nothing is open."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from cellwall.adapters.node.sysctls import ProcSysctls
from cellwall.errors import Unsupported
from cellwall.lab import connect, ping
from cellwall.lab.addresses import NODE4, NODE6
from cellwall.model.addresses import mac_text
from cellwall.model.settings import Audit, Settings
from engine.snapshots import node_snapshot
from world import (
    Sandbox,
    World,
    Wrapped,
    about_nftables,
    assert_connection,
    open_world,
    rewired,
    ruleset,
    write_setting,
)

pytestmark = pytest.mark.root
BRIDGED = ("net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables")


def not_bridged(world: World) -> None:
    """A new network namespace has these settings at 1, most distributions at 0."""
    for name in BRIDGED:
        write_setting(world.lab.node, name, "0")


def without_bridge_netfilter(world: World) -> None:
    not_bridged(world)
    real = ProcSysctls()

    def read(name: str) -> str | None:
        return None if name in BRIDGED else real.read(name)

    world.wall = rewired(world.wall, sysctls=Wrapped(real, read=read, load_module=lambda name: False))


def without_ipv6_nat(world: World) -> None:
    about_nftables("a feature of its kernel part")
    without_feature(world, ipv6_nat=False)


def without_packet_log(world: World) -> None:
    about_nftables("denials are told")
    without_feature(world, packet_log=False)


def without_feature(world: World, **lacking: bool) -> None:
    real = world.wall._site.node

    def observe() -> Any:
        facts = real.observe()
        return msgspec.structs.replace(facts, features=msgspec.structs.replace(facts.features, **lacking))

    world.wall = rewired(world.wall, node=Wrapped(real, observe=observe))


def ipv6_disabled(world: World) -> None:
    """As `sysctl net.ipv6.conf.all.disable_ipv6=1` leaves a host."""
    for scope in ("all", "default"):
        write_setting(world.lab.node, f"net/ipv6/conf/{scope}/disable_ipv6", "1")


def without_ipv6(world: World) -> None:
    """As `ipv6.disable=1`: the kernel has none of the settings, and knows no such family."""
    ipv6_disabled(world)
    real = ProcSysctls()

    def read(name: str) -> str | None:
        return None if name.startswith("net/ipv6/") else real.read(name)

    def write(name: str, value: str) -> object:
        return not name.startswith("net/ipv6/") and real.write(name, value)

    sysctls = Wrapped(real, read=read, write=write)
    observer: Any = world.wall._site.node
    observer._sysctls = sysctls
    world.wall = rewired(world.wall, sysctls=sysctls)


def nothing(world: World) -> None:
    """A host that has everything; what is missing is in the configuration."""


@contextmanager
def host_that(lacks: Callable[[World], None], **settings: Any) -> Iterator[World]:
    with open_world(settings=Settings(**settings), up=False) as world:
        lacks(world)
        world.report = world.wall.up()
        yield world


IPV6_LESS = pytest.mark.parametrize(
    ("lacks", "settings"),
    [(ipv6_disabled, {}), (without_ipv6, {}), (without_ipv6_nat, {}), (nothing, {"ipv6": "off"})],
    ids=["disable_ipv6", "ipv6.disable", "no IPv6 NAT", "configured off"],
)


def test_bridged_frames_traverse_the_ip_hooks_after_up() -> None:
    with host_that(not_bridged) as world:
        assert [ProcSysctls().read(name) for name in BRIDGED] == ["1", "1"]
        assert world.report is not None
        assert not [warning for warning in world.report.warnings if "br_netfilter" in warning]
        world.wall.uninstall()
        assert [ProcSysctls().read(name) for name in BRIDGED] == ["0", "0"]


def test_without_br_netfilter_a_warning_and_a_whole_wall(caplog: pytest.LogCaptureFixture) -> None:
    with host_that(without_bridge_netfilter) as world:
        assert world.report is not None
        assert any("br_netfilter" in warning for warning in world.report.warnings)
        assert [record.getMessage() for record in caplog.records if "br_netfilter" in record.getMessage()] == [
            warning for warning in world.report.warnings if "br_netfilter" in warning
        ]
        world.wall.attach("quiet")  # it is said where the wall is laid, and not at every operation
        assert caplog.text.count("br_netfilter") == 1
        world.wall.detach("quiet")
        assert world.wall.enable_bridge_netfilter() is False
        with world.lab.node.enter():
            assert ProcSysctls().read(BRIDGED[0]) == "0"
        assert_wall_is_whole(world, (4, 6))


@pytest.mark.parametrize(
    "setting",
    [
        "net/ipv4/conf/eth0/forwarding",
        "net/ipv4/conf/b9_br0/forwarding",
        "net/ipv4/conf/b9_br0/rp_filter",
        "net/ipv4/conf/b9_br0/arp_ignore",
        "net/ipv6/conf/b9_br0/accept_ra",
        "net/ipv6/conf/b9_br0/force_forwarding",
        "net/ipv6/conf/all/forwarding",
    ],
)
def test_a_setting_that_the_wall_needs_and_the_kernel_refuses_fails_up(fresh_node: World, setting: str) -> None:
    about_nftables("iptables' own tables stay, empty")
    bare, real = node_snapshot(fresh_node), ProcSysctls()
    missing = "force_forwarding" if setting.endswith("all/forwarding") else "nothing"  # a kernel before 6.17

    def read(name: str) -> str | None:
        return None if name.endswith(missing) else real.read(name)

    def write(name: str, value: str) -> bool:
        return name != setting and real.write(name, value)

    if setting.endswith("b9_br0/force_forwarding") and real.read("net/ipv6/conf/all/force_forwarding") is None:
        pytest.skip("this kernel forwards IPv6 for all interfaces or none")
    with pytest.raises(Unsupported, match=f"{setting} is . and cannot be set to ."):
        rewired(fresh_node.wall, sysctls=Wrapped(real, read=read, write=write)).up()
    assert node_snapshot(fresh_node) == bare


def test_bridge_netfilter_that_cannot_be_set_is_a_warning() -> None:
    with host_that(not_bridged) as world:
        world.wall.down()
        not_bridged(world)
        real = ProcSysctls()
        write = lambda name, value: name not in BRIDGED and real.write(name, value)  # noqa: E731
        report = rewired(world.wall, sysctls=Wrapped(real, write=write)).up()
        assert any("br_netfilter" in warning for warning in report.warnings)
        assert_wall_is_whole(world, (4, 6))


@IPV6_LESS
def test_without_ipv6_ipv4_is_whole_and_nothing_is_open(
    lacks: Callable[[World], None], settings: dict[str, Any]
) -> None:
    with host_that(lacks, **settings) as world:
        assert world.report is not None
        assert world.report.ipv6 is False
        assert all(resolver.version == 4 for resolver in world.report.dns)
        assert_wall_is_whole(world, (4,))
        assert_no_ipv6(world)


def test_a_warning_says_why_there_is_no_ipv6() -> None:
    with host_that(without_ipv6_nat) as world:
        assert world.report is not None
        assert any("IPv6" in warning for warning in world.report.warnings)


def test_without_a_log_of_packets_a_warning_and_a_whole_wall() -> None:
    with host_that(without_packet_log) as world:
        assert world.report is not None
        assert [warning for warning in world.report.warnings if "nfnetlink_log" in warning]
        assert " log " not in ruleset(world)
        assert_wall_is_whole(world, (4, 6))
    with host_that(without_packet_log, audit=Audit(log=False)) as world:
        assert world.report is not None
        assert not [warning for warning in world.report.warnings if "nfnetlink_log" in warning]


def test_without_an_ipv6_default_route_sandboxes_are_refused_ipv6_at_once() -> None:
    with open_world(up=False) as world:
        world.lab.node.run(["ip", "-6", "route", "del", "default"])
        world.report = world.wall.up()
        tenant = world.attach("tenant")
        world.lab.internet.serve(tcp=[80])
        assert_connection(tenant.host, "151.101.1.69", 80)
        assert connect(tenant.host, "2a04:4e42::1", 80).kind in ("refused", "unreachable")


def assert_wall_is_whole(world: World, families: tuple[int, ...]) -> None:
    """Egress, a published port, isolation, the node and the metadata address, in these families."""
    lab = world.lab
    web, other = world.attach("web", expose=["8080:80"]), world.attach("other")
    lab.internet.serve(tcp=[80])
    lab.node.serve(tcp=[22])
    with web.host.serve(tcp=[80]):
        for family in families:
            assert_connection(other.host, "151.101.1.69" if family == 4 else "2a04:4e42::1", 80)
            node = NODE4 if family == 4 else NODE6
            assert_connection(lab.lan, node, 8080)
            assert connect(other.host, web.address(family), 80).kind == "refused"
            assert connect(other.host, node, 8080).kind == "refused"
            assert connect(other.host, node, 22).kind == "refused"
            assert connect(other.host, "169.254.169.254" if family == 4 else "fd00:ec2::254", 80).kind == "refused"
        assert_direct_frames_stop(web, other)
    assert world.wall.status().drift == ()


def assert_direct_frames_stop(victim: Sandbox, attacker: Sandbox) -> None:
    """On layer 2 straight to the neighbour, which is what bridge-nf-call would show to the IP hooks."""
    ether = Ether(src=mac_text(attacker.endpoint.mac), dst=mac_text(victim.endpoint.mac))
    direct = ether / IP(src=attacker.address(4), dst=victim.address(4)) / UDP(sport=1, dport=80) / Raw(b"direct")
    with victim.host.capture("eth0", outgoing=False) as capture:
        attacker.host.inject("eth0", [bytes(direct)])
        assert ping(attacker.host, "192.168.0.1").kind == "answer"  # behind it in the same queue
        assert not [frame for frame in capture.drain() if b"direct" in frame]


def assert_no_ipv6(world: World) -> None:
    """None in the sandbox, none on the bridge; and none that a tenant with root configures itself passes."""
    lab = world.lab
    sandbox = world.attach("six")
    assert sandbox.endpoint.address6 is None
    assert not [address for address in sandbox.host.addresses("eth0") if ":" in address]
    assert not [address for address in lab.node.addresses("b9_br0") if ":" in address]
    write_setting(sandbox.host, "net/ipv6/conf/eth0/disable_ipv6", "0")
    own, token = "fd00:abcd::5", world.token("six")
    ether = Ether(src=mac_text(sandbox.endpoint.mac), dst="02:00:00:00:00:01")
    frames = [
        ether / IPv6(src=own, dst="2a04:4e42::1") / UDP(sport=1, dport=80) / Raw(token),
        ether / IPv6(src=own, dst=NODE6) / UDP(sport=1, dport=22) / Raw(token),
        ether / IPv6(src="fe80::1234", dst="fe80::ff:fe00:1") / ICMPv6EchoRequest(data=token),
    ]
    with lab.internet.capture("eth0") as wire, sandbox.host.capture("eth0", outgoing=False) as heard:
        sandbox.host.inject("eth0", [bytes(frame) for frame in frames])
        assert ping(sandbox.host, "192.168.0.1").kind == "answer"
        assert not [frame for frame in (*wire.drain(), *heard.drain()) if token in frame]
