"""A node whose wall stands in iptables: the same operations, and what others have in the same tables stays theirs."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path
from typing import NoReturn

import msgspec
import pytest

from cellwall.api import AttachRequest, Wall
from cellwall.engine.iptables.contracts import Variant
from cellwall.engine.iptables.host import Host
from cellwall.errors import KernelError, NotFound
from cellwall.lab import connect
from cellwall.lab.addresses import NODE4, NODE6
from cellwall.lower.xt.tables import Family
from cellwall.model.endpoint import Endpoint
from cellwall.model.policy import Policy, Rule
from cellwall.model.settings import Settings
from cellwall.model.versions import BLOCK, END_BLOCK, FIRST_BLOCK, STEM, Blocks
from engine.saved_tables import FAMILIES, rules, saved, variant
from engine.steps import Doom, Stepped, assert_converged, child_killed_at, killed_at, reopened, stepped
from world import PUBLIC4, PUBLIC6, Stream, World, Wrapped, assert_connection, open_world, rewired

pytestmark = [
    pytest.mark.root,
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


@pytest.fixture(scope="module", params=["nft", "legacy"])
def node(request: pytest.FixtureRequest) -> Iterator[World]:
    with open_world(settings=Settings(backend="iptables", iptables=request.param)) as world:
        world.lab.internet.serve(tcp=[80], udp=[80])
        yield world


@pytest.mark.parametrize("order", ["grow", "come round again", "are the next"])
def test_what_a_former_holder_has_open_is_nobodys_whichever_way_versions_go(node: World, order: str) -> None:
    """Where conntrack was not purged, as after a race. `born` tells them apart by the first version of the holder."""
    first, then = {
        "grow": (FIRST_BLOCK + 5, FIRST_BLOCK + 70_000),
        "come round again": (END_BLOCK - 5, FIRST_BLOCK + 5),
        "are the next": (FIRST_BLOCK + 8, FIRST_BLOCK + 9),
    }[order]
    leave(node, first)
    former = node.attach("former")
    sockets = []
    with node.lab.internet.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind((PUBLIC4, 7777))
        peer.settimeout(10)
        for sandbox in (former, None):
            if sandbox is None:
                kept = Wrapped(node.wall._site.rules, purge_flows=lambda _: None)
                wall = rewired(node.wall, rules=kept)
                wall.detach(former.name)
                wall.reconcile()
                leave(node, then)
                sandbox = node.attach("holder", address4=former.endpoint.address4)
            sockets.append(sandbox.host.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sockets[-1].bind(("", 5555))
            sockets[-1].settimeout(0.3)
            if sandbox is former:
                sockets[0].sendto(b"hello", (PUBLIC4, 7777))
                _, client = peer.recvfrom(99)
        assert sandbox.address(4) == former.address(4)
        peer.sendto(b"for the former", client)
        with pytest.raises(TimeoutError):
            sockets[1].recv(99)
        peer.settimeout(0.3)
        sockets[1].sendto(b"as the former", (PUBLIC4, 7777))
        with pytest.raises(TimeoutError):
            peer.recvfrom(99)
    for one in sockets:
        one.close()
    node.wall._site.rules.purge_flows([former.endpoint.generation])
    node.detach(sandbox)


@pytest.mark.parametrize("settings", [Settings(backend="iptables"), Settings(backend="nftables")])
def test_what_is_open_of_who_was_on_a_lost_record_is_nobodys(settings: Settings) -> None:
    with open_world(settings=settings) as world, world.lab.internet.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind((PUBLIC4, 7777))
        peer.settimeout(10)
        leave(world, FIRST_BLOCK + 9)
        former = world.attach("former")
        with former.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind(("", 5555))
            sender.sendto(b"hello", (PUBLIC4, 7777))
            _, client = peer.recvfrom(99)
        for path in Path(world.wall.paths.run).glob("state.db*"):
            path.unlink()
        with Wall.open(root=world.lab.root, settings=settings) as wall:
            world.wall = wall
            wall.up()
            wall.reconcile()
            leave(world, FIRST_BLOCK + 5)  # at random, as it is after a loss, it is that one as well
            holder = world.attach("holder", address4=former.endpoint.address4)
            with holder.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
                listener.bind(("", 5555))
                listener.settimeout(0.3)
                peer.sendto(b"for the former", client)
                with pytest.raises(TimeoutError):
                    listener.recv(99)
                listener.sendto(b"afresh", (PUBLIC4, 7777))
                assert peer.recv(99) == b"afresh"
            world.detach(holder)


def test_ones_own_open_flows_go_on_when_versions_come_round_again(node: World) -> None:
    leave(node, END_BLOCK - 2)
    tenant = node.attach()
    policies = tuple(Policy("open", (Rule("deny", ip_network(f"9.9.9.{last}"), "tcp", (25, 25)),)) for last in (1, 2))
    with Stream(tenant.host, PUBLIC4, 80, udp=True) as idle, Stream(tenant.host, PUBLIC4, 80) as busy:
        assert idle.ask(node.token())
        for number in range(4):
            at_the_end_of_its_block(node, node.wall.endpoint(tenant.name))
            node.wall.set_policy(policies[number % 2], container=tenant.name)
            assert busy.ask(node.token())
        blocks = {one >> 8 for one in node.wall.endpoint(tenant.name).past_generations}
        assert len(blocks) == 4
        assert node.wall.endpoint(tenant.name).generation < max(node.wall.endpoint(tenant.name).past_generations)
        assert idle.ask(node.token())
    node.detach(tenant)


def leave(world: World, first: int) -> None:
    """Have the blocks of versions from this one on given out next."""
    journal = world.wall._site.journal
    with journal.transaction():
        journal.put("versions", msgspec.json.encode(Blocks(first, END_BLOCK, world.wall.settings.mark)))


def at_the_end_of_its_block(world: World, endpoint: Endpoint) -> None:
    """The endpoint as it is when it has counted through its block."""
    site = world.wall._site
    after = msgspec.structs.replace(endpoint, generation=(endpoint.generation & STEM) + BLOCK - 1)
    with site.journal.transaction():
        site.journal.write_endpoints([after], "attached")
    site.backend.repair(site.journal.endpoints("attached"))


def test_what_is_up_says_what_holds_it(node: World) -> None:
    assert node.wall.status().mechanism == f"iptables ({variant(node)})"


def test_a_sandbox_reaches_the_world_and_nobody_beside_it(node: World) -> None:
    one, two = node.attach(), node.attach()
    node.lab.node.serve(tcp=[81])
    with two.host.serve(tcp=[80]):
        for public, neighbour, own in ((PUBLIC4, two.address(4), NODE4), (PUBLIC6, two.address(6), NODE6)):
            assert_connection(one.host, public, 80)
            assert connect(one.host, neighbour, 80, timeout=0.3).kind != "answer"
            assert connect(one.host, own, 81, timeout=0.3).kind != "answer"
    assert node.wall.status().drift == ()
    assert node.wall.verify(one.name) == ()
    assert node.wall.detach_many([one.endpoint.key, two.endpoint.key]) == 2
    assert node.wall.status().drift == ()


def test_a_port_is_published_withdrawn_and_published_for_another(node: World) -> None:
    one, two = node.attach(), node.attach()
    one.host.serve(tcp=[80])
    two.host.serve(tcp=[80])
    for _ in range(2):
        for holder in (one, two):
            node.wall.expose(holder.name, "8080:80")
            for address in (NODE4, NODE6):
                assert holder.name.encode() in assert_connection(node.lab.lan, address, 8080)
            assert node.wall.status().drift == ()
            node.wall.unexpose(holder.name, "8080:80")
            for address in (NODE4, NODE6):
                assert connect(node.lab.lan, address, 8080, timeout=0.3).kind != "answer"
    assert node.wall.status().drift == ()
    node.wall.detach_many([one.endpoint.key, two.endpoint.key])


def test_a_withdrawn_port_ends_its_open_flow_and_no_other(node: World) -> None:
    sandbox = node.attach(expose=["8081:90/udp", "8082:91/udp"])
    sandbox.host.serve(udp=[90, 91])
    with Stream(node.lab.lan, NODE4, 8081, udp=True) as gone, Stream(node.lab.lan, NODE4, 8082, udp=True) as kept:
        assert gone.ask(node.token())
        assert kept.ask(node.token())
        node.wall.unexpose(sandbox.name, "8081:90/udp")
        assert not gone.ask(node.token(), timeout=0.3)
        assert kept.ask(node.token())
    node.detach(sandbox)


def test_a_port_whose_withdrawal_was_killed_leads_nobody_to_what_another_port_still_publishes(node: World) -> None:
    tenant = node.attach(expose=["8080:80/udp"])

    def withdraw(wall: Wall) -> Endpoint:
        return wall.unexpose(tenant.name, "9090:80/udp")

    with tenant.host.serve(udp=[80]), Stream(node.lab.lan, NODE4, 8080, udp=True) as other:
        for step in range(1, 100):
            if len(node.wall.endpoint(tenant.name).bindings) == 1:
                node.wall.expose(tenant.name, "9090:80/udp")
            with Stream(node.lab.lan, NODE4, 9090, udp=True) as client:
                assert client.ask(node.token())
                killed = killed_at(node, withdraw, step)
                with reopened(node) as wall:
                    wall.reconcile()
                    published = len(wall.endpoint(tenant.name).bindings) == 2
                assert client.ask(node.token(), 1.0 if published else 0.1) == published, step
                assert other.ask(node.token())
            if not killed:
                assert not published
                break
        else:
            raise AssertionError("the operation has no end")
    node.detach(tenant)


def test_a_closed_sandbox_passes_nothing_by_an_open_flow(node: World) -> None:
    sandbox = node.attach()
    with Stream(sandbox.host, PUBLIC4, 80, udp=True) as four, Stream(sandbox.host, PUBLIC6, 80, udp=True) as six:
        assert four.ask(node.token())
        assert six.ask(node.token())
        node.detach(sandbox)
        assert not four.ask(node.token(), timeout=0.2)
        assert not six.ask(node.token(), timeout=0.2)


def test_rules_do_not_grow_with_sandboxes(node: World) -> None:
    first = node.attach()
    before = rules(node)
    more = node.wall.attach_many([AttachRequest(container_id=f"many-{number}") for number in range(50)])
    assert rules(node) == before
    node.wall.detach_many([first.endpoint.key, *(endpoint.key for endpoint in more)])
    assert rules(node) == before


def test_up_again_changes_nothing(node: World) -> None:
    sandbox = node.attach(expose=["8083:80"])
    before = saved(node)
    assert not node.wall.up().changed
    assert saved(node) == before
    node.detach(sandbox)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (["{t}", "-w", "-F", "B9-FORWARD"], "our rules were changed"),
        (["{t}", "-w", "-D", "FORWARD", "-j", "B9-FORWARD"], "our rules were changed"),
        (["{t}", "-w", "-I", "FORWARD", "-j", "ACCEPT"], "our rules were changed"),
        (["{t}", "-w", "-t", "raw", "-F"], "our rules were changed"),
        (["{t}", "-w", "-t", "nat", "-F", "B9-DNAT"], "missing rule"),
        (["{t}", "-w", "-t", "nat", "-A", "B9-DNAT", "-p", "tcp", "--dport", "9", "-j", "ACCEPT"], "unknown rule"),
        (["ipset", "del", "b9floor4", "10.0.0.0/8"], "our rules were changed"),
        (["ipset", "add", "b9opened4", "10.0.0.2,tcp:80"], "our rules were changed"),
        (["ipset", "flush", "b9version4"], "missing entry in b9version4"),
        (["ipset", "add", "b9exposed4", "192.168.9.9,tcp:80"], "unknown entry in b9exposed4"),
    ],
)
def test_what_somebody_changed_is_named_repaired_and_then_gone(node: World, damage: list[str], named: str) -> None:
    sandbox = node.attach(expose=["8084:80"])
    sandbox.host.serve(tcp=[80])
    before = saved(node)
    node.lab.node.run([word.format(t=f"iptables-{variant(node)}") for word in damage])
    drift = node.wall.status().drift
    assert any(line.startswith(named) for line in drift), drift
    assert node.wall.reconcile().repaired
    assert_converged(node.wall)
    node.lab.node.run([f"iptables-{variant(node)}", "-w", "-D", "FORWARD", "-j", "ACCEPT"], check=False)
    assert saved(node) == before
    assert_connection(sandbox.host, PUBLIC4, 80)
    assert_connection(node.lab.lan, NODE4, 8084)
    node.detach(sandbox)


def test_an_attach_that_cannot_publish_its_port_leaves_nothing(node: World) -> None:
    def refuse(*_: object) -> NoReturn:
        raise KernelError(12, "load rules")

    host = node.wall._site.iptables()
    without = Host(Wrapped(host.tables, restore=refuse), host.sets, host.glance)
    before = saved(node)
    place = node.host()
    with pytest.raises(KernelError, match="load rules"):
        rewired(node.wall, iptables=lambda: without).attach("refused", netns=place.netns, expose=["8085:80"])
    with pytest.raises(NotFound):
        node.wall.endpoint("refused")
    assert saved(node) == before
    assert_converged(node.wall)


def test_a_port_leads_to_a_sandbox_only_while_that_is_open(node: World) -> None:
    """The rule of a published port comes after the entries that let its flows through, and goes after them as well:
    a flow that is translated before is refused, and its entry in connection tracking outlives that."""
    sandbox = node.attach()
    host = node.wall._site.iptables()
    entries: list[tuple[str, int]] = []

    def restore(variant: Variant, family: Family, text: str) -> None:
        name = "b9exposed4" if family == "ipv4" else "b9exposed6"
        change = "published" if "-A B9-DNAT" in text else "withdrawn"
        entries.append((f"{change} {family}", len(host.sets.entries(name))))
        host.tables.restore(variant, family, text)

    observed = Host(Wrapped(host.tables, restore=restore), host.sets, host.glance)
    watched = rewired(node.wall, iptables=lambda: observed)
    watched.expose(sandbox.name, "8090:80")
    watched.unexpose(sandbox.name, "8090:80")
    assert entries == [
        ("published ipv4", 1),
        ("published ipv6", 1),
        ("withdrawn ipv4", 0),
        ("withdrawn ipv6", 0),
    ]
    node.detach(sandbox)


def test_families_are_laid_at_once_but_where_their_programs_wait_for_one_lock(node: World) -> None:
    """Whoever waits for the lock of the legacy programs waits a second longer than it is held."""
    host = node.wall._site.iptables()
    begun = threading.Barrier(2, timeout=10 if variant(node) == "nft" else 0.3)
    together: list[Family] = []

    def restore(variant: Variant, family: Family, text: str) -> None:
        if family != "bridge":
            with suppress(threading.BrokenBarrierError):
                begun.wait()
                together.append(family)
        host.tables.restore(variant, family, text)

    observed = Host(Wrapped(host.tables, restore=restore), host.sets, host.glance)
    node.lab.node.run([f"iptables-{variant(node)}", "-w", "-F", "FORWARD"])
    assert rewired(node.wall, iptables=lambda: observed).up().changed
    assert sorted(together) == (["ipv4", "ipv6"] if variant(node) == "nft" else [])
    assert node.wall.status().drift == ()


def died(world: World, step: int, operation: Callable[[Wall], object]) -> bool:
    """Killed before its n-th call of an adapter, those of iptables among them."""

    def act(doom: Doom) -> None:
        wall = Wall.open(root=world.lab.root, settings=world.wall.settings)
        host = wall._site.iptables()
        dying = Host(*(Stepped(each, doom) for each in (host.tables, host.sets, host.glance)))
        operation(rewired(stepped(wall, doom), iptables=lambda: dying))

    return child_killed_at(step, act)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["attach", "expose", "unexpose", "detach"])
def test_a_death_at_any_step_is_repaired(node: World, verb: str) -> None:
    place = node.host()
    bound = ["8086:80"] if verb in ("attach", "unexpose", "detach") else []
    for step in range(1, 200):
        if verb != "attach":
            node.wall.attach("mortal", netns=place.netns, expose=bound)
        act: dict[str, Callable[[Wall], object]] = {
            "attach": lambda wall: wall.attach("mortal", netns=place.netns, expose=bound),
            "expose": lambda wall: wall.expose("mortal", "8086:80"),
            "unexpose": lambda wall: wall.unexpose("mortal", "8086:80"),
            "detach": lambda wall: wall.detach("mortal"),
        }
        killed = died(node, step, act[verb])
        node.wall.enable_bridge_netfilter()  # the next operation of anybody
        assert node.wall.status().drift == ()
        node.wall.detach("mortal")
        if not killed:
            break
    node.wall.reconcile()
    assert node.wall.status().drift == ()
    assert step > 4, "it died nowhere"


def test_sets_of_another_program_are_replaced_with_everything_that_refers_to_them(node: World) -> None:
    sandbox = node.attach(expose=["8088:80"])
    sandbox.host.serve(tcp=[80])
    host = node.lab.node
    definitions = node.wall._site.iptables().sets.definitions()
    for family in FAMILIES:  # a restore without --noflush takes a table's rules
        for table in ("raw", "mangle", "nat", "filter", "security"):
            host.run([f"{family}-{variant(node)}-restore", "--wait"], input=f"*{table}\nCOMMIT\n".encode())
    host.run(["ipset", "destroy", "b9version4"])
    host.run(["ipset", "create", "b9version4", "hash:net"])
    assert node.wall.reconcile().repaired
    assert node.wall._site.iptables().sets.definitions() == definitions
    assert_converged(node.wall)
    assert_connection(sandbox.host, PUBLIC4, 80)
    assert_connection(node.lab.lan, NODE4, 8088)
    node.detach(sandbox)
