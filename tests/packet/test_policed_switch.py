"""A wall under policies changes hands: what the other mechanism can say holds there, what it cannot keeps the wall."""

from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from cellwall.errors import Unsupported
from cellwall.lab.addresses import PUBLIC4, PUBLIC6
from cellwall.model.policy import Policy, Rule
from cellwall.model.settings import Settings
from world import Sandbox, World, about_nftables, assert_connection, assert_no_connection, open_world, rewired

pytestmark = pytest.mark.root
CLOSED, OPEN = (PUBLIC4[0], PUBLIC6[0]), (PUBLIC4[1], PUBLIC6[1])
OF_PORTS = Policy(rules=tuple(Rule("deny", ip_network(at), "tcp", (80, 90)) for at in CLOSED))
OF_NETWORKS = Policy("allow", tuple(Rule("allow", ip_network(at)) for at in OPEN))


@pytest.fixture
def world() -> Iterator[World]:
    about_nftables("a wall that changes hands")
    with open_world(settings=Settings(backend="nftables")) as world:
        world.lab.internet.serve(tcp=[80])
        yield world


def assert_policed(world: World, sandbox: Sandbox) -> None:
    for address in CLOSED:
        assert_no_connection(sandbox.host, address, 80)
    for address in OPEN:
        assert_connection(sandbox.host, address, 80)
    assert world.wall.status().drift == ()


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_policies_of_ports_hold_in_the_other_mechanism_and_back(world: World, variant: str) -> None:
    sandbox = world.attach("one", tenant="acme")
    world.wall.set_policy(OF_PORTS, tenant="acme")
    assert_policed(world, sandbox)
    settings = Settings(backend="iptables", iptables="nft" if variant == "nft" else "legacy")
    other = World(world.lab, rewired(world.wall, settings=settings))
    other.wall.up()
    assert_policed(other, sandbox)
    world.wall.up()
    assert_policed(world, sandbox)


def test_a_policy_that_the_other_mechanism_has_no_words_for_keeps_the_wall_where_it_is(world: World) -> None:
    sandbox = world.attach("one", tenant="acme")
    world.wall.set_policy(OF_NETWORKS, tenant="acme")
    with pytest.raises(Unsupported) as refused:
        rewired(world.wall, settings=Settings(backend="iptables")).up()
    assert refused.value.predicate == "Listed"
    assert_policed(world, sandbox)
