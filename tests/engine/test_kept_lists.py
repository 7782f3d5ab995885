"""What a change of a policy leaves alone in the sets is looked for, as others may have taken it out: where they can,
and no more than that."""

from collections.abc import Iterator
from ipaddress import IPv4Address, ip_network
from typing import Any

import pytest

from cellwall.api import Wall
from cellwall.model.policy import Policy, Rule
from cellwall.model.settings import Settings
from world import World, Wrapped, open_world, rewired

pytestmark = pytest.mark.root
NFTABLES = Settings(backend="nftables")
LISTS = "tenantallow4p32"
MANY = 200
"""More than are asked for one by one."""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with open_world(settings=NFTABLES) as world:
        world.attach("one", tenant="acme")
        yield world


def addresses(count: int, last: int = 0, first: str = "151.0.0.0") -> Policy:
    """So many; with another `last` the last one is another."""
    numbers = [*range(count - 1), count - 1 + last]
    return Policy("allow", tuple(Rule("allow", ip_network(IPv4Address(first) + number)) for number in numbers))


def noting(wall: Wall) -> tuple[Wall, list[str]]:
    """The wall, and the sets that are read or asked by its changes."""
    rules, places = wall._site.rules, list[str]()

    def difference(where: tuple[str, str, str], *given: Any, **named: Any) -> object:
        places.append(where[2])
        return rules.difference(where, *given, **named)  # type: ignore[arg-type]

    def holds(elements: Any) -> bool:
        places.extend(change.set for change in elements)
        return rules.holds(elements)

    return rewired(wall, rules=Wrapped(rules, difference=difference, holds=holds)), places


@pytest.mark.parametrize("count", [2, MANY])
def test_what_a_policy_kept_and_others_took_out_is_in_force_with_the_next_change(world: World, count: int) -> None:
    own = world.wall.endpoints()[0].address4
    world.wall.set_policy(addresses(count), tenant="acme")
    world.lab.node.run(["nft", "delete", "element", "inet", "cellwall", LISTS, f"{{ {own} . 151.0.0.0 }}"])
    assert world.wall.status().drift != ()
    world.wall.set_policy(addresses(count, last=1), tenant="acme")
    assert world.wall.status().drift == ()


def test_what_a_change_laid_itself_is_not_looked_for(world: World) -> None:
    wall, places = noting(world.wall)
    wall.set_policy(addresses(MANY), tenant="acme")
    places.clear()
    wall.set_policy(addresses(MANY, last=1), tenant="acme")
    assert LISTS in places
    places.clear()
    wall.set_policy(addresses(MANY, first="152.0.0.0"), tenant="acme")
    assert places
    assert LISTS not in places


def test_what_was_taken_out_before_somebody_owned_the_wall_is_in_force_with_the_next_change(world: World) -> None:
    """Whoever owns it needs not have repaired it before: of what an owner left anybody took something out."""
    own = world.wall.endpoints()[0].address4
    world.wall.set_policy(addresses(MANY), tenant="acme")
    with Wall.open(root=world.lab.root, settings=world.wall.settings) as before:
        if refused := before.own():
            pytest.skip(refused)
        before.repair()
    world.lab.node.run(["nft", "delete", "element", "inet", "cellwall", LISTS, f"{{ {own} . 151.0.0.0 }}"])
    with Wall.open(root=world.lab.root, settings=world.wall.settings) as owner:
        assert owner.own() == ""
        owner.set_policy(addresses(MANY, last=1), tenant="acme")
        assert owner.status().drift == ()
        noted, places = noting(owner)
        noted.set_policy(addresses(MANY), tenant="acme")
        assert places == [], "from then on nobody took anything out"


def test_of_a_wall_that_nobody_else_can_write_nothing_is_looked_for(world: World) -> None:
    if refused := world.wall.own():
        pytest.skip(refused)
    world.wall.repair()
    wall, places = noting(world.wall)
    for policy in (addresses(MANY), addresses(MANY, last=1), addresses(2)):
        wall.set_policy(policy, tenant="acme")
        assert places == []
        assert world.wall.status().drift == ()


def test_a_wall_that_was_owned_from_its_first_rule_on_has_nothing_to_look_for() -> None:
    with open_world(settings=NFTABLES, up=False) as world:
        if refused := world.wall.own():
            pytest.skip(refused)
        world.attach(tenant="acme")
        wall, places = noting(world.wall)
        for policy in (addresses(MANY), addresses(MANY, last=1)):
            wall.set_policy(policy, tenant="acme")
            assert places == []
