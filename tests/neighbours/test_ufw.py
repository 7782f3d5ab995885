"""ufw on the node, as the distribution configures it: it denies what comes in and what is routed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cellwall.lab import connect
from cellwall.lab.addresses import NODE4, NODE6
from neighbours.annex import Annex, need
from neighbours.beside import (
    BACKENDS,
    FAMILIES,
    assert_holds,
    assert_nothing_to_do,
    filter_rules,
    held_by,
    marks,
    tenants,
)
from world import World, assert_connection, assert_no_connection, open_world, public

pytestmark = marks


class Ufw:
    """ufw in a lab's node."""

    def __init__(self, world: World, base: Path) -> None:
        need("ufw", "iptables")
        self.annex = Annex(world.lab, base)
        self.ask("allow", "22/tcp")
        self.ask("--force", "enable")

    def ask(self, *arguments: str) -> str:
        return self.annex.run("ufw", *arguments).text


@pytest.fixture(scope="module", params=BACKENDS)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Ufw]]:
    """ufw was there first."""
    with held_by(request.param) as world:
        ufw = Ufw(world, tmp_path_factory.mktemp("ufw"))
        world.wall.up()
        yield world, ufw
        ufw.annex.close()


def test_both_work_and_the_wall_holds(shared: tuple[World, Ufw]) -> None:
    world, _ = shared
    with tenants(world) as ours, world.lab.node.serve(tcp=[22, 23]):
        ours.assert_work()
        for address in (NODE4, NODE6):
            assert connect(world.lab.lan, address, 22)
            assert not connect(world.lab.lan, address, 23, timeout=0.3)
        assert_holds(world)
        assert_nothing_to_do(world)


@pytest.mark.parametrize("steps", [[["reload"]], [["disable"], ["--force", "enable"]]], ids=["reload", "restart"])
def test_its_reload_and_restart_open_nothing_and_break_nothing(
    shared: tuple[World, Ufw], steps: list[list[str]]
) -> None:
    world, ufw = shared
    with tenants(world) as ours:
        with ours.besieged():
            for step in steps:
                ufw.ask(*step)
        ours.assert_work()
        assert_nothing_to_do(world)


def test_what_an_operator_denies_to_be_routed_stays_denied(shared: tuple[World, Ufw]) -> None:
    """Where the wall is in a table of its own; in iptables it comes first, and what it accepts is accepted."""
    world, ufw = shared
    if world.wall.settings.backend == "iptables":
        pytest.skip("B9-FORWARD comes before ufw's chains")
    with tenants(world) as ours:
        ufw.ask("route", "deny", "in", "on", "b9_br0", "to", "8.8.8.8")
        try:
            assert_no_connection(ours.rogue.host, "8.8.8.8", 80)
            ours.assert_work()
        finally:
            ufw.ask("route", "delete", "deny", "in", "on", "b9_br0", "to", "8.8.8.8")
        assert_connection(ours.rogue.host, "8.8.8.8", 80)


def test_our_coming_and_going_leaves_its_rules_as_they_were(tmp_path: Path) -> None:
    with open_world(up=False) as world:
        ufw = Ufw(world, tmp_path)
        before = filter_rules(world)
        world.attach("web", expose=["8080:80"])
        assert filter_rules(world) != before
        world.wall.down(force=True)
        assert filter_rules(world) == before
        ufw.annex.close()


def test_ufw_that_comes_later_is_drift_and_reconcile_lets_sandboxes_work_again(tmp_path: Path) -> None:
    with open_world() as world, tenants(world) as ours:
        ours.assert_work()
        ufw = Ufw(world, tmp_path)
        try:
            for family in FAMILIES:
                assert_no_connection(ours.rogue.host, public(family), 80)
            assert len(world.wall.status().drift) == 2
            world.wall.reconcile()
            ours.assert_work()
        finally:
            ufw.annex.close()
