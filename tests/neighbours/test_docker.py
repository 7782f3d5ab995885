"""A Docker daemon with containers of its own on the node, by each of the two sorts of iptables."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cellwall.lab import connect
from cellwall.lab.addresses import NODE4, NODE6, PUBLIC4
from neighbours.beside import (
    Tenants,
    assert_holds,
    assert_nothing_to_do,
    comes_back,
    filter_rules,
    held_by,
    marks,
    tenants,
    watched,
)
from neighbours.dockerd import Docker
from world import World, assert_connection, assert_no_connection, open_world, public

pytestmark = marks
VARIANTS = pytest.mark.parametrize("variant", ["nft", "legacy"])


@pytest.fixture(scope="module", params=[("nft", "nftables"), ("legacy", "nftables"), ("nft", "iptables")], ids="-".join)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Docker]]:
    """Docker was there first, with a sort of iptables; the wall is held by either backend."""
    variant, backend = request.param
    with held_by(backend) as world:
        docker = Docker(world.lab, tmp_path_factory.mktemp("docker"), variant)
        docker.run("web", "--publish", "8081:80")
        world.wall.up()
        yield world, docker
        docker.ask("rm", "--force", "web")
        docker.annex.close()


def test_both_work_and_the_wall_holds(shared: tuple[World, Docker]) -> None:
    world, docker = shared
    with tenants(world) as ours:
        ours.assert_work()
        docker.assert_works()
        assert_holds(world)
        assert_nothing_to_do(world)


def assert_apart(world: World, docker: Docker, ours: Tenants) -> None:
    """No container of either side reaches one of the other's."""
    address = docker.ask("inspect", "--format", "{{.NetworkSettings.IPAddress}}", "web").strip()
    assert connect(world.lab.node, address, 80).data == b"docker\n"
    assert docker.reached(PUBLIC4[2], 80) == "internet hi\n"
    assert_no_connection(ours.rogue.host, address, 80)
    for node in (NODE4, NODE6):
        assert_no_connection(ours.rogue.host, node, 8081)
    for ours_too in (ours.web.address(4), ours.web.address(6)):
        assert docker.reached(ours_too, 80) == ""
    assert docker.reached(NODE4, 8080) == ""


def test_neither_reaches_the_others_containers(shared: tuple[World, Docker]) -> None:
    world, docker = shared
    with tenants(world) as ours:
        assert_apart(world, docker, ours)


def test_a_restart_of_docker_opens_nothing_and_breaks_nothing(shared: tuple[World, Docker]) -> None:
    world, docker = shared
    with tenants(world) as ours:
        with ours.besieged():
            docker.restart()
        ours.assert_work()
        docker.assert_works()
        assert_apart(world, docker, ours)
        if world.wall.settings.backend == "iptables":  # Docker put its jumps before ours, which a watcher puts back
            assert world.wall.reconcile().repaired == ("our rules were changed",)
        assert_nothing_to_do(world)


def test_containers_that_come_and_go_beside_ours_open_nothing(shared: tuple[World, Docker]) -> None:
    world, docker = shared
    with tenants(world) as ours, ours.besieged():
        docker.ask("network", "create", "--driver", "bridge", "more")
        docker.run("brief", "--network", "more", "--publish", "8082:80")
        ours.assert_work()
        docker.ask("rm", "--force", "brief")
        docker.ask("network", "rm", "more")


def test_a_container_of_dockers_may_be_one_behind_the_wall(shared: tuple[World, Docker]) -> None:
    world, docker = shared
    docker.run("joined", "--network", "none")
    pid = docker.ask("inspect", "--format", "{{.State.Pid}}", "joined").strip()
    try:
        world.wall.attach("joined", netns=f"/proc/{pid}/ns/net", expose=["8083:80"])
        with world.lab.internet.serve(tcp=[80]), world.lab.node.serve(tcp=[22]):
            assert docker.reached(PUBLIC4[2], 80, "joined") == "internet hi\n"
            assert docker.reached(NODE4, 22, "joined") == ""
        for address in (NODE4, NODE6):
            assert connect(world.lab.lan, address, 8083).data == b"docker\n"
    finally:
        docker.ask("rm", "--force", "joined")
        world.wall.detach("joined")


@VARIANTS
def test_our_removal_leaves_dockers_rules_as_they_were(tmp_path: Path, variant: str) -> None:
    with open_world(up=False) as world:
        docker = Docker(world.lab, tmp_path, variant)
        docker.run("web", "--publish", "8081:80")
        before = filter_rules(world, variant)
        with world.lab.internet.serve(tcp=[80]):
            world.attach("web", expose=["8080:80"])
            assert filter_rules(world, variant) != before
            world.wall.down(force=True)
            assert filter_rules(world, variant) == before
            docker.assert_works()
        docker.ask("rm", "--force", "web")
        docker.annex.close()


def test_docker_that_comes_later_is_met_by_the_next_attach(tmp_path: Path) -> None:
    """Docker's own bridge is a new network of the node, so whatever comes next looks at the node anew."""
    with open_world() as world, tenants(world) as ours:
        ours.assert_work()
        docker = Docker(world.lab, tmp_path)
        try:
            docker.run("web", "--publish", "8081:80")
            assert_no_connection(ours.rogue.host, public(4), 80)
            later = world.attach("later")
            for family in (4, 6):
                assert_connection(later.host, public(family), 80)
            ours.assert_work()
            docker.assert_works()
            assert_nothing_to_do(world)
            world.detach(later)
        finally:
            docker.ask("rm", "--force", "web")
            docker.annex.close()


@VARIANTS
def test_docker_that_comes_later_is_met_by_who_watches(tmp_path: Path, variant: str) -> None:
    with open_world() as world, tenants(world) as ours, watched(world):
        docker = Docker(world.lab, tmp_path, variant)
        try:
            for family in (4, 6):
                assert comes_back(lambda family=family: bool(connect(ours.rogue.host, public(family), 80)))
            ours.assert_work()
        finally:
            docker.annex.close()


def test_who_watches_puts_a_wall_in_iptables_before_dockers_chains_again(tmp_path: Path) -> None:
    with held_by("iptables") as world:
        docker = Docker(world.lab, tmp_path)
        try:
            world.wall.up()
            with tenants(world) as ours, watched(world):
                with ours.besieged():
                    docker.restart()
                    assert comes_back(lambda: world.wall.status().drift == ())
                ours.assert_work()
                forward = world.lab.node.run(["iptables-nft", "-S", "FORWARD"]).text.splitlines()
                assert forward.index("-A FORWARD -j B9-FORWARD") < forward.index("-A FORWARD -j DOCKER-USER")
        finally:
            docker.annex.close()
