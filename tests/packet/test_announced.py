"""What routers announce, or whoever plays one on the LAN: it may close something, and keeps nobody from closing."""

import logging
import socket

import pytest

from cellwall.attack.frames import frame, scapy
from cellwall.errors import Conflict
from cellwall.lab import connect
from cellwall.lab.addresses import NODE4
from world import PUBLIC6, World, about_nftables, assert_connection

pytestmark = pytest.mark.root
_RTMGRP_IPV6_ROUTE = 0x400


def announce(world: World, prefix: str, length: int, *, valid: int = 1800) -> None:
    """A router advertisement from the LAN; returns when the node has the route."""
    s = scapy()
    lan = world.lab.lan
    source = next(address for address in lan.addresses("eth0") if address.startswith("fe80"))
    body = s.ICMPv6ND_RA(routerlifetime=0) / s.ICMPv6NDOptPrefixInfo(
        prefix=prefix, prefixlen=length, L=1, A=0, validlifetime=valid, preferredlifetime=valid
    )
    packet = s.IPv6(src=source, dst="ff02::1", hlim=255) / body
    with world.lab.node.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as routes:
        routes.bind((0, _RTMGRP_IPV6_ROUTE))
        routes.settimeout(5)
        lan.inject("eth0", [frame(lan.mac("eth0"), "33:33:00:00:00:01", packet)])
        routes.recv(1 << 16)
    assert prefix in world.lab.node.run(["ip", "-6", "route", "show", "dev", "eth0"]).text


@pytest.mark.parametrize("valid", [1800, 0xFFFFFFFF], ids=["for a while", "for ever"])
def test_a_router_that_announces_our_network_keeps_nothing_from_working(
    fresh_node: World, valid: int, caplog: pytest.LogCaptureFixture
) -> None:
    wall, lan, subnet = fresh_node.wall, fresh_node.lab.lan, fresh_node.wall.settings.network.subnet6
    tenant = fresh_node.attach("tenant", expose=["8080:80"])
    with tenant.host.serve(tcp=[80]):
        assert_connection(lan, NODE4, 8080)
        announce(fresh_node, str(subnet.network_address), 64, valid=valid)
        assert wall.unexpose(tenant.name, "8080:80").bindings == ()
        assert connect(lan, NODE4, 8080, timeout=0.3).kind != "answer"
        other = fresh_node.attach("other")
        wall.expose(other.name, "8081:80")
        assert wall.verify(other.name) == ()
        wall.reconcile()
        assert wall.status().drift == ()
        (warning,) = wall.status().warnings
        assert warning == f"network.subnet6: {subnet}: overlaps {subnet} on interface eth0"
        assert warning in wall.up().warnings
        assert len([record for record in caplog.records if record.getMessage() == warning]) == 1
        assert all(record.levelno == logging.WARNING for record in caplog.records if record.name == "cellwall")
        assert wall.detach(tenant.name)
        assert wall.detach(other.name)


def test_a_node_can_be_brought_up_beside_such_a_router(fresh_node: World) -> None:
    announce(fresh_node, "fd00:abcd::", 120)
    report = fresh_node.wall.up()
    assert any("overlaps fd00:abcd::/120" in warning for warning in report.warnings)
    assert fresh_node.wall.status().warnings


@pytest.mark.parametrize(
    "made",
    [
        "ip -6 route add fd00:abcd::/64 dev eth1",
        "ip -6 address add fd00:abcd::77/64 dev eth1 nodad",
        "ip address add 192.168.3.1/24 dev eth1",
    ],
)
def test_an_overlap_that_the_operator_makes_refuses_a_bare_node_and_is_a_warning_on_one_that_is_up(
    fresh_node: World, made: str
) -> None:
    fresh_node.lab.node.run(made.split())
    with pytest.raises(Conflict, match=r"network\.subnet[46]: .* overlaps .* on interface eth1"):
        fresh_node.wall.up()
    fresh_node.lab.node.run(made.replace(" add ", " del ").removesuffix(" nodad").split())
    tenant = fresh_node.attach("tenant", expose=["8080:80"])
    assert fresh_node.wall.status().warnings == ()
    fresh_node.lab.node.run(made.split())
    assert fresh_node.wall.unexpose(tenant.name, "8080:80").bindings == ()
    fresh_node.detach(fresh_node.attach("other"))
    (warning,) = fresh_node.wall.status().warnings
    assert "overlaps" in warning
    assert "eth1" in warning


def test_many_announced_networks_are_denied_as_few_and_the_rules_stop_growing(fresh_node: World) -> None:
    """What lies in a network that a router announced is a neighbour of the node's: denied, however many there are."""
    node, wall = fresh_node.lab.node, fresh_node.wall
    fresh_node.lab.internet.serve(tcp=[80])
    wall.up()
    tenant = fresh_node.attach("tenant")
    assert_connection(tenant.host, PUBLIC6, 80)

    def learn(first: int, last: int) -> None:
        routes = "".join(f"route add 2a0a:{n:x}::/64 dev eth0 proto ra\n" for n in range(first, last))
        node.run(["ip", "-6", "-batch", "-"], input=routes.encode(), timeout=60)

    about_nftables("how many rows a set has")

    def floor6() -> str:
        return node.run(["nft", "list", "set", "inet", "cellwall", "floor6"]).text

    learn(0, 40)
    fresh_node.detach(fresh_node.attach("few"))
    assert "2a0a:27::/64" in floor6()
    assert wall.status().warnings == ()
    learn(40, 2000)
    fresh_node.detach(fresh_node.attach("many"))
    (warning,) = wall.status().warnings
    assert "eth0" in warning
    assert "2a0a::/16" in warning
    after = floor6()
    assert "2a0a::/16" in after
    version = wall.endpoint(tenant.name).generation
    learn(2000, 2100)
    fresh_node.detach(fresh_node.attach("more"))
    assert floor6() == after
    assert wall.endpoint(tenant.name).generation == version, "more of the same changes no rule"
    assert wall.status().drift == ()
    assert connect(tenant.host, "2a0a:7ff::1", 80, timeout=10.0).kind == "refused"
    assert_connection(tenant.host, PUBLIC6, 80)
