"""Policy versions over a long life: blocks that come round again, and flows that were idle through many changes."""

import errno
from collections.abc import Iterator
from ipaddress import ip_network

import msgspec
import pytest

from cellwall.engine.attachments.drain import collect_drained
from cellwall.errors import KernelError
from cellwall.lab.addresses import PUBLIC4, PUBLIC6
from cellwall.model.endpoint import Endpoint
from cellwall.model.policy import Policy, Rule
from cellwall.model.settings import Settings
from cellwall.model.versions import BLOCK, END_BLOCK, FIRST_BLOCK, STEM, Blocks, block_of, first_version
from world import Sandbox, Stream, World, Wrapped, about_nftables, open_world, rewired

pytestmark = pytest.mark.root
MARK = Settings().mark
POLICIES = tuple(Policy("open", (Rule("deny", ip_network(f"9.9.9.{number}"), "tcp", (25, 25)),)) for number in (1, 2))


@pytest.fixture
def world() -> Iterator[World]:
    with open_world() as world:
        world.lab.internet.serve(tcp=[80], udp=[80])
        yield world


def leave(world: World, first: int, end: int = END_BLOCK) -> None:
    """Have these blocks given out next."""
    journal = world.wall._site.journal
    with journal.transaction():
        journal.put("versions", msgspec.json.encode(Blocks(first, end, MARK)))


def attached(world: World, count: int) -> list[int]:
    """The blocks of so many new endpoints."""
    return [block_of(world.attach().endpoint.generation, MARK) - FIRST_BLOCK for _ in range(count)]


def test_blocks_come_round_again_and_none_has_two_holders(world: World) -> None:
    leave(world, FIRST_BLOCK)
    first = world.attach()
    assert attached(world, 2) == [1, 2]
    leave(world, END_BLOCK - 1)
    assert attached(world, 3) == [END_BLOCK - 1 - FIRST_BLOCK, 3, 4]
    world.detach(first)
    leave(world, END_BLOCK)
    assert attached(world, 1) == [5]  # flows of who had the lowest may be there still
    assert collect_drained(world.wall._site) == 1
    leave(world, END_BLOCK)
    assert attached(world, 2) == [0, 6]
    assert world.wall.status().drift == ()


def test_a_tenants_endpoints_have_one_number_which_nobody_gets_while_any_of_them_has_it(world: World) -> None:
    leave(world, FIRST_BLOCK)
    first, second = (world.attach(tenant="acme") for _ in range(2))
    number = first.endpoint.tenant_number
    assert number == first.endpoint.generation == second.endpoint.tenant_number != second.endpoint.generation
    others = [world.attach(tenant="other").endpoint, *(world.attach().endpoint for _ in range(2))]
    assert len({number, *(one.tenant_number for one in others)}) == 4
    world.detach(first)
    assert collect_drained(world.wall._site) == 1
    leave(world, END_BLOCK)
    assert attached(world, 2) == [5, 6]  # the first block is nobody's, and its number the tenant's still
    assert world.attach(tenant="acme").endpoint.tenant_number == number
    for one in [one for one in world.wall.endpoints() if one.tenant == "acme"]:
        world.wall.detach(one.key.container_id)
    collect_drained(world.wall._site)
    leave(world, END_BLOCK)
    later = world.attach(tenant="later").endpoint
    assert later.tenant_number == later.generation == number
    assert world.wall.status().drift == ()


def at_the_end_of_its_block(world: World, endpoint: Endpoint) -> None:
    """The endpoint as it is when it has counted through its block."""
    site = world.wall._site
    last = (endpoint.generation & STEM) + BLOCK - 1
    after = msgspec.structs.replace(endpoint, generation=last)
    with site.journal.transaction():
        site.journal.write_endpoints([after], "attached")
    site.backend.repair(site.journal.endpoints("attached"))


def test_flows_go_on_that_were_idle_while_their_endpoint_had_many_blocks(world: World) -> None:
    tenant = world.attach("tenant")
    streams = [Stream(tenant.host, to, 80, udp=udp) for to in (PUBLIC4[0], PUBLIC6[0]) for udp in (False, True)]
    assert all(stream.ask(world.token()) for stream in streams)
    seen = {tenant.endpoint.generation & STEM}
    for number in range(12):
        at_the_end_of_its_block(world, world.wall.endpoint(tenant.name))
        world.wall.set_policy(POLICIES[number % 2], container=tenant.name)
        seen.add(world.wall.endpoint(tenant.name).generation & STEM)
    assert len(seen) == 13
    assert all(stream.ask(world.token()) for stream in streams)
    world.wall.set_policy(Policy("block"), container=tenant.name)
    assert not any(stream.ask(world.token(), 0.2) for stream in streams)
    assert world.wall.status().drift == ()
    for stream in streams:
        stream.close()


def test_what_an_endpoint_had_too_long_ago_is_forgotten_with_its_flows(world: World) -> None:
    """Somebody else may be given it."""
    tenant = world.attach("tenant")
    mark = f"{tenant.endpoint.generation}"
    with Stream(tenant.host, PUBLIC4[0], 80, udp=True) as stream:
        assert stream.ask(world.token())
        for number in range(40):
            assert f"mark={mark} " in world.lab.node.run(["conntrack", "-L"]).text
            at_the_end_of_its_block(world, world.wall.endpoint(tenant.name))
            world.wall.set_policy(POLICIES[number % 2], container=tenant.name)
            stems = {version & STEM for version in world.wall.endpoint(tenant.name).past_generations}
            if tenant.endpoint.generation & STEM not in stems:
                break
        assert f"mark={mark} " not in world.lab.node.run(["conntrack", "-L"]).text
        assert stream.ask(world.token())  # as a flow that begins


def test_another_bit_of_the_node_gives_no_version_that_has_it(world: World) -> None:
    tenants = [world.attach("tenant") for _ in range(3)]
    for bit in (1 << 20, 1 << 3, 1 << 29):
        wall = rewired(world.wall, settings=Settings(mark=bit))
        wall.up()
        tenants.append(Sandbox(tenants[0].host, wall.attach(f"new-{bit}")))
        wall.set_policy(POLICIES[0], container=tenants[0].name)
        wall.remove_policy(container=tenants[0].name)
        generations = [one.generation for one in wall.endpoints()]
        assert not any(version & bit for version in generations)
        assert len({version & STEM for version in generations}) == len(generations)
        assert wall.status().drift == ()
    world.wall.up()


def test_endpoints_of_a_program_that_knew_no_blocks_get_each_one_of_its_own(world: World) -> None:
    tenants = [world.attach(), world.attach()]
    site = world.wall._site
    shared = [first_version(FIRST_BLOCK + 7, MARK) + number for number in range(2)]
    former = [
        msgspec.structs.replace(one.endpoint, generation=version) for one, version in zip(tenants, shared, strict=True)
    ]
    with site.journal.transaction():
        site.journal.write_endpoints(former, "attached")
        site.journal.put("versions", msgspec.json.encode(Blocks(FIRST_BLOCK + 8, END_BLOCK, 0, tuple(shared))))
    site.backend.repair(site.journal.endpoints("attached"))
    with Stream(tenants[0].host, PUBLIC4[0], 80, udp=True) as stream:
        assert stream.ask(world.token())
        world.wall.set_policy(POLICIES[0], container=tenants[0].name)
        world.wall.set_policy(POLICIES[1], container=tenants[0].name)
        assert stream.ask(world.token())
    now = [one.generation for one in world.wall.endpoints()]
    assert len({version & STEM for version in now}) == 2
    assert world.wall.status().drift == ()


def test_no_version_is_given_out_again_after_a_change_that_failed_late(world: World) -> None:
    """The kernel took a loosening, and what it answered was lost: a flow that began meanwhile carries its version."""
    about_nftables("a transaction whose answer is lost")
    one = world.attach("one", tenant="acme")

    def closed(last: int) -> Policy:
        return Policy("open", (Rule("deny", ip_network(PUBLIC4[0]), "udp", (80, last)),))

    world.wall.set_policy(closed(80), tenant="acme")
    rules, passed = world.wall._site.rules, list[bool]()
    with Stream(one.host, PUBLIC4[0], 80, udp=True) as stream:
        assert not stream.ask(world.token(), 0.2)

        def apply(*given: object) -> None:
            rules.apply(*given)  # type: ignore[arg-type]
            if not passed:
                passed.append(stream.ask(world.token(), 2.0))
                raise KernelError(errno.ENOBUFS, "change endpoints")

        with pytest.raises(KernelError):
            rewired(world.wall, rules=Wrapped(rules, apply=apply)).set_policy(Policy(), tenant="acme")
        assert passed == [True]
        assert not stream.ask(world.token(), 0.3)  # by what was taken back: nothing has the version of that moment
        world.wall.set_policy(closed(81), tenant="acme")
        assert not stream.ask(world.token(), 0.3)
    assert world.wall.status().drift == ()
