"""How long policies last, and what happens where they cannot be read or kept."""

import sqlite3
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import msgspec
import pytest

from cellwall.api import Wall
from cellwall.engine.requests import AttachRequest
from cellwall.errors import AlreadyExists, Conflict, InvalidSpec, KernelError, Unsupported
from cellwall.lab.addresses import PUBLIC4
from cellwall.model.policy import NO_TIERS, OPEN, Policy, PolicyRecord, Rule
from cellwall.model.settings import Settings
from world import (
    World,
    Wrapped,
    about_nftables,
    assert_connection,
    assert_no_connection,
    in_iptables,
    open_world,
    rewired,
)

pytestmark = pytest.mark.root
BLOCK = Policy("block")
MAIL = Policy("open", (Rule("deny", ip_network("9.9.9.9"), "tcp", (465, 465)),))


@pytest.fixture
def bare() -> Iterator[World]:
    """A node that is not up."""
    with open_world(up=False) as world:
        world.lab.internet.serve(tcp=[80], udp=[80])
        yield world


def kept_file(world: World) -> Path:
    return Path(world.wall.paths.in_state("policies.db"))


def after_a_boot(world: World) -> Wall:
    """The node as the first process of another boot finds it."""
    world.wall.down(force=True)
    world.wall.close()
    with sqlite3.connect(world.wall.paths.in_run("state.db")) as journal:
        journal.execute("UPDATE meta SET value = CAST('another' AS BLOB) WHERE key = 'boot_id'")
    journal.close()
    return Wall.open(root=world.lab.root, settings=world.wall.settings)


def test_a_policy_of_a_tenant_outlives_a_boot_and_an_endpoints_does_not(bare: World) -> None:
    known = bare.wall.set_policy(BLOCK, tenant="acme")
    bare.attach("one", tenant="else", policy=BLOCK)
    with after_a_boot(bare) as wall:
        assert wall.policies() == {"acme": known}
        host = bare.host("two")
        wall.attach("one", netns=host.netns, tenant="acme")
        assert_no_connection(host, PUBLIC4[0], 80)
        other = bare.host("three")
        wall.attach("other", netns=other.netns, tenant="else")
        assert_connection(other, PUBLIC4[0], 80)
        wall.remove_policy(tenant="acme")
        assert wall.set_policy(BLOCK, tenant="acme").generation > known.generation
        assert wall.status().drift == ()
        wall.down(force=True)


def test_a_node_that_is_not_up_takes_policies_and_stays_down(bare: World) -> None:
    bare.wall.set_policy(BLOCK, tenant="acme")
    bare.wall.patch_policy({"mode": None, "monitor": True}, tenant="acme")
    assert not bare.wall.status().up
    assert bare.wall.policy(tenant="acme").policy == Policy(monitor=True)  # type: ignore[union-attr]
    assert bare.wall.remove_policy(tenant="acme")
    assert bare.wall.policies() == {}
    assert not bare.wall.status().up


def test_a_node_whose_policies_cannot_be_read_comes_not_up(bare: World) -> None:
    bare.wall.set_policy(BLOCK, tenant="acme")
    with after_a_boot(bare) as wall:
        kept_file(bare).write_bytes(b"damaged" * 1000)
        for opens in (wall.up, lambda: wall.attach("one", netns=bare.host("one").netns)):
            with pytest.raises(Conflict, match=r"policies\.db"):
                opens()
        assert not wall.status().up
        kept_file(bare).unlink()
        wall.up()
        wall.down()


def test_a_policy_that_cannot_be_kept_is_refused_and_the_one_before_stays(bare: World) -> None:
    tenant = bare.attach("one", tenant="acme")
    known = bare.wall.set_policy(MAIL, tenant="acme")
    kept = bare.wall._site.kept()
    full = True

    def write(policies: object, latest: int) -> None:
        if full:
            raise KernelError(28, "policies.db")
        kept.write(policies, latest)  # type: ignore[arg-type]

    wall = rewired(bare.wall, kept=lambda: Wrapped(kept, write=write))
    with pytest.raises(KernelError, match="No space left"):
        wall.set_policy(BLOCK, tenant="acme")
    assert wall.policies() == {"acme": known}
    assert_connection(tenant.host, PUBLIC4[0], 80)
    assert wall.detach(tenant.name)  # which only closes
    full = False
    assert wall.set_policy(BLOCK, tenant="acme").policy == BLOCK
    assert kept.read()[0]["acme"].policy == BLOCK


def test_what_a_failed_change_left_otherwise_on_the_disk_is_made_good(bare: World) -> None:
    about_nftables("a transaction that is refused")
    bare.attach("one", tenant="acme")
    known = bare.wall.set_policy(MAIL, tenant="acme")
    kept = bare.wall._site.kept()
    times = iter([True, False])

    def write(policies: object, latest: int) -> None:
        if not next(times):
            raise KernelError(28, "policies.db")
        kept.write(policies, latest)  # type: ignore[arg-type]

    def refuse(*_: object) -> None:
        raise KernelError(12, "transaction")

    site = bare.wall._site
    failing = rewired(bare.wall, kept=lambda: Wrapped(kept, write=write), rules=Wrapped(site.rules, apply=refuse))
    with pytest.raises(KernelError, match="transaction"):
        failing.set_policy(BLOCK, tenant="acme")
    assert kept.read()[0]["acme"].policy == BLOCK
    assert "acme" in " ".join(bare.wall.status().drift)
    bare.wall.reconcile()
    assert bare.wall.status().drift == ()
    assert kept.read()[0] == bare.wall.policies() == {"acme": known}


def test_an_uninstall_leaves_policies_as_it_leaves_the_configuration(bare: World) -> None:
    bare.wall.set_policy(BLOCK, tenant="acme")
    bare.wall.up()
    bare.wall.uninstall()
    with Wall.open(root=bare.lab.root, settings=bare.wall.settings) as wall:
        assert {name: known.policy for name, known in wall.policies().items()} == {"acme": BLOCK}


def test_a_default_value_is_a_policy_like_any_other(bare: World) -> None:
    tenant = bare.attach("one", tenant="acme")
    before = bare.wall.endpoint(tenant.name)
    known = bare.wall.set_policy({}, tenant="acme")
    assert known == PolicyRecord(OPEN, known.generation)
    assert bare.wall.endpoint(tenant.name) == before
    assert bare.wall.remove_policy(tenant="acme")


def test_a_container_without_a_tenant_is_not_of_the_tenant_that_its_id_names(bare: World) -> None:
    wall = bare.wall
    given = MAIL if in_iptables() else Policy(links=True)
    wall.set_policy(given, tenant="acme")
    assert bare.attach(tenant="acme").endpoint.tiers.tenant == given
    namesake = wall.attach("acme")
    assert namesake.tiers == NO_TIERS
    wall.set_policy(BLOCK, tenant="acme")
    assert wall.endpoint("acme") == namesake
    assert wall.attach("acme") == namesake
    with pytest.raises(AlreadyExists):
        wall.attach("acme", tenant="acme")
    assert wall.detach("acme")
    assert wall.attach("acme", tenant="acme").tiers.tenant == BLOCK
    wall.detach("acme")


@pytest.mark.parametrize("written", ["Block", "deny"])
def test_a_value_of_no_meaning_is_taken_nowhere(bare: World, written: str) -> None:
    wall = bare.wall
    tenant = bare.attach("one", tenant="acme")
    value = msgspec.structs.replace(BLOCK, mode=written)
    for act in (
        lambda: wall.set_policy(value, tenant="acme"),
        lambda: wall.set_policy(value, container=tenant.name),
        lambda: wall.attach("other", policy=value),
        lambda: wall.attach_many([AttachRequest("first"), AttachRequest("other", policy=value)]),
    ):
        with pytest.raises(InvalidSpec, match="mode"):
            act()
    assert [endpoint.key.container_id for endpoint in wall.endpoints()] == [tenant.name]
    assert wall.policies() == {}


def test_a_policy_that_iptables_has_no_words_for_is_refused_before_the_node_is_up() -> None:
    with open_world(settings=Settings(backend="iptables"), up=False) as world:
        with pytest.raises(Unsupported) as refused:
            world.wall.set_policy({"allow_list": ["9.9.9.0/24"]}, tenant="evil")
        assert refused.value.predicate == "Listed"
        assert world.wall.policies() == {}
        assert not world.wall.status().up
        known = world.wall.set_policy(MAIL, tenant="good")
        world.wall.up()
        assert world.wall.policies() == {"good": known}


@pytest.mark.parametrize("of", ["tenant", "container"])
def test_the_first_policy_of_a_form_is_in_force_also_where_somebody_changed_the_rules(
    fresh_node: World, of: str
) -> None:
    """Rules that were changed are laid anew, and what they let pass meanwhile is judged again: versions change."""
    about_nftables("another's rule in our table")
    fresh_node.wall.up()
    fresh_node.lab.internet.serve(tcp=[80])
    sandbox = fresh_node.attach("one", tenant="acme")
    assert_connection(sandbox.host, PUBLIC4[0], 80)
    fresh_node.lab.node.run(["nft", "insert", "rule", "inet", "cellwall", "forward", "counter"])
    fresh_node.wall.set_policy(BLOCK, **{of: "acme" if of == "tenant" else sandbox.name})
    assert_no_connection(sandbox.host, PUBLIC4[0], 80)
    assert fresh_node.wall.status().drift == ()
