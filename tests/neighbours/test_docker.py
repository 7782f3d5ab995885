"""A Docker daemon with containers of its own on the node."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cellwall.lab import Lab, connect
from cellwall.lab.addresses import NODE4, NODE6, PUBLIC4
from neighbours.annex import Annex, need
from neighbours.beside import assert_holds, filter_rules, marks, tenants
from world import World, assert_connection, open_world, public

pytestmark = marks
_LISTEN = ("/bin/nc", "-ll", "-p", "80", "-e", "/bin/echo", "docker")


class Docker:
    """dockerd and its client in a lab's node."""

    def __init__(self, lab: Lab, base: Path) -> None:
        need("dockerd", "docker", "containerd", "runc", "busybox", "iptables")
        self.annex = Annex(lab, base)
        self.lab = lab
        self.daemon = self.start()
        tree = subprocess.run(["tar", "-C", self.annex.rootfs(), "-c", "."], stdout=subprocess.PIPE, check=True)
        self.ask("import", "-", "tree", input=tree.stdout)

    def start(self) -> "subprocess.Popen[bytes]":
        base = self.annex.base
        daemon = self.annex.start(
            "dockerd", "--host", f"unix://{base}/d.sock", "--data-root", f"{base}/data", "--exec-root", f"{base}/exec",
            "--pidfile", f"{base}/pid", "--storage-driver", "vfs", "--bip", "172.30.0.1/24", "--log-level", "warn",
        )  # fmt: skip
        self.annex.come_up(daemon, lambda: self._says("version"))
        return daemon

    def restart(self) -> None:
        """As a package's upgrade does it."""
        self.annex.end(self.daemon)
        self.daemon = self.start()

    def ask(self, *arguments: str, input: bytes | None = None) -> str:
        return self.annex.run("docker", "--host", f"unix://{self.annex.base}/d.sock", *arguments, input=input).text

    def _says(self, *arguments: str) -> bool:
        argv = ["docker", "--host", f"unix://{self.annex.base}/d.sock", *arguments]
        return self.annex.run(*argv, check=False).returncode == 0

    def run(self, name: str, *options: str) -> None:
        """A container that answers on port 80; it is back when the daemon is."""
        self.ask(
            "run",
            "--detach",
            "--name",
            name,
            "--restart",
            "always",
            "--stop-signal",
            "KILL",
            *options,
            "tree",
            *_LISTEN,
        )

    def assert_works(self) -> None:
        """Its containers reach the world, and a published port of theirs is reached."""
        assert self.ask("run", "--rm", "tree", "/bin/sh", "-c", f"echo hi | nc -w 2 {PUBLIC4[2]} 80") == "internet hi\n"
        self.annex.come_up(self.daemon, lambda: connect(self.lab.lan, NODE4, 8081).data == b"docker\n")

    def reached(self, address: str, port: int) -> str:
        """What a container of Docker's gets from there."""
        return self.ask("exec", "web", "/bin/sh", "-c", f"echo hi | nc -w 1 {address} {port} || true")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Docker]]:
    """Docker was there first."""
    with open_world(up=False) as world:
        docker = Docker(world.lab, tmp_path_factory.mktemp("docker"))
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
        assert world.wall.status().drift == ()


def test_neither_reaches_the_others_containers(shared: tuple[World, Docker]) -> None:
    world, docker = shared
    address = docker.ask("inspect", "--format", "{{.NetworkSettings.IPAddress}}", "web").strip()
    with tenants(world) as ours:
        assert connect(world.lab.node, address, 80).data == b"docker\n"
        assert docker.reached(PUBLIC4[2], 80) == "internet hi\n"
        assert connect(ours.rogue.host, address, 80).kind != "answer"
        assert connect(ours.rogue.host, NODE4, 8081).kind != "answer"
        assert docker.reached(ours.web.address(4), 80) == ""
        assert docker.reached(NODE4, 8080) == ""


def test_a_restart_of_docker_opens_nothing_and_breaks_nothing(shared: tuple[World, Docker]) -> None:
    world, docker = shared
    with tenants(world) as ours:
        with ours.besieged():
            docker.restart()
        ours.assert_work()
        docker.assert_works()
        assert world.wall.status().drift == ()


def test_containers_that_come_and_go_beside_ours_open_nothing(shared: tuple[World, Docker]) -> None:
    world, docker = shared
    with tenants(world) as ours, ours.besieged():
        docker.ask("network", "create", "--driver", "bridge", "more")
        docker.run("brief", "--network", "more", "--publish", "8082:80")
        ours.assert_work()
        docker.ask("rm", "--force", "brief")
        docker.ask("network", "rm", "more")


def test_our_removal_leaves_dockers_as_they_were(tmp_path: Path) -> None:
    with open_world(up=False) as world:
        docker = Docker(world.lab, tmp_path)
        docker.run("web", "--publish", "8081:80")
        before = filter_rules(world)
        with world.lab.internet.serve(tcp=[80]):
            world.attach("web", expose=["8080:80"])
            assert filter_rules(world) != before
            world.wall.down(force=True)
            assert filter_rules(world) == before
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
            with world.lab.node.enter():
                later = world.attach("later")
            for family in (4, 6):
                assert_connection(later.host, public(family), 80)
            ours.assert_work()
            docker.assert_works()
            assert connect(world.lab.lan, NODE6, 8080)
            assert world.wall.status().drift == ()
            world.detach(later)
        finally:
            docker.ask("rm", "--force", "web")
            docker.annex.close()
