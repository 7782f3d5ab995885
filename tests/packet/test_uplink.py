"""The default interface: where it comes from, what happens when it changes or goes."""

import pytest

from cellwall.errors import InvalidSpec, Unsupported
from cellwall.lab import Host, connect, ping
from cellwall.lab.addresses import GATEWAY4, GATEWAY6, INFRA4, INFRA6, NODE_INFRA4
from cellwall.lab.capture import one_cpu
from cellwall.model.settings import Settings
from world import PUBLIC4, Sandbox, Stream, World, assert_connection, open_world, public, take_out

pytestmark = pytest.mark.root


def second_internet(world: World) -> None:
    """The infrastructure behind eth1 has the public addresses too."""
    infra = world.lab.infra
    infra.run(["ip", "address", "add", f"{PUBLIC4}/32", "dev", "lo"])
    infra.run(["ip", "address", "add", f"{public(6)}/128", "dev", "lo"])
    infra.serve(tcp=[80])


def route_by(world: World, gateway4: str, gateway6: str) -> None:
    for gateway in (gateway4, gateway6):
        world.lab.node.run(["ip", "route", "replace", "default", "via", gateway])


def reached(sandbox: Sandbox) -> list[str]:
    return [connect(sandbox.host, public(family), 80, timeout=10.0).kind for family in (4, 6)]


def leaves(world: World, sandbox: Sandbox, beyond: Host, neighbours: tuple[str, str]) -> list[bool]:
    """Whether datagrams of the sandbox to public addresses come by at `beyond`, of IPv4 and of IPv6; what the sandbox
    is told says nothing about it, since there is no way back for an answer. `neighbours`: addresses of `beyond`, which
    the node speaks to last."""
    found = []
    for family, neighbour in zip((4, 6), neighbours, strict=True):
        token, sentinel = world.token(), world.token("sentinel")
        assert ping(world.lab.node, neighbour)  # a packet that waits for ARP would come after the sentinel
        with beyond.capture("eth0", outgoing=False) as wire, one_cpu():
            for host, target, payload in ((sandbox.host, public(family), token), (world.lab.node, neighbour, sentinel)):
                with Stream(host, target, 80, udp=True) as stream:
                    stream.say(payload)
            found.append(any(token in frame for frame in wire.read_until(sentinel)))
    return found


INFRA, INTERNET = (INFRA4, INFRA6), (GATEWAY4, GATEWAY6)
THE_RULE = "not by the default interface"


def test_a_changed_default_interface_closes_egress_until_it_is_followed() -> None:
    with open_world() as world:
        second_internet(world)
        world.lab.internet.serve(tcp=[80])
        tenant = world.attach("tenant", expose=["8080:80"])
        with tenant.host.serve(tcp=[80]):
            assert reached(tenant) == ["answer", "answer"]
            route_by(world, INFRA4, INFRA6)
            assert reached(tenant) == ["refused", "refused"]  # nobody was told yet; nothing leaves the other way
            assert world.wall.status().warnings
            world.attach("another")  # any operation follows
            for family in (4, 6):
                assert assert_connection(tenant.host, public(family), 80).startswith(b"infra ")
            assert assert_connection(world.lab.infra, NODE_INFRA4, 8080)
            assert world.wall.status().drift == ()
            route_by(world, GATEWAY4, GATEWAY6)
            assert world.wall.up().uplink == "eth0"
            assert reached(tenant) == ["answer", "answer"]


def test_a_vanished_default_interface_closes_egress_at_once() -> None:
    with open_world() as world:
        second_internet(world)
        tenant = world.attach("tenant")
        node, infra = world.lab.node, world.lab.infra
        for gateway in INFRA:
            # The way that the kernel takes as soon as the other is gone.
            node.run(["ip", "route", "add", "default", "via", gateway, "metric", "2000"])
        node.run(["ip", "link", "delete", "eth0"])
        assert leaves(world, tenant, infra, INFRA) == [False, False]
        assert reached(tenant) == ["refused", "refused"]
        take_out(world, THE_RULE)
        assert leaves(world, tenant, infra, INFRA) == [True, True]
        assert world.wall.up().uplink == "eth1"
        for family in (4, 6):
            assert assert_connection(tenant.host, public(family), 80).startswith(b"infra ")


def test_without_a_default_route_the_recorded_interface_stays_the_only_way() -> None:
    with open_world() as world:
        second_internet(world)
        tenant = world.attach("tenant")
        node, infra = world.lab.node, world.lab.infra
        for family, gateway in zip((4, 6), INFRA, strict=True):
            node.run(["ip", f"-{family}", "route", "del", "default"])
            node.run(["ip", "route", "add", public(family), "via", gateway])  # a way, though no default one
        report = world.wall.up()
        assert report.uplink == "eth0"
        assert any("default route" in warning for warning in report.warnings)
        assert leaves(world, tenant, infra, INFRA) == [False, False]
        take_out(world, THE_RULE)
        assert leaves(world, tenant, infra, INFRA) == [True, True]


def test_a_configured_interface_wins_over_the_default_route() -> None:
    with open_world(settings=Settings(interface="eth1")) as world:
        assert world.report is not None
        assert world.report.uplink == "eth1"
        second_internet(world)
        tenant, internet = world.attach("tenant"), world.lab.internet
        assert leaves(world, tenant, internet, INTERNET) == [False, False]  # the route says eth0, the wall says eth1
        route_by(world, INFRA4, INFRA6)
        assert reached(tenant) == ["answer", "answer"]
        route_by(world, GATEWAY4, GATEWAY6)
        take_out(world, THE_RULE)
        assert leaves(world, tenant, internet, INTERNET) == [True, True]


def test_an_ipv6_default_route_alone_is_enough() -> None:
    with open_world(up=False) as world:
        world.lab.node.run(["ip", "-4", "route", "del", "default"])
        assert world.wall.up().uplink == "eth0"


def test_no_default_route_is_a_clear_error_that_changes_nothing() -> None:
    with open_world(up=False) as world:
        for family in ("-4", "-6"):
            world.lab.node.run(["ip", family, "route", "del", "default"])
        with pytest.raises(Unsupported, match=r"node\.interface: .*default route"):
            world.wall.up()
        assert world.lab.node.run(["nft", "list", "ruleset"]).text == ""
        assert "b9_br0" not in world.lab.node.run(["ip", "link"]).text


def test_an_interface_that_does_not_exist_is_a_clear_error() -> None:
    with open_world(settings=Settings(interface="nosuch0"), up=False) as world:
        with pytest.raises(InvalidSpec, match=r'node\.interface: "nosuch0"'):
            world.wall.up()
        assert world.lab.node.run(["nft", "list", "ruleset"]).text == ""
