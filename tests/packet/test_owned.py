"""A wall whose tables have an owner: no flush, deletion or addition of others changes it, under packets, and it
outlives its owner."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_network
from itertools import cycle, islice

import pytest

from cellwall.api import Wall
from cellwall.attack.flood import Flood
from cellwall.errors import CellwallError
from cellwall.model.addresses import mac_text
from cellwall.model.policy import Policy, Rule
from cellwall.model.settings import Settings
from cellwall.names import SPARE_TABLE, TABLE
from packet.test_blink import _replace_whole, blinking, to_the_floor
from packet.test_half_replaced import to_the_node
from packet.test_switch import EITHER, NFTABLES, left_behind, move
from world import (
    Sandbox,
    Stream,
    World,
    Wrapped,
    about_nftables,
    assert_connection,
    assert_no_connection,
    open_world,
    public,
    rewired,
    ruleset,
    unlatch,
)

pytestmark = [
    pytest.mark.root,
    pytest.mark.minutes,
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]
HOSTILE = (
    "flush ruleset",
    "delete table inet cellwall",
    "flush ruleset inet",
    "flush table inet cellwall",
    "insert rule inet cellwall forward accept",
    "flush ruleset bridge",
    "flush chain bridge cellwall port",
    "flush set inet cellwall floor4",
    "add element inet cellwall opened4 { 169.254.169.254 . udp . 80 }",
    "add table inet cellwall { flags dormant; }",
    # what a firewall's reload is: everything goes and its own comes, in one transaction
    "flush ruleset; add table inet firewalld; add chain inet firewalld c { type filter hook forward priority 10; }",
)


@pytest.fixture
def world() -> Iterator[World]:
    about_nftables("owners of tables")
    with open_world(settings=NFTABLES) as world:
        yield world


def own(wall: Wall, descriptor: int | None = None) -> None:
    """As a daemon begins."""
    assert wall.own(descriptor) == ""
    wall.repair()
    assert wall.status().drift == ()


def live(world: World) -> str:
    """What is live of the rules: all that should be, or "" where a table is missing."""
    shape = world.wall._site.rules.shape()
    assert not shape or not [line for line in world.wall.status().drift if "latch" not in line]
    return shape


@contextmanager
def flooded(world: World, attacker: Sandbox) -> Iterator[Flood]:
    """A flood to the floor and to the node while the block runs, of which nothing comes anywhere; it is the rules that
    hold."""
    everywhere, at_node = world.lab.internet.serve(udp=[80]), world.lab.node.serve(udp=[80])
    gateway = mac_text(world.wall.settings.network.bridge_mac)
    unlatch(world)
    frames = [*to_the_floor(attacker, gateway), *to_the_node(attacker, gateway)]
    with Flood(attacker.host, "eth0", frames) as flood:
        flood.wait()
        yield flood
        flood.wait()
        with Stream(attacker.host, public(4), 80, udp=True) as honest:
            assert honest.ask(b"<after all of it>")
    assert not everywhere.saw(b"<flood")
    assert not at_node.saw(b"<flood")


# ---------------------------------------------------------------- while it is owned


@pytest.mark.slow
def test_three_hundred_flushes_and_changes_of_others_pass_nothing_and_cost_nothing(world: World) -> None:
    own(world.wall)
    attacker, other = world.attach("attacker"), world.attach("other")
    before = live(world)
    with flooded(world, attacker) as flood, Stream(other.host, public(4), 80, udp=True) as stream:
        for command in islice(cycle(HOSTILE), 300):
            done = subprocess.run(["nft", command], capture_output=True, check=False)
            assert command.startswith("flush ruleset") or b"Operation not permitted" in done.stderr, command
            assert stream.ask(world.token())
            flood.wait(1)
    world.lab.node.run(["nft", "flush", "ruleset"])
    assert live(world) == before


def test_without_an_owner_the_same_flush_lets_the_flood_through(world: World) -> None:
    attacker, everywhere = world.attach("attacker"), world.lab.internet.serve(udp=[80])
    unlatch(world)
    with Flood(attacker.host, "eth0", to_the_floor(attacker, mac_text(world.wall.settings.network.bridge_mac))):
        world.lab.node.run(["nft", "flush", "ruleset"])
        assert everywhere.wait_for(b"<flood")


@contextmanager
def flushing(world: World) -> Iterator[Callable[[], int]]:
    """Another process that flushes all rules over and over; how often it has by now."""
    code = (
        "import subprocess\n"
        "while True:\n"
        "    subprocess.run(['nft', 'flush', 'ruleset'], check=True)\n"
        "    print(flush=True)\n"
    )
    program = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert program.stdout is not None
    count = 0
    os.set_blocking(program.stdout.fileno(), False)

    def counted() -> int:
        nonlocal count
        with suppress(BlockingIOError):
            while data := os.read(program.stdout.fileno(), 1 << 12):  # type: ignore[union-attr]
                count += len(data)
        return count

    try:
        yield counted
        assert program.poll() is None, "it failed"
    finally:
        program.kill()
        program.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [5, pytest.param(20, marks=pytest.mark.full)])
def test_rules_are_replaced_and_refreshed_amid_flushes_and_nothing_passes(world: World, rounds: int) -> None:
    own(world.wall)
    attacker = world.attach("attacker")
    with flooded(world, attacker) as flood, flushing(world) as flushes:
        for number in range(rounds):
            before = flushes()
            world.lab.node.run(["ip", "address", "add", f"9.9.{number}.1/24", "dev", "eth1"])
            assert world.wall.up().changed
            unlatch(world)
            _replace_whole(world, number)
            unlatch(world)
            while flushes() < before + 2:
                flood.wait(1)
    assert SPARE_TABLE not in ruleset(world)
    assert live(world)


def test_nothing_blinks_while_owned_rules_change(world: World) -> None:
    own(world.wall)
    with blinking(world) as (_, mover):
        for number in range(6):
            world.lab.node.run(["ip", "address", "add", f"9.9.{number}.1/24", "dev", "eth1"])
            assert world.wall.up().changed
            _replace_whole(world, number)
        other = world.attach("other")
        world.wall.expose(other.name, "9000-9010:9000")
        world.wall.expose(mover.name, "8090:90")
        world.wall.unexpose(mover.name, "8090:90")
        world.detach(other)
        world.lab.node.run(["nft", "flush", "ruleset"])


@EITHER
def test_an_owned_wall_moves_to_iptables_and_back(world: World, iptables: Settings) -> None:
    own(world.wall)
    attacker = world.attach("attacker")
    with flooded(world, attacker):
        move(world, iptables)
        assert left_behind(world) == {iptables.iptables, "sets"}
        move(world, NFTABLES)
    assert left_behind(world) == {"tables"}
    before = live(world)
    world.lab.node.run(["nft", "flush", "ruleset"])
    assert live(world) == before


def test_an_owned_wall_goes_with_down_and_comes_with_up(world: World) -> None:
    own(world.wall)
    world.wall.down()
    assert "cellwall" not in ruleset(world)
    world.wall.up()
    before = live(world)
    assert before
    world.lab.node.run(["nft", "flush", "ruleset"])
    assert live(world) == before


def test_a_node_that_is_not_up_is_owned_from_its_first_rule_on() -> None:
    about_nftables("owners of tables")
    with open_world(settings=NFTABLES, up=False) as world:
        assert world.wall.own() == ""
        assert "cellwall" not in ruleset(world)
        world.attach()
        before = live(world)
        world.lab.node.run(["nft", "flush", "ruleset"])
        assert live(world) == before


# ---------------------------------------------------------------- its beginning and its end


def test_a_wall_that_nft_laid_gets_an_owner_and_nothing_passes_or_blinks(world: World) -> None:
    with blinking(world):
        assert world.wall.own() == ""
        assert world.wall.status().node_drift == ("our tables are anybody's to write",)
        before = world.wall.endpoints()
        own(world.wall)
        assert not world.wall.up().changed
        assert world.wall.endpoints() == before, "the same policy: nobody is judged anew"


@pytest.mark.slow
def test_a_wall_that_nft_laid_gets_an_owner_amid_flushes(world: World) -> None:
    world.attach("tenant")
    with flushing(world) as flushes:
        for _ in range(10):
            seen = flushes()
            with Wall.open(root=world.lab.root, settings=world.wall.settings) as owner:
                assert owner.own() == ""
                owner.repair()
                while flushes() < seen + 3:
                    assert live(world)
                    assert owner.status().drift == ()
            while world.wall._site.rules.shape():  # nobody owns it then, and it is flushed
                pass
            with suppress(CellwallError):  # nft lays it, if it may
                world.wall.up()


@contextmanager
def daemon(world: World) -> Iterator[tuple[int, int]]:
    """Another process that owns the tables: its id, and a duplicate of its socket that it hands over."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        try:
            wall = Wall.open(root=world.lab.root, settings=world.wall.settings)
            own(wall)
            socket.send_fds(theirs, [b"1"], [wall.owning_descriptor])
            signal.pause()
        finally:
            os._exit(1)
    theirs.close()
    _, (descriptor,), _, _ = socket.recv_fds(ours, 1, 1)
    try:
        yield child, descriptor
    finally:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        with suppress(OSError):
            os.close(descriptor)
        ours.close()


def kill(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_a_killed_owner_whose_socket_is_kept_leaves_no_moment_to_anybody(world: World) -> None:
    attacker = world.attach("attacker")
    with daemon(world) as (child, descriptor), flooded(world, attacker) as flood:
        before = live(world)
        with flushing(world) as flushes:
            flood.wait()
            kill(child)
            seen = flushes()
            while flushes() < seen + 5:
                flood.wait(1)
            assert live(world) == before
            own(world.wall, os.dup(descriptor))
            world.attach("newcomer")
            world.wall.up()
            while flushes() < seen + 10:
                flood.wait(1)
    assert world.wall.status().drift == ()


def test_a_killed_owner_leaves_tables_that_the_next_one_adopts(world: World) -> None:
    with daemon(world) as (child, descriptor):
        before = live(world)
        os.close(descriptor)
        kill(child)
        assert live(world) == before
        assert not world.wall.own()
        assert world.wall.status().drift == ()  # nothing to lay
        world.lab.node.run(["nft", "flush", "ruleset"])
        assert "cellwall" in ruleset(world)


def test_what_is_flushed_between_two_owners_is_latched_and_laid_by_the_next(world: World) -> None:
    tenant, lan = world.attach("tenant"), world.lab.lan.serve(udp=[80])
    world.lab.internet.serve(tcp=[80])
    with daemon(world) as (child, descriptor):
        os.close(descriptor)
        kill(child)
        world.lab.node.run(["nft", "flush", "ruleset"])
        assert_no_connection(tenant.host, public(4), 80)
        own(world.wall)
        assert_connection(tenant.host, public(4), 80)
        assert not lan.seen
        before = live(world)
        world.lab.node.run(["nft", "flush", "ruleset"])
        assert live(world) == before


def test_who_is_no_daemon_goes_on_with_tables_that_outlived_one(world: World) -> None:
    with daemon(world) as (child, descriptor):
        os.close(descriptor)
        kill(child)
        with blinking(world) as (_, mover):
            world.attach("newcomer", expose=["9000-9010:9000"])
            world.lab.node.run(["ip", "address", "add", "9.9.9.1/24", "dev", "eth1"])
            assert world.wall.up().changed
            world.lab.node.run(["nft", "add", "rule", "inet", TABLE, "forward", "counter"])
            assert world.wall.reconcile().repaired
            world.wall.expose(mover.name, "8090:90")
        world.wall.down(force=True)
        assert "cellwall" not in ruleset(world)
        world.wall.up()
        assert "persist" not in ruleset(world)


def test_tables_that_another_program_adopted_are_told(world: World) -> None:
    with daemon(world):
        assert "another program owns the table" in world.wall.own()
        assert any("another program owns" in note for note in world.wall.status().notes)


def test_a_wall_that_can_have_no_owner_says_so(world: World) -> None:
    def own(*_: object) -> str:
        world.wall._site.rules.unowned = "the kernel has no owners that tables outlive (Linux 6.9)"
        return world.wall._site.rules.unowned

    wall = rewired(world.wall, rules=Wrapped(world.wall._site.rules, own=own))
    assert "6.9" in wall.own()
    status = wall.status()
    assert status.drift == ()
    assert any("6.9" in note for note in status.notes)


def test_an_operation_that_meets_a_foreign_owner_says_whose_tables_they_are(world: World) -> None:
    with daemon(world):
        world.lab.node.run(["ip", "address", "add", "9.9.9.1/24", "dev", "eth1"])
        with pytest.raises(CellwallError, match="another program owns"):
            world.wall.up()


def test_chains_that_no_rule_leads_to_any_more_are_no_damage(world: World) -> None:
    """A refresh of owned tables takes all rules out, and chains that only the former ones had stay behind."""
    tenant = world.attach("tenant", tenant="acme")
    own(world.wall)
    world.lab.internet.serve(tcp=[80])
    before = world.wall._site.rules.chains("inet", TABLE).keys()
    world.wall.set_policy(Policy("allow", (Rule("allow", ip_network(public(4))),)), tenant="acme")
    assert not world.wall.close_unjudged()
    assert before - world.wall._site.rules.chains("inet", TABLE).keys()
    assert world.wall.repair() == ()
    assert_connection(tenant.host, public(4), 80)
