"""Services of the node under policies: the operator opens them to all sandboxes, and a policy takes them away."""

from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from cellwall.lab import connect
from cellwall.model.policy import Policy, Rule
from cellwall.model.settings import Settings, parse_openings
from streams import alive, flows
from world import World, assert_connection, open_world

pytestmark = pytest.mark.root
GATEWAYS = ("192.168.0.1", "fd00:abcd::1")
SERVICES = tuple(row for at in GATEWAYS for row in parse_openings(f"echo {at} tcp,udp/5000", "x"))
LISTED = Policy("allow", tuple(Rule("allow", ip_network(at), name, (5000, 5000)) for at in GATEWAYS
                               for name in ("tcp", "udp")))  # fmt: skip


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with open_world(settings=Settings(services=SERVICES)) as world, world.lab.node.serve(tcp=[5000], udp=[5000]):
        yield world


def test_open_flows_to_a_service_end_with_a_policy_that_does_not_list_it(world: World) -> None:
    asking = [flows(world.attach(name, tenant=name).host, GATEWAYS, 5000) for name in ("cut", "kept", "free")]
    with asking[0] as cut, asking[1] as kept, asking[2] as free:
        assert alive(world, [*cut, *kept, *free]) == [True] * 12
        world.wall.set_policy(LISTED, tenant="kept")
        world.wall.set_policy(Policy("block"), tenant="cut")
        assert alive(world, cut, 0.2) == [False] * 4
        assert alive(world, [*kept, *free]) == [True] * 8


def test_a_service_is_refused_at_once_under_a_policy_that_does_not_list_it(world: World) -> None:
    sandbox = world.attach("closed", policy=Policy("block"))
    for at in GATEWAYS:
        assert connect(sandbox.host, at, 5000, timeout=10.0).kind == "refused"
    world.wall.set_policy(LISTED, container=sandbox.name)
    for at in GATEWAYS:
        assert_connection(sandbox.host, at, 5000)
        assert_connection(sandbox.host, at, 5000, udp=True)
