"""A run directory that somebody else's files have filled: what opens is refused, what closes is not."""

import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial

import pytest

from cellwall.adapters.record.state_file import SPARE
from cellwall.errors import KernelError
from cellwall.lab.addresses import NODE4
from world import PUBLIC4, Sandbox, World, assert_connection, assert_no_connection, open_world

pytestmark = pytest.mark.root
CLONE_NEWNS = 0x20000


def in_mounts_of_its_own() -> None:
    """The thread that calls it sees its own mounts from now on, which go when it ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(CLONE_NEWNS) == 0, os.strerror(ctypes.get_errno())
    assert libc.mount(None, b"/", None, 1 << 18 | 1 << 14, None) == 0  # MS_PRIVATE | MS_REC


@contextmanager
def world_on_small_disk() -> Iterator[World]:
    """A node whose run directory is a file system of 8 MiB."""
    with open_world(up=False) as world:
        world.wall.close()
        run = world.wall.paths.run
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=750", "cellwall-test", run], check=True)
        try:
            with type(world.wall).open(root=world.lab.root) as wall:
                wall.up()
                world.lab.internet.serve(tcp=[80])
                yield World(world.lab, wall)
        finally:
            subprocess.run(["umount", "-l", run], check=True)


@contextmanager
def filled(world: World) -> Iterator[None]:
    path = world.wall.paths.run / "of-somebody-else"
    with open(path, "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    try:
        yield
    finally:
        path.unlink()


def published(world: World, sandbox: Sandbox) -> Sandbox:
    sandbox.host.serve(tcp=[80])
    assert_connection(world.lab.lan, NODE4, 8080)
    return sandbox


def withdrawn(world: World) -> None:
    web = published(world, world.attach("web", expose=["8080:80"]))
    with filled(world):
        with pytest.raises(KernelError, match="is full"):
            world.attach("late")
        world.wall.unexpose(web.name, "8080:80")
        assert_no_connection(world.lab.lan, NODE4, 8080)
    assert_connection(web.host, PUBLIC4, 80)


def blocked(world: World) -> None:
    web = world.attach("web", tenant="acme")
    assert_connection(web.host, PUBLIC4, 80)
    with filled(world):
        world.wall.set_policy({"version": 1, "mode": "block"}, tenant="acme")
        assert_no_connection(web.host, PUBLIC4, 80)


def detached(world: World) -> None:
    several = [world.attach(tenant="acme") for _ in range(8)]
    assert_connection(several[0].host, PUBLIC4, 80)
    with filled(world):
        for sandbox in several:
            assert world.wall.detach(sandbox.name)
            assert_no_connection(sandbox.host, PUBLIC4, 80)
        assert world.wall.endpoints() == ()
    assert_connection(world.attach("next").host, PUBLIC4, 80)  # with room again


@pytest.mark.parametrize("closing", [withdrawn, blocked, detached])
def test_what_closes_is_done_on_a_full_disk(closing: Callable[[World], None]) -> None:
    def alone() -> None:
        with world_on_small_disk() as world:
            closing(world)
            assert world.wall.status().drift == ()

    with ThreadPoolExecutor(1, initializer=in_mounts_of_its_own) as thread:
        thread.submit(alone).result()


def test_who_opens_the_wall_on_a_full_disk_closes_too() -> None:
    """A command or a call of the plugin, which is a process of its own."""

    def alone() -> None:
        with world_on_small_disk() as world:
            others = [world.attach() for _ in range(3)]
            sandbox = world.attach()
            assert_connection(sandbox.host, PUBLIC4, 80)
            open_wall = partial(type(world.wall).open, root=world.lab.root)
            world.wall.close()
            with filled(world):
                with open_wall() as wall, pytest.raises(KernelError, match="is full"):
                    wall.attach("late")
                for other in others:
                    with open_wall(closing=True) as wall:
                        assert wall.detach(other.name)
                with open_wall(closing=True) as wall:
                    assert [left.key.container_id for left in wall.endpoints()] == [sandbox.name]
                    assert wall.detach(sandbox.name)
                assert_no_connection(sandbox.host, PUBLIC4, 80)
            with open_wall() as wall:
                wall.reconcile()
                assert wall.endpoints() == () and wall.status().drift == ()
                assert (world.wall.paths.run / "spare").stat().st_blocks * 512 == SPARE

    with ThreadPoolExecutor(1, initializer=in_mounts_of_its_own) as thread:
        thread.submit(alone).result()
