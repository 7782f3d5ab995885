"""kube-proxy's rules on the node, in both flavours, with one service."""

from collections.abc import Iterator
from itertools import product

import pytest

from cellwall.errors import Conflict
from cellwall.lab import connect
from cellwall.lab.addresses import NODE4, NODE6
from neighbours.beside import BACKENDS, assert_holds, assert_nothing_to_do, held_by, rules_of_others, tenants
from neighbours.kube_proxy import FAMILIES, NODE_PORT, sync
from world import World, assert_connection, assert_no_connection, open_world, write_setting

pytestmark = pytest.mark.root
FLAVOURS = ("iptables", "nftables")


def route(world: World) -> None:
    """A node of a cluster is a router."""
    for setting in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
        write_setting(world.lab.node, setting, "1")


@pytest.fixture(scope="module", params=[*product(FLAVOURS, BACKENDS)], ids="-".join)
def shared(request: pytest.FixtureRequest) -> Iterator[tuple[World, str]]:
    """kube-proxy was there first."""
    flavour, backend = request.param
    with held_by(backend) as world:
        route(world)
        sync(world.lab, flavour)
        world.wall.up()
        yield world, flavour


def assert_service_works(world: World) -> None:
    """From the node by the cluster's address, from outside by a port of the node; the endpoint is `infra`."""
    for family in FAMILIES:
        assert assert_connection(world.lab.node, family.cluster, 80).startswith(b"infra ")
        assert assert_connection(world.lab.lan, family.node, NODE_PORT).startswith(b"infra ")


def test_both_work_and_the_wall_holds(shared: tuple[World, str]) -> None:
    world, _ = shared
    with tenants(world) as ours:
        ours.assert_work()
        assert_service_works(world)
        assert_holds(world)
        assert_nothing_to_do(world)


def test_a_port_of_the_node_that_leads_to_a_service_is_not_published(shared: tuple[World, str]) -> None:
    """No socket listens on it."""
    world, _ = shared
    with tenants(world) as ours:
        name = ours.rogue.name
        with pytest.raises(Conflict, match=r"others lead that port elsewhere, in .*, chain "):
            world.wall.expose(name, f"{NODE_PORT}:80")
        world.wall.expose(name, f"{NODE_PORT + 1}:80")
        assert_service_works(world)


def test_no_address_of_a_service_leads_a_sandbox_into_the_cluster(shared: tuple[World, str]) -> None:
    world, _ = shared
    with tenants(world) as ours:
        before = len(ours.services["infra"].accepted)
        for family in FAMILIES:
            for address, port in ((family.cluster, 80), (family.external, 80), (family.node, NODE_PORT)):
                assert_no_connection(ours.rogue.host, address, port)
        assert len(ours.services["infra"].accepted) == before
        assert_service_works(world)


def test_the_clusters_endpoints_do_not_reach_sandboxes(shared: tuple[World, str]) -> None:
    world, _ = shared
    with tenants(world) as ours:
        for address in (ours.web.address(4), ours.web.address(6)):
            assert_no_connection(world.lab.infra, address, 80)
        for address in (NODE4, NODE6):
            assert connect(world.lab.lan, address, 8080)


def test_rules_that_are_laid_anew_open_nothing_and_break_nothing(shared: tuple[World, str]) -> None:
    world, flavour = shared
    with tenants(world) as ours:
        with ours.besieged():
            for _ in range(5):
                sync(world.lab, flavour)
        ours.assert_work()
        assert_service_works(world)
        assert_nothing_to_do(world)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_our_coming_and_going_leaves_its_rules_as_they_were(flavour: str) -> None:
    with open_world(up=False) as world:
        route(world)
        sync(world.lab, flavour)
        before = rules_of_others(world)
        world.attach("web", expose=["8080:80"])
        world.wall.down(force=True)
        assert rules_of_others(world) == before
        with world.lab.infra.serve(tcp=[80]):
            assert_service_works(world)
