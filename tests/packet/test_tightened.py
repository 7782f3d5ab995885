"""A policy that tightens acts on what is under way: open flows end at their next packet, and no others do."""

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import pytest

from cellwall.lab import connect
from cellwall.lab.addresses import NODE4, PUBLIC4, PUBLIC6
from cellwall.model.settings import Settings, parse_openings
from streams import alive, flows
from world import Sandbox, Stream, World, about_nftables, open_world, rewired

pytestmark = pytest.mark.root
PRIVATE = {4: "10.0.0.5", 6: "fc00:9::9"}
OPENED = Settings(
    exceptions=parse_openings("db 10.0.0.5 tcp,udp/80", "x") + parse_openings("db fc00:9::9 tcp,udp/80", "x")
)


def configured(world: World, settings: Settings) -> Any:
    """The same node under another configuration."""
    return rewired(world.wall, settings=settings)


@pytest.fixture
def world() -> Iterator[World]:
    with open_world() as world:
        world.lab.internet.serve(tcp=[80], udp=[80])
        yield world


def test_open_flows_to_what_joins_the_floor_end_and_all_others_go_on(world: World) -> None:
    tenant, other = world.attach("tenant", expose=["8080:80"]), world.attach("other")
    closing, staying = (PUBLIC4[0], PUBLIC6[0]), (PUBLIC4[1], PUBLIC6[1])
    with (
        tenant.host.serve(tcp=[80]),
        flows(tenant.host, closing) as cut,
        flows(other.host, closing) as also_cut,
        flows(tenant.host, staying) as kept,
        Stream(world.lab.lan, NODE4, 8080) as served,
    ):
        assert alive(world, [*cut, *also_cut, *kept, served]) == [True] * 13
        protected = Settings(protect=tuple(ip_network(address) for address in closing))
        assert configured(world, protected).up().changed
        assert alive(world, [*cut, *also_cut], 0.2) == [False] * 8
        assert alive(world, [*kept, served]) == [True] * 5
        assert world.wall.status().drift == ()
    assert connect(tenant.host, closing[0], 80, timeout=10.0).kind == "refused"


@pytest.mark.parametrize("changed", [False, True], ids=["refreshed", "replaced"])
def test_open_flows_by_a_withdrawn_exception_end(world: World, changed: bool) -> None:
    tenant = world.attach("tenant")
    configured(world, OPENED).up()
    with flows(tenant.host, tuple(PRIVATE.values())) as cut, flows(tenant.host, (PUBLIC4[0], PUBLIC6[0])) as kept:
        assert alive(world, [*cut, *kept]) == [True] * 8
        if changed:  # by somebody else: our rules are replaced whole
            about_nftables("a chain that is not ours in our table")
            world.lab.node.run(["nft", "add", "chain", "inet", "cellwall", "strange"])
        world.wall.up()
        assert alive(world, cut, 0.2) == [False] * 4
        assert alive(world, kept) == [True] * 4


def test_a_policy_that_is_the_same_gives_no_new_version(world: World) -> None:
    """A flow that is idle through too many versions would end."""
    tenant = world.attach("tenant")
    for number in range(3):
        world.lab.node.run(["ip", "address", "add", f"172.21.{number}.1/24", "dev", "eth1"])
        world.wall.up()
        world.wall.expose(tenant.name, f"7000:80@93.0.0.0/{8 + number}")
        assert world.wall.endpoint(tenant.name).generation == tenant.endpoint.generation
        (binding,) = world.wall.endpoint(tenant.name).bindings
        assert world.wall.status().drift == ()
        tenant = Sandbox(tenant.host, world.wall.unexpose(tenant.name, binding))
