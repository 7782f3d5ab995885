"""What nobody is behind any more is taken back whole, and of what somebody is behind no open flow loses a packet."""

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from cellwall.api import Wall
from cellwall.engine.requests import AttachRequest
from cellwall.errors import CellwallError
from cellwall.lab.host import Host
from cellwall.model.endpoint import EndpointKey
from cellwall.names import TABLE
from packet.test_blink import blinking
from running import wait_until
from world import PUBLIC4, World, about_nftables, assert_connection, open_world

pytestmark = pytest.mark.root


@pytest.fixture
def world() -> Iterator[World]:
    with open_world() as world:
        yield world


SETS = [
    *(("set", *place) for place in (("bridge", "pin4"), ("bridge", "pin6"), ("inet", "live"))),
    *(("map", "inet", name) for name in ("publish4", "publish6")),
]


def links(world: World) -> set[str]:
    listed = world.lab.node.run(["ip", "-br", "link"]).text.splitlines()
    return {line.partition("@")[0].split()[0] for line in listed if line.startswith("b9h")}


def vanish(world: World, *hosts: Host) -> None:
    """The namespaces go, and with them both ends of their pairs: the kernel takes these away some time after the last
    user of a namespace has gone."""
    there = links(world)
    for host in hosts:
        world.lab.delete_sandbox(host)
    wait_until(lambda: len(links(world)) == len(there) - len(hosts))


def elements(world: World, kind: str, family: str, name: str) -> list[str]:
    """Of a set that traffic does not change."""
    about_nftables("the elements of sets")
    return sorted(world.lab.node.run(["nft", "list", kind, family, TABLE, name]).text.replace(",", " ").split())


def kept(world: World) -> tuple[object, ...]:
    """All that an endpoint takes: record, lease, link, elements."""
    journal = world.wall._site.journal
    held = journal.count(), len(journal.leased()) + len(journal.draining.addresses()), links(world)
    return (*held, *(elements(world, *named) for named in SETS))


def test_namespaces_that_vanished_are_taken_back_whole_beside_open_flows(world: World) -> None:
    with blinking(world):
        world.wall.reconcile()
        before = kept(world)
        gone = [world.host("gone") for _ in range(4)]
        for number, host in enumerate(gone):
            world.wall.attach(host.name, netns=host.netns, tenant="acme", expose=[f"{8100 + number}:80"])
            world.wall.reserve_ports(host.name, tenant="acme")
        assert kept(world) != before
        vanish(world, *gone)
        told = world.wall.status().drift
        repaired = world.wall.reconcile().repaired
        for host in gone:
            assert any(host.name in line and "is gone" in line for line in told)
            assert f"detached {EndpointKey(host.name)}: its namespace or link is gone" in repaired
        assert kept(world) == before
        assert world.wall.reservations() == ()
        heirs = [(f"heir-{number}", f"{8100 + number}:80") for number in range(4)]
        for name, binding in heirs:
            world.wall.attach(name, expose=[binding])
        world.wall.detach_many([EndpointKey(name) for name, _ in heirs])
        assert world.wall.reconcile().repaired == ()


def test_half_made_and_half_closed_ones_are_taken_back_beside_open_flows(world: World) -> None:
    """As their record has them after a death: between the kernel's part and the last word."""
    with blinking(world):
        world.wall.reconcile()
        before = kept(world)
        box = world.host("half")
        world.wall.attach_many(
            [AttachRequest("half", netns=str(box.netns)), AttachRequest("own"), AttachRequest("closing")]
        )
        journal = world.wall._site.journal
        with journal.transaction():
            journal.set_phase([EndpointKey("half"), EndpointKey("own")], "attaching")
            journal.set_phase([EndpointKey("closing")], "detaching")
        with Wall.open(root=world.lab.root, settings=world.wall.settings) as another:
            repaired = another.reconcile().repaired
        for name in ("half", "own"):
            assert f"took back the half-made attachment of {EndpointKey(name)}" in repaired
        assert f"finished the detachment of {EndpointKey('closing')}" in repaired
        assert kept(world) == before
        assert "eth0" not in box.run(["ip", "-br", "link"]).text
        world.wall.attach("half", netns=box.netns)
        world.wall.detach("half")
        world.wall.reconcile()


def test_links_and_namespaces_without_a_record_are_deleted_beside_open_flows(world: World) -> None:
    with blinking(world):
        world.wall.reconcile()
        before = kept(world)
        world.lab.node.run(["ip", "link", "add", "b9hdead00000000", "type", "veth", "peer", "name", "x"])
        world.lab.node.run(["ip", "link", "set", "b9hdead00000000", "master", "b9_br0"])
        site = world.wall._site
        site.namespaces.create(f"{site.netns_directory}/dead")
        repaired = world.wall.reconcile().repaired
        assert "deleted the unknown link b9hdead00000000" in repaired
        assert f"removed the unknown namespace {site.netns_directory}/dead" in repaired
        assert kept(world) == before


@contextmanager
def kept_by_a_mount(world: World, host: Host) -> Iterator[None]:
    """The namespace is bind-mounted a second time."""
    again = Path(world.lab.root, "again")
    again.touch()
    subprocess.run(["mount", "--bind", str(host.netns), str(again)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(again)], check=True)


@contextmanager
def kept_by_a_process(world: World, host: Host) -> Iterator[None]:
    """Somebody has the namespace open, and no process is in it."""
    fd = os.open(host.netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        os.close(fd)


@pytest.mark.parametrize("keep", [kept_by_a_process, kept_by_a_mount])
def test_a_namespace_that_anybody_holds_is_live_though_its_path_is_gone(
    world: World, keep: Callable[[World, Host], AbstractContextManager[None]]
) -> None:
    world.lab.internet.serve(tcp=[80])
    box = world.host("held")
    endpoint = world.wall.attach("held", netns=box.netns, expose=["8100:80"])
    with keep(world, box):
        world.lab.delete_sandbox(box)
        for _ in range(3):
            assert world.wall.reconcile().repaired == ()
        assert world.wall.endpoint("held") == endpoint and endpoint.host_link in links(world)
    wait_until(lambda: endpoint.host_link not in links(world))
    assert world.wall.reconcile().repaired == (f"detached {EndpointKey('held')}: its namespace or link is gone",)


def test_another_namespace_at_the_path_of_a_live_one_is_another(world: World) -> None:
    """Also where the path is what a record has: the namespace is what counts."""
    world.lab.internet.serve(tcp=[80])
    first = world.host("first")
    path, fd = first.netns, os.open(first.netns, os.O_RDONLY | os.O_CLOEXEC)
    world.wall.attach("first", netns=path)
    name = first.name
    world.lab.delete_sandbox(first)
    second = world.lab.sandbox(name)
    assert second.netns == path
    world.wall.attach("second", netns=second.netns)
    assert world.wall.reconcile().repaired == ()
    assert {one.key.container_id for one in world.wall.endpoints()} == {"first", "second"}
    assert_connection(second, PUBLIC4, 80)
    gone = world.wall.endpoint("first").host_link
    os.close(fd)
    wait_until(lambda: gone not in links(world))
    world.wall.reconcile()
    assert {one.key.container_id for one in world.wall.endpoints()} == {"second"}
    assert_connection(second, PUBLIC4, 80)


def test_an_attach_under_way_is_nobodys_to_clean_up(world: World) -> None:
    """Whoever cleans up, over and over, and whoever attaches and detaches in one namespace take turns."""
    world.lab.internet.serve(tcp=[80])
    box, over = world.host("raced"), threading.Event()
    said: list[str] = []

    def clean() -> None:
        with world.lab.node.enter(), Wall.open(root=world.lab.root, settings=world.wall.settings) as cleaning:
            while not over.wait(0.005):  # a lock that is taken again at once would be nobody else's
                try:
                    said.extend(cleaning.reconcile().repaired)
                except CellwallError as error:
                    said.append(repr(error))

    cleaner = threading.Thread(target=clean)
    cleaner.start()
    try:
        for round_ in range(12):
            world.wall.attach("raced", netns=box.netns)
            assert_connection(box, PUBLIC4, 80)
            world.wall.attach_many([AttachRequest(f"more-{round_}"), AttachRequest(f"else-{round_}")])
            world.wall.detach_many([EndpointKey("raced"), EndpointKey(f"more-{round_}"), EndpointKey(f"else-{round_}")])
    finally:
        over.set()
        cleaner.join()
    assert said == []
    assert world.wall.reconcile().repaired == () and world.wall.endpoints() == ()
