"""The wall under replacement: what is allowed loses no packet, what is denied passes none, at no moment.

A sender numbers its packets, so a lost one is a missing number at the receiver; a denied packet that passed is a
token where none may be. The kernel swaps a table in one transaction, so there is no right answer but nought.
"""

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from ipaddress import ip_network

import msgspec
import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from cellwall.api import AttachRequest, PortBinding
from cellwall.attack.flood import Flood
from cellwall.lab.addresses import NODE4, NODE6
from cellwall.lab.services import Services
from cellwall.model.addresses import mac_text
from cellwall.model.settings import Settings, parse_openings
from cellwall.names import SPARE_TABLE, TABLE
from world import Sandbox, Stream, World, open_world, public, rewired, ruleset, sent_again

pytestmark = pytest.mark.root
PAUSE = 0.0003
"""Seconds between some datagrams and the next, each of another flow."""
PATIENCE = 20.0
"""Seconds for a connection that nothing is lost of."""


class Traffic:
    """Continuous flows: allowed ones, every datagram of which must arrive, and denied ones, none of which may.

    One thread sends for all of them, in turns: a moment that some of them would feel meets some, and the processor is
    left to what is tested.
    """

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._more = threading.Condition()
        self._datagrams: dict[str, socket.socket] = {}
        self.sent: dict[str, int] = {}
        self.failed: list[str] = []

    def udp(self, name: str, sandbox: Sandbox, address: str, port: int) -> None:
        """Datagrams `<name N>`; what the sender is told of a refusal is nothing to it."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = sandbox.host.socket(family, socket.SOCK_DGRAM)
        sock.connect((address, port))
        self._datagrams[name] = sock
        self.sent[name] = 0

    def tcp(self, name: str, sandbox: Sandbox, address: str, port: int) -> None:
        """New connections, one after the other, each of which must be answered to count, and without a second try: a
        processor that is busy is no lost packet, and a lost packet is sent again."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.sent[name] = 0

        def run() -> None:
            while not self._stop.wait(2 * PAUSE):
                with sandbox.host.socket(family, socket.SOCK_STREAM) as sock:
                    sock.settimeout(PATIENCE)
                    try:
                        sock.connect((address, port))
                        sock.send(f"<{name}>".encode())
                        sock.recv(100)
                        if again := sent_again(sock):
                            self.failed.append(f"{name}: lost packets: {again}")
                        self.sent[name] += 1
                        self._tell()
                    except OSError as error:
                        self.failed.append(f"{name}: {error}")

        self._start(run)

    def start(self) -> None:
        """Send the datagrams of all flows, from now on."""
        self._start(self._send)

    def go_on(self, packets: int = 20) -> None:
        """Return when each flow has sent that many more, connections counted as one packet."""
        with self._more:
            aims = {name: sent + packets for name, sent in self.sent.items()}
            assert self._more.wait_for(lambda: all(self.sent[name] >= aims[name] for name in aims), 30), self.sent

    def _send(self) -> None:
        while not self._stop.is_set():
            for place, (name, sock) in enumerate(self._datagrams.items()):
                with suppress(OSError):
                    sock.send(f"<{name} {self.sent[name]}>".encode())
                    self.sent[name] += 1
                if place % 3 == 0:
                    self._stop.wait(PAUSE)
            self._tell()
        for sock in self._datagrams.values():
            sock.close()

    def _tell(self) -> None:
        with self._more:
            self._more.notify_all()

    def _start(self, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(5)

    def lost(self, name: str, services: Services) -> list[int]:
        arrived = {bytes(seen) for seen in services.seen}
        return [number for number in range(self.sent[name]) if f"<{name} {number}>".encode() not in arrived]


def to_the_floor(sandbox: Sandbox, gateway_mac: str) -> list[bytes]:
    """Frames to the metadata addresses."""
    ether = Ether(src=mac_text(sandbox.endpoint.mac), dst=gateway_mac)
    heads = [
        IP(src=sandbox.address(4), dst="169.254.169.254"),
        IPv6(src=sandbox.address(6), dst="fd00:ec2::254"),
    ]
    return [bytes(ether / head / UDP(sport=5, dport=80) / Raw(b"<flood>")) for head in heads]


@contextmanager
def blinking(world: World) -> Iterator[tuple[World, Sandbox]]:
    """Traffic while the block runs; judged at its end."""
    lab = world.lab
    mover = world.attach("mover", tenant="mover", expose=["8088:88/udp", "9090-9091:9090/udp"])
    victim = world.attach("victim")
    everywhere = lab.internet.serve(tcp=[80], udp=[80])
    at_victim, at_node, at_mover = (
        victim.host.serve(udp=[80]),
        lab.node.serve(udp=[80]),
        mover.host.serve(udp=[88, 9091]),
    )
    traffic = Traffic()
    for family in (4, 6):
        traffic.udp(f"egress{family}", mover, public(family), 80)
        traffic.udp(f"ingress{family}", Sandbox(lab.lan, mover.endpoint), NODE4 if family == 4 else NODE6, 8088)
        traffic.udp(f"range{family}", Sandbox(lab.lan, mover.endpoint), NODE4 if family == 4 else NODE6, 9091)
        traffic.udp(f"neighbour{family}", mover, victim.address(family), 80)
        traffic.udp(f"node{family}", mover, NODE4 if family == 4 else NODE6, 80)
        traffic.udp(f"metadata{family}", mover, "169.254.169.254" if family == 4 else "fd00:ec2::254", 80)
        traffic.udp(f"unpublished{family}", Sandbox(lab.lan, mover.endpoint), NODE4 if family == 4 else NODE6, 8089)
    traffic.tcp("connections", mover, public(4), 80)
    traffic.start()
    try:
        traffic.go_on()
        yield world, mover
        traffic.go_on()
    finally:
        traffic.stop()
    for family in (4, 6):
        with Stream(mover.host, public(family), 80, udp=True) as last:  # behind whatever is still on its way
            assert last.ask(b"<last>")
        assert traffic.lost(f"egress{family}", everywhere) == []
        assert traffic.lost(f"ingress{family}", at_mover) == []
        assert traffic.lost(f"range{family}", at_mover) == []
        assert not everywhere.saw(f"<metadata{family}".encode())
        assert not at_node.saw(f"<node{family}".encode())
        assert not at_mover.saw(f"<unpublished{family}".encode())
    assert at_victim.seen == []
    assert traffic.failed == []
    assert world.wall.status().drift == ()


@pytest.fixture
def world() -> Iterator[World]:
    with open_world() as world:
        yield world


def test_a_connection_whose_first_packet_was_lost_counts_as_a_blink(world: World) -> None:
    chain = "type filter hook input priority 0; tcp dport 80 quota 100 bytes drop;"  # one, it is sent again
    world.lab.internet.run(["nft", "-f", "-"], input=f"table ip t {{ chain c {{\n{chain}\n}}\n}}".encode())
    with pytest.raises(AssertionError, match="connections: lost packets: 1"), blinking(world):
        pass


def test_nothing_blinks_while_up_is_repeated(world: World) -> None:
    with blinking(world):
        for _ in range(10):
            world.wall.up()


def test_nothing_blinks_while_the_program_is_upgraded(world: World) -> None:
    """Another version of the program meets the rules of the one before, with endpoints attached."""
    with blinking(world):
        for number in range(6):
            newer = rewired(world.wall, program=f"9.{number}")
            newer.up()
            newer.attach(f"by-{number}")


def test_nothing_blinks_while_the_rules_are_replaced_whole(world: World) -> None:
    """What an upgrade that changes sets does: the recorded digests are of other rules, everything is loaded anew."""
    with blinking(world):
        for number in range(6):
            _replace_whole(world, number)


@pytest.mark.slow
def test_a_flood_to_the_floor_passes_nothing_while_the_rules_are_replaced_whole(world: World) -> None:
    """At full speed: a moment in which a chain or the floor is empty lets a packet through, and its flow after it."""
    attacker, everywhere = world.attach("attacker"), world.lab.internet.serve(udp=[80])
    _flooded(world, attacker, everywhere, [partial(_replace_whole, world, number) for number in range(10)])


@pytest.mark.slow
def test_a_flood_to_the_floor_passes_nothing_while_the_floor_is_refilled(world: World) -> None:
    """The floor is emptied and filled in the transaction that refreshes the rules."""
    attacker, everywhere = world.attach("attacker"), world.lab.internet.serve(udp=[80])

    def refill(number: int) -> None:
        world.lab.node.run(["ip", "address", "add", f"9.9.{number}.1/24", "dev", "eth1"])
        assert world.wall.up().changed

    _flooded(world, attacker, everywhere, [partial(refill, number) for number in range(8)])


def _flooded(world: World, attacker: Sandbox, everywhere: Services, changes: Sequence[Callable[[], None]]) -> None:
    frames = to_the_floor(attacker, mac_text(world.wall.settings.network.bridge_mac))
    with Flood(attacker.host, "eth0", frames, every=0) as flood:
        for change in changes:
            flood.wait()
            before = flood.rounds
            change()
            assert flood.rounds > before, "no flood while it changed"
        with Stream(attacker.host, public(4), 80, udp=True) as honest:
            assert honest.ask(b"<after all of them>")
        assert not everywhere.saw(b"<flood")
        # It is the floor that holds: the same flood is through as soon as it is empty.
        world.lab.node.run(["nft", "flush", "set", "inet", TABLE, "floor4"])
        assert everywhere.wait_for(b"<flood")


def _replace_whole(world: World, number: int) -> None:
    site = world.wall._site
    found = site.foundation()
    assert found is not None
    older = msgspec.structs.replace(found, rules="older", sets="older", program=f"0.{number}")
    with site.journal.transaction():
        site.journal.put("foundation", msgspec.json.encode(older))
    world.wall.up()
    assert SPARE_TABLE not in ruleset(world)


def test_nothing_blinks_while_the_rules_are_refreshed_with_their_sets_kept(world: World) -> None:
    with blinking(world):
        for number in range(8):
            opened = parse_openings(f"resolver 10.0.0.{number + 1} udp/53", "network.exceptions")
            changed = Settings(exceptions=opened)
            rewired(world.wall, settings=changed).up()
        world.wall.up()


def test_nothing_blinks_while_addresses_of_the_node_come_and_go(world: World) -> None:
    with blinking(world):
        for number in range(6):
            world.lab.node.run(["ip", "address", "add", f"9.9.{number}.1/24", "dev", "eth1"])
            assert world.wall.up().changed


def test_nothing_blinks_while_a_hundred_others_come_and_go(world: World) -> None:
    with blinking(world):
        for number in range(100):
            world.wall.attach(f"other-{number}")
            world.wall.detach(f"other-{number}")


def test_nothing_blinks_while_new_forms_of_exposure_get_their_rules(world: World) -> None:
    with blinking(world) as (_, mover):
        other = world.attach("other")
        for length in range(8, 16):
            binding = PortBinding("tcp", 7000, 80, sources=(ip_network(f"93.0.0.0/{length}"),))
            world.wall.expose(other.name, binding)
            world.wall.unexpose(other.name, binding)
        world.wall.expose(mover.name, "9000-9010:9000")
        world.wall.unexpose(mover.name, "9000-9010:9000")


def test_nothing_blinks_while_the_policy_version_changes(world: World) -> None:
    """Withdrawing another port gives the endpoint a new version: all its flows are judged anew, none pauses."""
    with blinking(world) as (_, mover):
        for _ in range(40):
            world.wall.expose(mover.name, "8090:90")
            world.wall.unexpose(mover.name, "8090:90")


def test_nothing_blinks_while_an_update_fails(world: World) -> None:
    """A transaction with one bad element changes nothing, and neither does a text that the kernel refuses."""
    from cellwall.errors import CellwallError

    rules = world.wall._site.rules
    with blinking(world) as (_, mover):
        for _ in range(10):
            with pytest.raises(CellwallError):
                rules.load("delete table inet cellwall\ntable inet cellwall { chain x { jump nowhere; }; }\n")
            _refused_batch(world, mover)


def _refused_batch(world: World, mover: Sandbox) -> None:
    from cellwall.engine.nftables.desired import desired_elements
    from cellwall.errors import KernelError
    from cellwall.lower.nft.elements import changes

    elements = list(desired_elements([mover.endpoint]))
    with pytest.raises(KernelError):  # deleted, deleted again: the second is refused, and with it the first
        world.wall._site.rules.apply((*changes("delete", elements), *changes("delete", elements[:1])))


def test_nothing_blinks_under_reconcile_and_a_burst_of_attachments(world: World) -> None:
    def names(number: int) -> Sequence[AttachRequest]:
        return [AttachRequest(container_id=f"burst-{number}-{index}") for index in range(20)]

    with blinking(world):
        for number in range(3):
            world.wall.attach_many(names(number))
            world.wall.reconcile()
            world.wall.detach_many([request.key for request in names(number)])
        world.wall.reconcile()
