"""Sandboxes of one tenant that reach each other, through the wall and no other way."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_network

import pytest

from cellwall.errors import Unsupported
from cellwall.model.policy import Policy, Rule
from streams import alive
from world import (
    Sandbox,
    Stream,
    World,
    about_nftables,
    assert_connection,
    assert_no_connection,
    in_iptables,
    open_world,
)

pytestmark = pytest.mark.root
LINKS, FAMILIES = Policy(links=True), (4, 6)


@pytest.fixture
def world() -> Iterator[World]:
    about_nftables("links")
    with open_world() as world:
        yield world


def test_sandboxes_of_a_tenant_reach_each_other_once_it_links_them_and_nobody_else(world: World) -> None:
    one, two = world.attach("one", tenant="acme"), world.attach("two", tenant="acme")
    stranger, outcast = world.attach("three", tenant="else"), world.attach("four", tenant="acme", block_network=True)
    world.wall.set_policy(LINKS, tenant="else")
    with ExitStack() as stack:
        for sandbox in (one, two, stranger, outcast):
            stack.enter_context(sandbox.host.serve(tcp=[80], udp=[80]))
        for family in FAMILIES:
            assert_no_connection(one.host, two.address(family), 80)
        world.wall.set_policy(LINKS, tenant="acme")
        late = world.attach("late", tenant="acme")
        for family in FAMILIES:
            for udp in (False, True):
                assert_connection(one.host, two.address(family), 80, udp=udp)
                assert_connection(late.host, one.address(family), 80, udp=udp)
                for sender, receiver in ((one, stranger), (stranger, one), (one, outcast), (outcast, one)):
                    assert_no_connection(sender.host, receiver.address(family), 80, udp=udp)
        assert world.wall.status().drift == ()


@pytest.mark.parametrize("end", ["the policy", "one end's", "the other end's", "the endpoint"])
def test_open_flows_of_a_link_end_with_it(world: World, end: str) -> None:
    world.wall.set_policy(LINKS, tenant="acme")
    one, two, three = (world.attach(name, tenant="acme") for name in ("one", "two", "three"))
    with two.host.serve(tcp=[80], udp=[80]), three.host.serve(tcp=[80], udp=[80]):
        with streams(one, two) as cut, streams(one, three) as others:
            assert alive(world, [*cut, *others]) == [True] * 8
            if end == "the policy":
                world.wall.set_policy(Policy(), tenant="acme")
            elif end == "the endpoint":
                world.detach(two)
            else:
                blocked = one if end == "one end's" else two
                world.wall.set_policy(Policy("block"), container=blocked.name)
            assert alive(world, cut, 0.2) == [False] * 4
            if end in ("the other end's", "the endpoint"):
                assert alive(world, others) == [True] * 4
        assert world.wall.status().drift == ()


def test_a_link_outlives_what_else_changes_in_its_tenants_policy(world: World) -> None:
    world.wall.set_policy(LINKS, tenant="acme")
    one, two = (world.attach(name, tenant="acme") for name in ("one", "two"))
    with two.host.serve(tcp=[80], udp=[80]), streams(one, two) as kept:
        for number in range(20):
            world.wall.set_policy({"links": True, "allow_list": [f"9.9.{number}.0/24"]}, tenant="acme")
            assert alive(world, kept) == [True] * 4


def test_iptables_refuses_links_by_their_name_and_opens_nothing() -> None:
    if not in_iptables():
        pytest.skip("iptables only")
    with open_world() as world:
        one, two = (world.attach(name, tenant="acme") for name in ("one", "two"))
        with pytest.raises(Unsupported) as refused:
            world.wall.set_policy(LINKS, tenant="acme")
        assert refused.value.predicate == "Linked"
        assert world.wall.policy(tenant="acme") is None
        with two.host.serve(tcp=[80]):
            assert_no_connection(one.host, two.address(4), 80)


@contextmanager
def streams(one: Sandbox, two: Sandbox) -> Iterator[list[Stream]]:
    ways = [(two.address(family), udp) for family in FAMILIES for udp in (False, True)]
    with ExitStack() as stack:
        yield [stack.enter_context(Stream(one.host, to, 80, udp=udp)) for to, udp in ways]


@pytest.mark.parametrize(
    "own",
    [
        Policy("open", tuple(Rule("deny", ip_network(everything)) for everything in ("0.0.0.0/0", "::/0"))),
        Policy("allow", (Rule("allow", ip_network("151.101.1.69/32")),)),
    ],
    ids=["denies all", "lists others"],
)
def test_an_endpoints_own_policy_takes_it_out_of_the_links(world: World, own: Policy) -> None:
    world.wall.set_policy(LINKS, tenant="acme")
    one, two = world.attach("one", tenant="acme"), world.attach("two", tenant="acme")
    with two.host.serve(tcp=[80], udp=[80]), streams(one, two) as cut:
        assert alive(world, cut) == [True] * 4
        world.wall.set_policy(own, container=one.name)
        assert alive(world, cut, 0.2) == [False] * 4
        world.wall.patch_policy({"monitor": True}, container=one.name)
        assert_connection(one.host, two.address(4), 80)
    assert world.wall.status().drift == ()


def test_a_denial_that_says_less_leaves_the_links(world: World) -> None:
    one, two = world.attach("one", tenant="acme"), world.attach("two", tenant="acme")
    world.wall.set_policy(LINKS, tenant="acme")
    rules = (Rule("deny", ip_network("0.0.0.0/0"), "tcp", (465, 465)), Rule("deny", ip_network("::/0")))
    world.wall.set_policy(Policy("open", rules), container=one.name)
    with two.host.serve(tcp=[80]):
        assert_connection(one.host, two.address(4), 80)
        assert_no_connection(one.host, two.address(6), 80)
