"""The daemon is killed, ended and replaced by another version while packets flow: what is allowed loses none, what is
denied passes none, and what was asked for at that moment is done whole or not at all."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cellwall.attack.flood import Flood
from cellwall.client import Client
from cellwall.errors import InvalidSpec
from cellwall.model.addresses import mac_text
from cellwall.model.network import Network
from daemon.customers import Customer
from daemon.served import Daemon, served_node
from packet.test_blink import blinking, to_the_floor
from packet.test_half_replaced import to_the_node
from world import Stream, World, public

pytestmark = pytest.mark.root
GATEWAY = mac_text(Network().bridge_mac)
CUSTOMERS = READY = 4
"""Who is at work while the daemon ends, and sandboxes that the daemon of `pooled` has ready."""


class Served:
    """A node that a daemon keeps, and a client of it in place of the wall."""

    def __init__(self, daemon: Daemon, world: World) -> None:
        self.daemon = daemon
        self.world = world

    def listen(self, seconds: float) -> None:
        """Be its service manager for so long, which takes what it says."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.daemon.heard()
            time.sleep(min(left, 0.01))

    def killed(self) -> None:
        self.daemon.kill()
        self.daemon.start()

    def killed_twice(self) -> None:
        """The second time while it begins."""
        self.daemon.kill()
        self.daemon.start(ready=False)
        time.sleep(random.uniform(0, 1.5))  # at a random moment
        self.killed()

    def ended(self) -> None:
        assert self.daemon.stop() == 0
        self.daemon.start()

    def upgraded(self) -> None:
        self.daemon.version = f"9.{random.randrange(1000)}"
        assert self.daemon.stop() == 0
        self.daemon.start()


@pytest.fixture
def node() -> Iterator[Served]:
    with served_node() as node:
        yield Served(*node)


@pytest.fixture
def pooled() -> Iterator[Served]:
    """With sandboxes that stand ready to be claimed."""
    with served_node(configuration=f"[pool]\nsize = {READY}") as node:
        yield Served(*node)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_in_iptables_open_flows_lose_nothing_and_denied_ones_pass_nothing(variant: str) -> None:
    configuration = f'backend = "iptables"\niptables = "{variant}"'
    with served_node(configuration=configuration) as made:
        node = Served(*made)
        assert node.world.wall.status().mechanism == f"iptables ({variant})"
        with blinking(node.world):
            node.killed()
            node.ended()
            node.upgraded()


HOW = pytest.mark.parametrize("again", [Served.killed, Served.ended, Served.upgraded], ids=lambda how: how.__name__)


@HOW
def test_open_flows_lose_nothing_and_denied_ones_pass_nothing(node: Served, again: Callable[[Served], None]) -> None:
    with blinking(node.world):
        for _ in range(3):
            again(node)


@HOW
def test_a_flood_passes_nothing(node: Served, again: Callable[[Served], None]) -> None:
    world = node.world
    attacker = world.attach("attacker")
    everywhere, at_node = world.lab.internet.serve(udp=[80]), world.lab.node.serve(udp=[80])
    with Flood(
        attacker.host, "eth0", [*to_the_floor(attacker, GATEWAY), *to_the_node(attacker, GATEWAY)], every=0
    ) as flood:
        for _ in range(2):
            flood.wait()
            again(node)
        flood.wait()
        with Stream(attacker.host, public(4), 80, udp=True) as honest:
            assert honest.ask(b"<after all of them>")
        assert not everywhere.saw(b"<flood")
        assert not at_node.saw(b"<flood")
        node.daemon.kill()  # or it would repair
        unlatch_named(world)
        world.lab.node.run(["nft", "flush", "ruleset"])
        assert everywhere.wait_for(b"<flood"), "it is the rules that hold"
        assert at_node.wait_for(b"<flood")


def unlatch_named(world: World) -> None:
    for side in ("ingress", "egress"):
        world.lab.node.run(["tc", "filter", "del", "dev", Network().bridge, side, "pref", "2"])


def busy(node: Served, ends: int, seed: int, *, longest: float = 0.3, operations: int = 0) -> int:
    """Customers at work while the daemon ends at random moments, `longest` seconds after it is there at most, in any of
    the ways there are; how many operations were carried out. Raises what a customer did."""
    chance, stop = random.Random(seed), threading.Event()
    customers = []
    for number in range(CUSTOMERS):
        client = Client.open(root=node.world.lab.root, patience=60)
        customers.append(
            Customer(client, f"c{number}", node.world.host().netns, 8000 + number, seed * CUSTOMERS + number)
        )
    ways = (node.killed, node.killed, node.killed_twice, node.ended, node.upgraded)
    with ThreadPoolExecutor(len(customers)) as threads:
        at_work = [threads.submit(customer.go, stop) for customer in customers]
        try:
            while ends > 0 or sum(customer.done for customer in customers) < operations:
                ends -= 1
                node.listen(chance.uniform(0, longest))  # to a random moment
                chance.choice(ways)()
                if any(each.done() for each in at_work):
                    break
        finally:
            stop.set()
        while not all(each.done() for each in at_work):
            node.listen(0.01)
    for each in at_work:
        each.result()
    assert_whole(node, customers)
    for customer in customers:
        customer.client.close()
    return sum(customer.done for customer in customers)


def assert_whole(node: Served, customers: list[Customer]) -> None:
    """What is there is what was asked for, and nothing is left of what was not."""
    client = node.world.wall
    until_ready(node)
    attached = {endpoint.key.container_id for endpoint in client.endpoints()}
    for customer in customers:
        if customer.known is not None:
            assert (customer.name in attached) == customer.known, customer.name
    assert client.status().drift == ()
    assert client.reconcile().repaired == ()
    for name in attached:
        if name.startswith("c"):
            assert client.verify(name) == ()
    for customer in customers:
        client.detach(customer.name)
        client.release_ports(customer.name)
    assert client.reservations() == ()
    until_ready(node)
    left = {endpoint.key.container_id for endpoint in client.endpoints()}
    client.reconcile()
    links = [line.split(": ")[1] for line in node.world.lab.node.run(["ip", "-o", "link"]).text.splitlines()]
    assert sum(name.startswith("b9h") for name in links) == len(left) + READY
    assert client.status().pending == 0


def until_ready(node: Served) -> None:
    """Wait for the pool to be full: what is made for it is no remainder."""
    while node.world.wall.status().ready != READY:
        node.listen(0.02)


def test_what_a_customer_is_refused_is_raised_and_no_operation(tmp_path: Path) -> None:
    customer = Customer(Client.open(root=tmp_path, patience=0), "no name", "/nowhere", 8000)
    with pytest.raises(InvalidSpec, match="no name"):
        customer.go(threading.Event())
    assert (customer.known, customer.done) == (None, 0)


def test_ended_at_random_moments_it_leaves_nothing_half_done_and_nothing_open(pooled: Served) -> None:
    node, world = pooled, pooled.world
    attacker = world.attach("attacker")
    everywhere, at_node = world.lab.internet.serve(udp=[80]), world.lab.node.serve(udp=[80])
    frames = [*to_the_floor(attacker, GATEWAY), *to_the_node(attacker, GATEWAY)]
    with Flood(attacker.host, "eth0", frames, every=0.001) as flood:
        assert busy(node, 6, 1) >= CUSTOMERS  # each ends what it has begun
        flood.wait()
        with Stream(attacker.host, public(4), 80, udp=True) as honest:
            assert honest.ask(b"<after all of them>")
    assert not everywhere.saw(b"<flood")
    assert not at_node.saw(b"<flood")


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_ended_during_ten_thousand_operations_it_leaves_nothing_half_done(pooled: Served) -> None:
    assert busy(pooled, 1, 2, longest=4.0, operations=10_000) >= 10_000
