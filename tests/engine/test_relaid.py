"""What a laying has just put into the wall is not read back before sandboxes are let through again."""

import errno
from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from cellwall.api import Wall
from cellwall.engine.nftables.contracts import Rules
from cellwall.errors import KernelError
from cellwall.model.policy import Policy, Rule
from world import PUBLIC4, PUBLIC6, Stream, World, Wrapped, open_world, rewired

pytestmark = pytest.mark.root
LISTED = Policy("allow", tuple(Rule("allow", ip_network(one)) for one in (f"{PUBLIC4}/32", f"{PUBLIC6}/128")))


@pytest.fixture
def world() -> Iterator[World]:
    with open_world() as world:
        world.lab.internet.serve(tcp=[80])
        yield world


def reading(world: World, *, refused: int = 0) -> tuple[Wall, list[str]]:
    """The node, and which sets are read in whole. The first `refused` changes of elements under way find none of what
    they are to take out, as where somebody was there before."""
    rules: Rules = world.wall._site.rules
    read: list[str] = []
    refusals = iter(range(refused))

    def difference(where: tuple[str, str, str], *args: object, **options: object) -> object:
        read.append(where[2])
        return rules.difference(where, *args, **options)  # type: ignore[arg-type]

    def apply(changes: tuple[object, ...], *args: object) -> None:
        deletes = any(getattr(change, "op", "") == "delete" for change in changes)
        if deletes and next(refusals, None) is not None:
            raise KernelError(errno.ENOENT, "change set elements", "was taken out")
        rules.apply(changes, *args)  # type: ignore[arg-type]

    return rewired(world.wall, rules=Wrapped(rules, difference=difference, apply=apply)), read


@pytest.mark.parametrize("refused", [0, 1], ids=["alone", "somebody took elements out"])
def test_a_flushed_wall_is_read_once_and_judges_open_flows_anew(world: World, refused: int) -> None:
    tenant = world.attach("tenant", tenant="acme")
    world.wall.set_policy(LISTED, tenant="acme")
    with Stream(tenant.host, PUBLIC4, 80) as four, Stream(tenant.host, PUBLIC6, 80) as six:
        assert four.ask(world.token()) and six.ask(world.token())
        before = world.wall.endpoint(tenant.name).generation
        wall, read = reading(world, refused=refused)
        world.lab.node.run(["nft", "flush", "ruleset"])
        wall.repair(unseen=True)
        assert max(map(read.count, read)) == 1 + refused
        assert world.wall.endpoint(tenant.name).generation != before
        assert four.ask(world.token()) and six.ask(world.token())
        world.wall.set_policy(Policy("block"), tenant="acme")
        assert not four.ask(world.token(), 0.3) and not six.ask(world.token(), 0.3)
    assert world.wall.status().drift == ()
