"""Podman with networks of netavark's on the node, by each of its two firewall drivers."""

import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from cellwall.lab import Lab, connect
from cellwall.lab.addresses import NODE4, NODE6, PUBLIC4
from neighbours.annex import Annex, need
from neighbours.beside import BACKENDS, assert_holds, assert_nothing_to_do, held_by, marks, rules_of_others, tenants
from world import World, open_world

pytestmark = marks
DRIVERS = ("nftables", "iptables")
_LISTEN = ("/bin/nc", "-ll", "-p", "80", "-e", "/bin/echo", "podman")


class Podman:
    """podman in a lab's node; it has no daemon."""

    def __init__(self, lab: Lab, base: Path, driver: str) -> None:
        need("podman", "crun", "busybox")
        self.lab, self.annex = lab, Annex(lab, base)
        (base / "etc/containers").mkdir(exist_ok=True)
        (base / "etc/containers/containers.conf").write_text(f'[network]\nfirewall_driver = "{driver}"\n')
        self.ask("network", "create", "--ipv6", "--disable-dns", "theirs")
        self.run("web", "--publish", "8081:80")

    def ask(self, *arguments: str, check: bool = True) -> str:
        base = self.annex.base
        return self.annex.run(
            "podman", "--root", f"{base}/root", "--runroot", f"{base}/run", "--tmpdir", f"{base}/tmp",
            "--network-config-dir", f"{base}/networks", "--storage-driver", "vfs", "--runtime", "crun",
            "--cgroup-manager", "cgroupfs", "--events-backend", "none", *arguments, check=check,
        ).text  # fmt: skip

    def run(self, name: str, *options: str, network: str = "theirs") -> None:
        """A container that answers on port 80."""
        self.ask("run", "--detach", "--cgroups", "disabled", "--network", network, "--name", name, *options,
                 "--rootfs", str(self.annex.rootfs()), *_LISTEN)  # fmt: skip

    def remove(self, name: str) -> None:
        self.ask("rm", "--force", "--time", "0", name)

    def close(self) -> None:
        self.remove("web")
        self.annex.close()

    def assert_works(self) -> None:
        assert self.reached(PUBLIC4[2], 80) == "internet hi\n"
        for address in (NODE4, NODE6):
            assert connect(self.lab.lan, address, 8081).data == b"podman\n"

    def reached(self, address: str, port: int, name: str = "web") -> str:
        """What a container of Podman's gets from there."""
        return self.ask("exec", name, "/bin/sh", "-c", f"echo hi | nc -w 1 {address} {port} || true")


@pytest.fixture(scope="module", params=[*product(DRIVERS, BACKENDS)], ids="-".join)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Podman]]:
    """Podman was there first."""
    driver, backend = request.param
    with held_by(backend) as world:
        podman = Podman(world.lab, tmp_path_factory.mktemp("podman"), driver)
        world.wall.up()
        yield world, podman
        podman.close()


def test_both_work_and_the_wall_holds(shared: tuple[World, Podman]) -> None:
    world, podman = shared
    with tenants(world) as ours:
        ours.assert_work()
        podman.assert_works()
        assert_holds(world)
        assert_nothing_to_do(world)


def test_neither_reaches_the_others_containers(shared: tuple[World, Podman]) -> None:
    world, podman = shared
    with tenants(world) as ours:
        for address in podman.ask(
            "inspect",
            "--format",
            "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.GlobalIPv6Address}}{{end}}",
            "web",
        ).split():
            assert connect(world.lab.node, address, 80).data == b"podman\n"
            assert connect(ours.rogue.host, address, 80, timeout=1.0).kind != "answer"
        for address in (NODE4, NODE6):
            assert connect(ours.rogue.host, address, 8081, timeout=1.0).kind != "answer"
        for address in (ours.web.address(4), ours.web.address(6)):
            assert podman.reached(address, 80) == ""


def test_its_reload_and_its_containers_open_nothing_and_break_nothing(shared: tuple[World, Podman]) -> None:
    world, podman = shared
    with tenants(world) as ours:
        with ours.besieged():
            podman.ask("network", "reload", "--all")
            podman.run("brief", "--publish", "8082:80")
            podman.remove("brief")
        ours.assert_work()
        podman.assert_works()
        assert_nothing_to_do(world)


def test_a_container_of_its_may_be_one_behind_the_wall(shared: tuple[World, Podman]) -> None:
    world, podman = shared
    web = world.wall.attach("joined", expose=["8083:80"])
    try:
        with open(web.netns) as opened:  # Podman's mounts are its own: it sees what is mounted here through its process
            podman.run("joined", network=f"ns:/proc/{os.getpid()}/fd/{opened.fileno()}")
        with world.lab.internet.serve(tcp=[80]), world.lab.node.serve(tcp=[22]):
            assert podman.reached(PUBLIC4[2], 80, "joined") == "internet hi\n"
            assert podman.reached(NODE4, 22, "joined") == ""
        for address in (NODE4, NODE6):
            assert connect(world.lab.lan, address, 8083).data == b"podman\n"
    finally:
        podman.remove("joined")
        world.wall.detach("joined")


@pytest.mark.parametrize("driver", DRIVERS)
def test_our_coming_and_going_leaves_its_rules_as_they_were(tmp_path: Path, driver: str) -> None:
    with open_world(up=False) as world:
        podman = Podman(world.lab, tmp_path, driver)
        before = rules_of_others(world)
        world.attach("web", expose=["8080:80"])
        assert rules_of_others(world) == before
        world.wall.down(force=True)
        assert rules_of_others(world) == before
        with world.lab.internet.serve(tcp=[80]):
            podman.assert_works()
        podman.close()
