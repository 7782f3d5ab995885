"""Connections that begin again within flows that have ended, which the kernel takes off its count for good; and who is
not hurt who connects anew from a port of before."""

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import msgspec
import pytest

from cellwall.attack.frames import frame, packet
from cellwall.attack.rows.ended import Kept, _hushed, reopen
from cellwall.attack.rows.exhaustion import forget
from cellwall.attack.rows.floods import numbered
from cellwall.attack.rows.routed import FAR, from_outside
from cellwall.attack.stage import SETTINGS, WalledStage, walled_stage
from cellwall.attack.world import World as Attacked
from cellwall.lab import Host
from cellwall.lab.addresses import NODE
from cellwall.lower.nft import sets
from world import open_world, public

pytestmark = pytest.mark.root
LIMIT = 100
TOKEN = b"<connections that end>"
PORT, SERVED = 30001, 80
FIRST, EXPOSED = 20000, 8443  # of clients' ports; of the attacker's published port
AGAIN = 200
IPS = pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])


@pytest.fixture(scope="module")
def stage() -> Iterator[WalledStage]:
    settings = msgspec.structs.replace(
        SETTINGS, connections=LIMIT, tenant_connections=8192, new_connections=0, packets=0, bytes=0
    )
    with walled_stage(settings) as stage:
        yield stage


@IPS
def test_none_that_its_peer_reset_begins_again_beside_the_bound(stage: WalledStage, family: int) -> None:
    try:
        assert reopen(stage.world, TOKEN, family, LIMIT - 20) <= LIMIT
    finally:
        forget(stage.world)


@IPS
def test_nobody_who_goes_on_sending_in_an_ended_flow_keeps_a_tenant_from_connecting(
    stage: WalledStage, family: int
) -> None:
    """By however many packets of its peer's: more than one a second keep it no better."""
    world, kept = stage.world, Kept(stage.world, TOKEN, family)
    try:
        with _hushed(world):
            world.settle()
            (one, *_) = kept.open(5)
            world.settle()
            kept.end("finished", [one])
            world.settle()
            world.inject("internet", list(kept._into("A", 2, 2, [one])) * 12288)
            world.settle()
            assert len(kept.open(5)) == 5
    finally:
        forget(world)


QUIET = f"""
table inet quiet {{
	chain quiet {{ type filter hook prerouting priority -300; tcp dport {EXPOSED} drop; }}
}}
"""
"""The attacker's own kernel does not reset what it knows nothing of."""


class Clients:
    """A client of the attacker's published port, and the attacker, who answers it: segments of which nobody knows but
    connection tracking. All carry as many bytes."""

    def __init__(self, world: Attacked, family: int) -> None:
        self._world, self._family = world, family
        self._opened = 0

    def open(self, count: int) -> range:
        """So many more; whether or not the wall let them in, both go on as if it had."""
        ports = range(FIRST + self._opened, FIRST + self._opened + count)
        self._opened += count
        self.begin(ports)
        return ports

    def begin(self, ports: range) -> None:
        for answers, flags, sent, got in ((False, "S", 0, 0), (True, "SA", 0, 1), (False, "A", 1, 1)):
            self._send(flags, sent, got, ports, answers=answers)

    def refuse(self, ports: range) -> None:
        """The attacker resets these."""
        self._send("RA", 1, 1, ports, answers=True)

    def remembered(self, state: str = "ESTABLISHED") -> int:
        """How many the node knows to be in that state."""
        query = ["-f", f"ipv{self._family}", "-p", "tcp", "--orig-src", FAR[self._family]]
        known = self._world.node.run(["conntrack", "-L", *query]).text.splitlines()
        return sum(state in line for line in known)

    def _send(self, flags: str, sent: int, got: int, ports: range, *, answers: bool) -> None:
        world, family = self._world, self._family
        ends = (world.attacker.ip(family), FAR[family]) if answers else (FAR[family], world.uplink(family))
        one = packet(*ends, "tcp", TOKEN + b"\xff\xff", sport=0, dport=0)
        segment, size = one["TCP"], len(TOKEN) + 3  # a SYN, or a FIN, is one more
        segment.sport, segment.dport = (EXPOSED, 0) if answers else (0, EXPOSED)
        ours, theirs = (5000, 1000) if answers else (1000, 5000)
        segment.flags, segment.seq, segment.ack = (
            flags,
            ours + size * sent,
            (theirs + size * got) if "A" in flags else 0,
        )
        at = (20 if family == 4 else 40) + (2 if answers else 0)
        bodies = list(numbered(bytes(one), TOKEN, at, ports))
        if answers:
            world.inject("attacker", [bytes(frame(world.attacker.mac, world.gateway.mac, body)) for body in bodies])
        else:
            shots = from_outside("internet", lambda w, t: bodies)(world, TOKEN)
            world.inject("internet", [shot.frame for shot in shots])
        world.settle()
        world.observers.discard()


@IPS
def test_none_of_a_published_port_that_its_server_reset_begins_again_beside_the_bound(
    stage: WalledStage, family: int
) -> None:
    """A tenant and its client outside, who play along, are no more than others."""
    world, clients, last = stage.world, Clients(stage.world, family), range(0)
    world.attacker.host.run(["nft", "-f", "-"], input=QUIET.encode())
    try:
        for number in range(4):
            opened = clients.open(LIMIT - 20)
            assert number or clients.remembered() == LIMIT - 20
            clients.begin(last)
            clients.refuse(opened)
            last = opened
        assert clients.remembered() <= LIMIT
    finally:
        world.attacker.host.run(["nft", "delete", "table", "inet", "quiet"])
        forget(world)


@IPS
def test_what_cannot_be_noted_is_counted_and_told(family: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for one: what is beyond it is dropped all the same."""
    monkeypatch.setattr(sets, "_FLOWS", 1)
    with open_world() as world, _listening(world.lab.internet, family) as server:
        client = world.attach("client").host
        for port, told in ((PORT, 0), (PORT + 1, 1)):
            for begun in range(2):
                with _connecting(client, family, port) as ours:
                    assert bool(ours.connect_ex((public(family), SERVED))) == bool(begun)
                    if not begun:
                        theirs, _ = server.accept()
                        _reset(theirs)
                        with pytest.raises(ConnectionResetError):
                            ours.recv(1)
            notes = [note for note in world.wall.status().notes if "could not be noted" in note]
            assert len(notes) == told
        counted = {one.reason: one.packets for one in world.wall.meters().rules() if one.packets}
        assert counted["begins again, and could not be noted"] >= 1


@contextmanager
def _connecting(client: Host, family: int, port: int) -> Iterator[socket.socket]:
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    with client.socket(kind, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("", port))
        sock.settimeout(0.5)
        yield sock


# ---------------------------------------------------------------- who is not hurt


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@contextmanager
def _listening(host: Host, family: int, address: str = "") -> Iterator[socket.socket]:
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    with host.socket(kind, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address or public(family), SERVED))
        sock.listen(8)
        sock.settimeout(20)
        yield sock


def _connect(client: Host, family: int, address: str = "", *, port: int = PORT) -> socket.socket:
    """From the same port each time; 0: from any."""
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    sock = client.socket(kind, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("", port))
    sock.settimeout(20)
    sock.connect((address or public(family), SERVED))
    return sock


@IPS
@pytest.mark.parametrize("end", ["the server finishes", "the client resets"])
def test_who_connects_from_the_same_port_again_and_again_waits_for_nothing(end: str, family: int) -> None:
    with open_world() as world, _listening(world.lab.internet, family) as server:
        client = world.attach("client").host
        began = time.monotonic()
        for _ in range(AGAIN):
            ours = _connect(client, family)
            theirs, _ = server.accept()
            if end == "the client resets":
                _reset(ours)
                theirs.close()
            else:
                theirs.close()
                assert ours.recv(1) == b""
                ours.close()
        assert time.monotonic() - began < AGAIN * 0.05


@IPS
def test_who_was_reset_by_its_server_connects_from_the_same_port_within_seconds(family: int) -> None:
    with open_world() as world, _listening(world.lab.internet, family) as server:
        client = world.attach("client").host
        ours = _connect(client, family)
        theirs, _ = server.accept()
        _reset(theirs)
        with pytest.raises(ConnectionResetError):
            ours.recv(1)
        ours.close()
        began = time.monotonic()
        with _connect(client, family):
            assert time.monotonic() - began < 10


@pytest.mark.full
@IPS
def test_a_client_that_a_published_port_reset_connects_from_the_same_port_within_seconds(family: int) -> None:
    """Its ports stay what they were, so that an answer is dropped for as long as a SYN is noted."""
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    with open_world() as world, ExitStack() as held:
        host = world.attach("server", expose=["8080:80"]).host
        server = held.enter_context(host.socket(kind, socket.SOCK_STREAM))
        server.bind(("", SERVED))
        server.listen(8)

        def connected() -> socket.socket:
            sock = held.enter_context(world.lab.lan.socket(kind, socket.SOCK_STREAM))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("", PORT))
            sock.settimeout(40)
            sock.connect((NODE[family], 8080))
            return sock

        ours = connected()
        theirs, _ = server.accept()
        _reset(theirs)
        with pytest.raises(ConnectionResetError):
            ours.recv(1)
        ours.close()
        began = time.monotonic()
        connected()
        assert time.monotonic() - began < 20
