"""Forms of policies come into the rules and go from them again; and there is an end to them."""

from collections.abc import Iterator
from ipaddress import IPv6Network, ip_network

import pytest

from cellwall.compile.policy_size import MAX_FORMS_OF_ONE
from cellwall.engine.forms import KEPT_UNUSED, MAX_FORMS
from cellwall.errors import Exhausted, InvalidSpec, Unsupported
from cellwall.lab.addresses import PUBLIC4, PUBLIC6
from cellwall.model.policy import Policy, Rule
from cellwall.model.settings import Settings
from world import Stream, World, about_nftables, assert_connection, assert_no_connection, open_world, rewired

pytestmark = pytest.mark.root


@pytest.fixture
def world() -> Iterator[World]:
    with open_world() as world:
        world.lab.internet.serve(tcp=[80], udp=[80])
        yield world


def of_lengths(first: int, last: int, *ports: int) -> Policy:
    """A form for each length, and with ports for each length and block of them."""
    prefixes = [IPv6Network((0x2C0F << 112, length)) for length in range(first, last + 1)]
    if not ports:
        return Policy("open", tuple(Rule("deny", prefix) for prefix in prefixes))
    return Policy("open", tuple(Rule("deny", prefix, "tcp", (1, ports[0])) for prefix in prefixes))


def forms(world: World) -> int:
    found = world.wall._site.foundation()
    assert found is not None
    return len(found.usage.policies.forms)


def test_few_forms_are_kept_that_nobody_needs_and_flows_go_on_when_the_rest_goes(world: World) -> None:
    about_nftables("destinations without ports")
    tenant = world.attach("tenant", tenant="acme")
    streams = [Stream(tenant.host, to, 80, udp=udp) for to in (PUBLIC4[0], PUBLIC6[0]) for udp in (False, True)]
    assert all(stream.ask(world.token()) for stream in streams)
    most = 0
    for first in range(16, 16 + 6 * 17, 17):
        world.wall.set_policy(of_lengths(first, first + 16), tenant="acme")
        most = max(most, forms(world))
        assert all(stream.ask(world.token()) for stream in streams)
        assert world.wall.status().drift == ()
    assert most <= 17 + 17 + KEPT_UNUSED
    assert forms(world) == 17 + 17
    world.wall.set_policy(Policy("block"), tenant="acme")
    assert not any(stream.ask(world.token(), 0.2) for stream in streams)
    for stream in streams:
        stream.close()


def of_forms(number: int) -> Policy:
    """As many forms as one policy may need, which are those of no other number up to 8."""
    lengths, smallest = range(16 + number % 7 * 16, 32 + number % 7 * 16), 16 if number == 7 else 1
    ranges = [(256, 255 + (smallest << power)) for power in range(MAX_FORMS_OF_ONE // len(lengths))]
    prefixes = [IPv6Network((0x2C0F << 112, length)) for length in lengths]
    return Policy("open", tuple(Rule("deny", prefix, "tcp", ports) for prefix in prefixes for ports in ranges))


def fill(world: World) -> None:
    """Policies of tenants that together need every form that a node has."""
    for number in range(MAX_FORMS // MAX_FORMS_OF_ONE):
        world.wall.set_policy(of_forms(number), tenant=f"tenant-{number}")


def test_there_is_an_end_to_the_forms_of_a_node(world: World) -> None:
    about_nftables("any ports")
    tenant = world.attach("tenant", tenant="acme")
    fill(world)
    before = world.wall.policies()
    for whose in ({"tenant": "acme"}, {"tenant": "other"}, {"container": tenant.name}):
        with pytest.raises(Exhausted, match="forms"):
            world.wall.set_policy(of_lengths(16, 16), **whose)
    with pytest.raises(Exhausted):
        world.attach("another", policy=of_lengths(16, 16))
    assert world.wall.policies() == before
    assert forms(world) == MAX_FORMS
    assert world.wall.status().drift == ()
    world.wall.set_policy(Policy("block"), tenant="acme")
    assert_no_connection(tenant.host, PUBLIC4[0], 80)


def test_a_node_that_is_not_up_takes_no_more_either() -> None:
    with open_world(up=False) as world:
        fill(world)
        with pytest.raises(Exhausted):
            world.wall.set_policy(of_lengths(16, 16), tenant="acme")
        world.wall.remove_policy(tenant="tenant-0")
        world.wall.set_policy(of_lengths(16, 16), tenant="acme")


def test_one_policy_takes_few_of_the_forms_that_all_have(world: World) -> None:
    about_nftables("any ports")
    tenant = world.attach("tenant", tenant="acme")
    for whose in ({"tenant": "acme"}, {"container": tenant.name}):
        with pytest.raises(InvalidSpec, match="forms"):
            world.wall.set_policy(of_lengths(16, 128, 65535), **whose)
    with pytest.raises(InvalidSpec, match="forms"):
        world.attach("another", policy=of_lengths(16, 128, 65535))
    assert world.wall.policies() == {}


def test_a_wall_moves_to_a_mechanism_once_no_policy_needs_what_that_has_no_words_for() -> None:
    with open_world(settings=Settings(backend="nftables")) as world:
        about_nftables("a move from it")
        world.lab.internet.serve(tcp=[80], udp=[80])
        tenant = world.attach("tenant", tenant="acme")
        world.wall.set_policy({"allow_list": [PUBLIC4[0]]}, tenant="acme")
        moving = rewired(world.wall, settings=Settings(backend="iptables"))
        with pytest.raises(Unsupported) as caught:
            moving.up()
        assert (caught.value.predicate, world.wall.mechanism) == ("Listed", "nftables")
        assert_connection(tenant.host, PUBLIC4[0], 80)
        assert_no_connection(tenant.host, PUBLIC4[1], 80)
        only = Policy("open", (Rule("deny", ip_network(PUBLIC4[1]), "tcp", (80, 80)),))
        world.wall.set_policy(only, tenant="acme")
        moving.up()
        assert moving.mechanism.startswith("iptables")
        assert_connection(tenant.host, PUBLIC4[0], 80)
        assert_no_connection(tenant.host, PUBLIC4[1], 80)
        assert moving.status().drift == ()
        world.wall.up()
