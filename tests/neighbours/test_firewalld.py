"""firewalld with its own message bus on the node. Its table belongs to it: nobody else may write there."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cellwall.lab import Lab, connect
from cellwall.lab.addresses import NODE4, NODE6
from neighbours.annex import Annex, need
from neighbours.beside import BACKENDS, FAMILIES, assert_holds, assert_nothing_to_do, held_by, marks, tenants
from neighbours.dockerd import Docker
from world import World, assert_connection, open_world, public

pytestmark = marks


class Firewalld:
    """The daemon, its bus and its client in a lab's node."""

    def __init__(self, lab: Lab, base: Path) -> None:
        need("firewalld", "firewall-cmd", "dbus-daemon")
        self.annex = Annex(lab, base)
        self._bus = self.annex.start("dbus-daemon", "--system", "--nofork", "--nopidfile")
        self.annex.come_up(
            self._bus, lambda: self.annex.run("test", "-S", "/run/dbus/system_bus_socket", check=False).returncode == 0
        )
        self.daemon = self.start()

    def start(self) -> "subprocess.Popen[bytes]":
        daemon = self.annex.start("firewalld", "--nofork", "--nopid")
        self.annex.come_up(daemon, lambda: self.annex.run("firewall-cmd", "--state", check=False).returncode == 0)
        return daemon

    def restart(self) -> None:
        self.annex.end(self.daemon)
        self.daemon = self.start()

    def ask(self, *arguments: str) -> str:
        return self.annex.run("firewall-cmd", *arguments).text.strip()

    def carry_out(self, told: str) -> None:
        """The commands in a sentence."""
        commands = [command.split()[1:] for command in re.findall(r"firewall-cmd [^;]*", told)]
        assert commands
        for command in commands:
            assert self.ask(*command) == "success"


@pytest.fixture(scope="module", params=BACKENDS)
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[World, Firewalld]]:
    """firewalld was there first, as the distribution configures it, and the operator did what `up` says."""
    with held_by(request.param) as world:
        firewalld = Firewalld(world.lab, tmp_path_factory.mktemp("firewalld"))
        told = [line for line in world.wall.up().warnings if "firewalld" in line]
        assert len(told) == 1
        firewalld.carry_out(told[0])
        yield world, firewalld
        firewalld.annex.close()


def table(world: World) -> str:
    return world.lab.node.run(["nft", "--stateless", "list", "table", "inet", "firewalld"]).text


def test_both_work_and_the_wall_holds(shared: tuple[World, Firewalld]) -> None:
    world, firewalld = shared
    assert world.wall.up().warnings == (
        "sandboxes are told public resolvers, as the floor allows none of the node's own",
    )
    with tenants(world) as ours, world.lab.node.serve(tcp=[22, 23]):
        ours.assert_work()
        # theirs: the distribution's zone lets the world in by ssh and by nothing else
        for address in (NODE4, NODE6):
            assert connect(world.lab.lan, address, 22)
            assert not connect(world.lab.lan, address, 23, timeout=1.0)
        assert_holds(world)
        assert_nothing_to_do(world)
    assert firewalld.ask("--state") == "running"


def test_a_reload_opens_nothing_and_breaks_nothing(shared: tuple[World, Firewalld]) -> None:
    world, firewalld = shared
    with tenants(world) as ours:
        for way in ("--reload", "--complete-reload"):
            with ours.besieged():
                firewalld.ask(way)
            ours.assert_work()
        assert_nothing_to_do(world)


def test_a_restart_opens_nothing_and_breaks_nothing(shared: tuple[World, Firewalld]) -> None:
    world, firewalld = shared
    with tenants(world) as ours:
        with ours.besieged():
            firewalld.restart()
        ours.assert_work()
        assert_nothing_to_do(world)


def test_a_wall_with_an_owner_is_as_it_was_after_reloads_restarts_and_a_flush(tmp_path: Path) -> None:
    """firewalld's own table may have an owner as well: a flush takes neither, or theirs alone."""
    with held_by("nftables") as world:
        assert world.wall.own() == ""
        firewalld = Firewalld(world.lab, tmp_path)
        firewalld.carry_out(next(line for line in world.wall.up().warnings if "firewalld" in line))
        before = world.wall._site.rules.shape()
        with tenants(world) as ours:
            with ours.besieged():
                firewalld.ask("--complete-reload")
                world.lab.node.run(["nft", "flush", "ruleset"])
                firewalld.restart()
            ours.assert_work()
            assert world.wall._site.rules.shape() == before
            assert_nothing_to_do(world)
        firewalld.annex.close()


def test_its_panic_is_everybodys_and_ends(shared: tuple[World, Firewalld]) -> None:
    """An operator that stops all traffic stops sandboxes too."""
    world, firewalld = shared
    with tenants(world) as ours:
        with ours.besieged():
            firewalld.ask("--panic-on")
            for family in FAMILIES:
                assert connect(ours.rogue.host, public(family), 80, timeout=0.3).kind != "answer"
            firewalld.ask("--panic-off")
        ours.assert_work()


def test_our_coming_and_going_leaves_its_table_as_it_was(tmp_path: Path) -> None:
    with open_world(up=False) as world:
        firewalld = Firewalld(world.lab, tmp_path)
        before = table(world)
        world.attach("web", expose=["8080:80"])
        world.wall.down(force=True)
        assert table(world) == before
        firewalld.annex.close()


def test_docker_beside_firewalld_is_a_neighbour_of_both(tmp_path: Path) -> None:
    with open_world(up=False) as world:
        firewalld = Firewalld(world.lab, tmp_path)
        docker = Docker(world.lab, tmp_path, annex=firewalld.annex)
        docker.run("web", "--publish", "8081:80")
        firewalld.carry_out(next(line for line in world.wall.up().warnings if "firewalld" in line))
        with tenants(world) as ours:
            with ours.besieged():
                firewalld.ask("--reload")
                docker.restart()
            ours.assert_work()
            docker.assert_works()
            assert_holds(world)
            assert_nothing_to_do(world)
        docker.ask("rm", "--force", "web")
        firewalld.annex.close()


def test_firewalld_that_comes_later_is_told_of_by_the_next_up(tmp_path: Path) -> None:
    with open_world() as world, tenants(world) as ours:
        ours.assert_work()
        firewalld = Firewalld(world.lab, tmp_path)
        try:
            assert not connect(ours.rogue.host, public(4), 80, timeout=1.0)
            told = [line for line in world.wall.up().warnings if "firewalld" in line]
            firewalld.carry_out(told[0])
            ours.assert_work()
            for family in FAMILIES:
                assert_connection(ours.web.host, public(family), 80)
        finally:
            firewalld.annex.close()
