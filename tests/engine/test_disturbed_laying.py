"""Others write to the rules while they are laid: what is on record as right is what was laid, and nothing else."""

from collections.abc import Callable, Iterator

import pytest

from cellwall.api import Wall
from cellwall.engine.iptables.host import Host
from cellwall.model.settings import Settings
from cellwall.names import TABLE
from world import World, Wrapped, open_world, rewired

pytestmark = pytest.mark.root

Change = tuple[str, ...]
MECHANISMS = {
    "nftables": (Settings(backend="nftables"), ("nft", "flush", "chain", "inet", TABLE, "B9-FORWARD")),
    "iptables-nft": (Settings(backend="iptables", iptables="nft"), ("iptables-nft", "-F", "B9-FORWARD")),
    "iptables-legacy": (Settings(backend="iptables", iptables="legacy"), ("iptables-legacy", "-F", "B9-FORWARD")),
}


@pytest.fixture(scope="module", params=list(MECHANISMS))
def node(request: pytest.FixtureRequest) -> Iterator[tuple[World, Change]]:
    settings, change = MECHANISMS[request.param]
    with open_world(settings=settings) as world:
        world.attach("web", expose=["8080:80"])
        yield world, change


def disturbed(world: World, change: Change, times: int) -> Wall:
    """The node where somebody changes the rules between their laying and the look at them, the first `times`."""
    site = world.wall._site
    laid: list[object] = []
    changes = iter(range(times))

    def noted(lay: Callable[..., object]) -> Callable[..., object]:
        return lambda *args: laid.append(lay(*args))

    def late(look: Callable[..., object]) -> Callable[..., object]:
        def looked(*args: object) -> object:
            if laid and next(changes, None) is not None:
                world.lab.node.run(list(change))
            return look(*args)

        return looked

    rules = Wrapped(site.rules, lay=noted(site.rules.lay), shape=late(site.rules.shape))
    host = site.iptables()
    tables = Wrapped(host.tables, restore=noted(host.tables.restore))
    sets = Wrapped(host.sets, definitions=late(host.sets.definitions))
    tampered = Host(tables, sets, host.glance)
    return rewired(world.wall, rules=rules, iptables=lambda: tampered)


def test_what_others_changed_while_it_was_laid_is_laid_again(node: tuple[World, Change]) -> None:
    world, change = node
    whole = world.wall._site.backend.shape()
    world.lab.node.run(list(change))
    disturbed(world, change, 1).up()
    assert world.wall.status().drift == ()
    assert world.wall._site.backend.shape() == whole


def test_what_others_change_whenever_it_is_laid_is_not_on_record_as_right(node: tuple[World, Change]) -> None:
    world, change = node
    whole = world.wall._site.backend.shape()
    world.lab.node.run(list(change))
    disturbed(world, change, 100).up()
    assert world.wall.status().drift
    assert world.wall.reconcile().repaired
    assert world.wall.status().drift == ()
    assert world.wall._site.backend.shape() == whole


def test_tables_that_others_take_away_before_they_are_filled_are_laid_again() -> None:
    flush = ["nft", "flush", "ruleset"]
    with open_world(settings=Settings(backend="nftables")) as world:
        world.attach("web", expose=["8080:80"])
        rules, filled = world.wall._site.rules, list[object]()
        world.lab.node.run(flush)

        def apply(changes: object, *rest: object) -> None:
            if not filled:
                world.lab.node.run(flush)
            filled.append(changes)
            rules.apply(changes, *rest)  # type: ignore[arg-type]

        rewired(world.wall, rules=Wrapped(rules, apply=apply)).up()
        assert len(filled) > 1
        assert world.wall.status().drift == ()
