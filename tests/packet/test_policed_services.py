"""Services of the node under policies: the operator opens them to all sandboxes, and a policy takes them away."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_network

import pytest

from cellwall.lab import connect
from cellwall.model.policy import Policy, Rule
from cellwall.model.settings import Settings, parse_openings
from world import Stream, World, assert_connection, open_world

pytestmark = pytest.mark.root
GATEWAYS = ("192.168.0.1", "fd00:abcd::1")
SERVICES = tuple(row for at in GATEWAYS for row in parse_openings(f"echo {at} tcp,udp/5000", "x"))
LISTED = Policy("allow", tuple(Rule("allow", ip_network(at), name, (5000, 5000)) for at in GATEWAYS
                               for name in ("tcp", "udp")))  # fmt: skip


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with open_world(settings=Settings(services=SERVICES)) as world, world.lab.node.serve(tcp=[5000], udp=[5000]):
        yield world


@contextmanager
def flows(world: World, name: str) -> Iterator[list[Stream]]:
    host = world.attach(name, tenant=name).host
    with ExitStack() as stack:
        yield [stack.enter_context(Stream(host, at, 5000, udp=udp)) for at in GATEWAYS for udp in (False, True)]


def alive(world: World, streams: list[Stream], timeout: float = 1.0) -> list[bool]:
    return [stream.ask(world.token(), timeout) for stream in streams]


def test_open_flows_to_a_service_end_with_a_policy_that_does_not_list_it(world: World) -> None:
    with flows(world, "cut") as cut, flows(world, "kept") as kept, flows(world, "free") as free:
        assert alive(world, [*cut, *kept, *free]) == [True] * 12
        world.wall.set_policy(LISTED, tenant="kept")
        world.wall.set_policy(Policy("block"), tenant="cut")
        assert alive(world, cut, 0.2) == [False] * 4
        assert alive(world, [*kept, *free]) == [True] * 8


def test_a_service_is_refused_at_once_under_a_policy_that_does_not_list_it(world: World) -> None:
    sandbox = world.attach("closed", policy=Policy("block"))
    for at in GATEWAYS:
        assert connect(sandbox.host, at, 5000, timeout=0.5).kind == "refused"
    world.wall.set_policy(LISTED, container=sandbox.name)
    for at in GATEWAYS:
        assert_connection(sandbox.host, at, 5000)
        assert_connection(sandbox.host, at, 5000, udp=True)
