"""Forms of policies come into the rules and go from them again; and there is an end to them."""

from collections.abc import Iterator
from ipaddress import IPv6Network, ip_network

import pytest

from cellwall.compile.policy_size import MAX_FORMS_OF_ONE
from cellwall.compile.usage import PolicyForm
from cellwall.engine.policies.forms import KEPT_UNUSED, MAX_FORMS, MEMBERS_FORMS
from cellwall.engine.requests import AttachRequest
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


def laid(world: World) -> tuple[PolicyForm, ...]:
    found = world.wall._site.foundation()
    assert found is not None
    return found.usage.policies.forms


def forms(world: World) -> int:
    return len(laid(world))


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
        world.wall.attach(f"of-{number}", tenant=f"tenant-{number}")
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


def test_tenants_without_containers_leave_all_forms_to_those_with_some(world: World) -> None:
    about_nftables("any ports")
    for number in range(MAX_FORMS // MAX_FORMS_OF_ONE):
        world.wall.set_policy(of_forms(number), tenant=f"tenant-{number}")
    assert forms(world) <= MAX_FORMS_OF_ONE + KEPT_UNUSED
    tenant = world.attach("tenant", tenant="acme")
    world.wall.set_policy(Policy("block"), tenant="acme")
    world.wall.set_policy(of_lengths(16, 16), tenant="acme")
    assert_connection(tenant.host, PUBLIC4[0], 80)


def test_what_a_tenant_may_reach_is_in_force_from_its_first_container_on_though_nothing_was_laid_for_it(
    world: World,
) -> None:
    about_nftables("any ports")
    world.wall.set_policy(Policy("open", (Rule("deny", ip_network(PUBLIC4[0])),)), tenant="acme")
    for number in (0, 1):
        world.wall.set_policy(of_forms(number), tenant=f"tenant-{number}")
    world.wall.set_policy(Policy("block"), tenant="last")
    assert not any(form.family == 4 for form in laid(world))
    tenant = world.attach("tenant", tenant="acme")
    assert_no_connection(tenant.host, PUBLIC4[0], 80)
    assert_connection(tenant.host, PUBLIC4[1], 80)
    assert world.wall.status().drift == ()


def test_a_container_whose_tenants_policy_finds_no_room_is_not_attached(world: World) -> None:
    about_nftables("any ports")
    world.wall.set_policy(of_lengths(16, 16), tenant="acme")
    fill(world)
    with pytest.raises(Exhausted, match="forms"):
        world.attach("late", tenant="acme")
    world.wall.detach("of-0")
    tenant = world.attach("again", tenant="acme")
    assert tenant.endpoint.tiers.tenant == of_lengths(16, 16)
    world.wall.up()
    assert world.wall.status().drift == ()


def test_the_containers_of_one_tenant_need_no_more_forms_together_than_one_policy_may(world: World) -> None:
    about_nftables("any ports")
    world.attach("first", tenant="greedy", policy=of_forms(0))
    with pytest.raises(Exhausted, match="greedy"):
        world.attach("second", tenant="greedy", policy=of_forms(1))
    with pytest.raises(Exhausted, match="greedy"):
        world.wall.set_policy(of_forms(1), tenant="greedy")
    other = world.attach("second", tenant="greedy")
    with pytest.raises(Exhausted, match="greedy"):
        world.wall.set_policy(of_forms(1), container=other.name)
    world.wall.set_policy(of_forms(0), container=other.name)
    world.wall.set_policy(of_forms(1), container=world.attach("alone").name)


def test_who_asks_for_too_much_for_its_tenant_ends_no_ready_sandbox(world: World) -> None:
    about_nftables("any ports")
    world.attach("first", tenant="greedy", policy=of_forms(0))
    world.wall.fill_pool(3)
    for attach in (world.wall.attach_many, world.wall.claim_many):
        with pytest.raises(Exhausted, match="greedy"):
            attach([AttachRequest("second", tenant="greedy", policy=of_forms(1))])
    assert world.wall.status().ready == 3


def test_the_last_quarter_of_the_forms_is_roots(world: World) -> None:
    about_nftables("any ports")
    number = 0
    with pytest.raises(Exhausted, match=f"{MEMBERS_FORMS}"):
        for number in range(MAX_FORMS // MAX_FORMS_OF_ONE):
            world.wall.attach(f"of-{number}", tenant=f"tenant-{number}")
            world.wall.set_policy(of_forms(number), tenant=f"tenant-{number}", member=True)
    assert number == MEMBERS_FORMS // MAX_FORMS_OF_ONE
    by_member = AttachRequest("own", tenant="tenant-own", policy=of_forms(number), user=1000, netns=None)
    with pytest.raises(Exhausted, match=f"{MEMBERS_FORMS}"):
        world.wall.attach_many([by_member])
    for others in range(number, MAX_FORMS // MAX_FORMS_OF_ONE - 1):
        world.wall.set_policy(of_forms(others), container=world.attach(tenant=f"rooted-{others}").name)
    assert world.wall.status().drift == ()


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
