"""The daemon owns our tables, and so does whoever keeps its socket: a flush of all rules by others takes nothing, also
while nobody is there."""

import os
import shutil
from collections.abc import Iterator

import pytest

from daemon.served import Daemon, served_node
from world import World

pytestmark = pytest.mark.root
OURS = ("inet cellwall", "bridge cellwall", "arp cellwall")


@pytest.fixture
def node() -> Iterator[tuple[Daemon, World]]:
    with served_node(keeps=True) as node:
        yield node


def stands(world: World) -> bool:
    listed = world.lab.node.run(["nft", "list", "tables"]).text
    return all(table in listed for table in OURS)


def owned(world: World) -> bool:
    refused = world.lab.node.run(["nft", "flush", "table", "inet", "cellwall"], check=False)
    return refused.returncode != 0


def test_nobody_flushes_what_a_daemon_owns(node: tuple[Daemon, World]) -> None:
    daemon, world = node
    if daemon.store == {}:
        pytest.skip("the kernel has no owners that tables outlive (Linux 6.9)")
    world.attach("web")
    world.lab.node.run(["nft", "flush", "ruleset"])
    assert stands(world)
    assert owned(world)
    assert world.wall.status().drift == ()


def test_while_its_socket_is_kept_a_dead_daemons_rules_are_nobodys_to_flush(node: tuple[Daemon, World]) -> None:
    daemon, world = node
    if daemon.store == {}:
        pytest.skip("the kernel has no owners that tables outlive (Linux 6.9)")
    web = world.attach("web")
    for _ in range(3):
        daemon.kill()
        world.lab.node.run(["nft", "flush", "ruleset"])
        assert stands(world)
        assert owned(world)
        daemon.give_back()
        daemon.start()
        assert owned(world)
        assert world.wall.status().drift == ()
        assert world.wall.verify(web.name) == ()
        world.detach(web)
        web = world.attach("web")
    assert "taken over" not in daemon.log.read_text()


def test_without_its_socket_the_rules_stay_and_the_next_daemon_owns_them(node: tuple[Daemon, World]) -> None:
    daemon, world = node
    world.attach("web")
    daemon.kill()
    daemon.lose("rules")
    assert stands(world)
    daemon.start()
    assert world.wall.status().drift == ()
    assert stands(world)


def test_a_kept_descriptor_that_is_something_else_is_let_go(node: tuple[Daemon, World]) -> None:
    daemon, world = node
    daemon.kill()
    daemon.lose("rules")
    daemon.store["rules"] = [os.open("/dev/null", os.O_RDONLY)]
    daemon.give_back()
    daemon.start()
    assert "owns nothing" in daemon.log.read_text()
    assert world.wall.status().drift == ()
    world.attach("web")


def hide_nft(daemon: Daemon) -> None:
    """The next run finds no nft, wherever it looks."""
    nft = os.path.realpath(shutil.which("nft") or "/usr/sbin/nft")
    hide = f'mount --bind /dev/null {nft} && exec "$@"'
    daemon.prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c", hide, "sh", *daemon.prefix]


def test_a_restart_that_finds_no_nft_goes_on_as_the_owner(node: tuple[Daemon, World]) -> None:
    daemon, world = node
    if daemon.store == {}:
        pytest.skip("the kernel has no owners that tables outlive (Linux 6.9)")
    world.attach("web")
    daemon.kill()
    daemon.give_back()
    hide_nft(daemon)
    daemon.start()
    daemon.attach("late")
    assert world.wall.verify("late") == ()
    assert owned(world)
    world.wall.detach("late")
    assert world.wall.status().drift == ()


def test_that_tables_have_no_owner_for_want_of_nft_is_noted(node: tuple[Daemon, World]) -> None:
    daemon, world = node
    world.attach("web")
    daemon.kill()
    daemon.lose("rules")
    hide_nft(daemon)
    daemon.start()
    assert any("no flush of rules passes our tables over" in note for note in world.wall.status().notes)
    daemon.attach("late")
