"""Connections that have ended, with the wall in iptables: how many a sandbox can keep up or begin again, and who is not
hurt by the bound."""

import time
from collections.abc import Iterator
from typing import get_args

import msgspec
import pytest

from cellwall.attack.frames import scapy
from cellwall.attack.rows.ended import ROUND, Kept, Way, _hushed, hold, reopen
from cellwall.attack.rows.exhaustion import forget
from cellwall.attack.rows.routed import FAR
from cellwall.attack.stage import SETTINGS, WalledStage, walled_stage
from packet.ended_flows import QUIET, SERVED, TOKEN, Clients, from_port, listening
from world import sent_again

pytestmark = pytest.mark.root
LIMIT, OPEN = 300, 400
TRIED = 3600
FAMILIES = {"nft": 4, "legacy": 6}
"""The text of the rules is one for both variants, so each is tried with one family here."""


@pytest.fixture(scope="module", params=FAMILIES)
def stage(request: pytest.FixtureRequest) -> Iterator[WalledStage]:
    settings = msgspec.structs.replace(
        SETTINGS,
        backend="iptables",
        iptables=request.param,
        nat_ports=(10240, 11263),  # as few as there may be
        connections=OPEN,
        tenant_connections=LIMIT,
        new_connections=0,
        packets=0,
        bytes=0,
    )
    with walled_stage(settings) as stage:
        yield stage


@pytest.fixture
def family(stage: WalledStage) -> int:
    return FAMILIES[stage.wall.settings.iptables]


@pytest.fixture
def kept(stage: WalledStage, family: int) -> Iterator["Spent"]:
    kept = Spent(stage.world, TOKEN, family)
    with _hushed(stage.world):
        stage.world.settle()
        yield kept
    forget(stage.world)


@pytest.fixture
def clients(stage: WalledStage, family: int) -> Iterator[Clients]:
    host = stage.world.attacker.host
    host.run(["nft", "-f", "-"], input=QUIET.encode())
    yield Clients(stage.world, family)
    host.run(["nft", "delete", "table", "inet", "quiet"])
    forget(stage.world)


class Spent(Kept):
    """Who plays along can have a TTL that is used up before the sandbox."""

    spent = False

    def _segment(self, source: str, target: str, flags: str, sent: int, got: int) -> bytes:
        whole = super()._segment(source, target, flags, sent, got)
        if not self.spent or source != FAR[self.family]:
            return whole
        one = (scapy().IP if self.family == 4 else scapy().IPv6)(whole)
        if self.family == 4:
            one.ttl = 1
            del one.chksum
        else:
            one.hlim = 1
        return bytes(one)

    def send(self, number: list[int]) -> None:
        """A packet of who plays along in each of these."""
        self._w.inject("internet", list(self._into("A", 1, 1, number)))

    def go_on(self, number: list[int]) -> None:
        """One of the attacker's."""
        self._w.inject("attacker", list(self._out("A", 1, 1, number)))


@pytest.mark.parametrize("way", get_args(Way))
def test_a_sandbox_keeps_few_ended_connections_however_it_keeps_them_up(
    stage: WalledStage, way: Way, family: int
) -> None:
    """As many as may end at once, as many a second while they are kept, and those that are open just then."""
    try:
        held = hold(stage.world, TOKEN, family, way, TRIED)
    finally:
        forget(stage.world)
    assert held.opened >= TRIED
    assert LIMIT / 2 < held.kept <= LIMIT * (1 + held.seconds) + ROUND


def test_packets_that_go_no_further_than_the_node_keep_none(kept: Spent) -> None:
    """Nobody counts them."""
    numbers = kept.open(50)
    kept.refuse(numbers)
    kept.spent = True
    deadline = time.monotonic() + 30
    while kept.remembered():
        assert time.monotonic() < deadline
        kept.send(numbers)
        time.sleep(0.3)


def test_none_that_its_peer_reset_begins_again_beside_the_bound(stage: WalledStage, family: int) -> None:
    try:
        assert reopen(stage.world, TOKEN, family, OPEN - 20) <= OPEN
    finally:
        forget(stage.world)


def test_a_sandbox_and_its_clients_keep_few_ended_connections(stage: WalledStage, clients: Clients) -> None:
    """Each ends by a packet of the sandbox, and is forgotten within seconds, if it was let in."""
    began = time.monotonic()
    for _ in range(10):
        clients.refuse(clients.open(ROUND))
    elapsed = time.monotonic() - began
    assert clients.remembered("CLOSE") <= LIMIT * (1 + elapsed) + ROUND
    began = time.monotonic()
    while clients.remembered(""):
        assert time.monotonic() - began < 8  # by the node's own settings these have ten seconds
        time.sleep(0.2)


def test_none_of_a_published_port_that_its_server_reset_begins_again_beside_the_bound(clients: Clients) -> None:
    last = range(0)
    for _ in range(4):
        opened = clients.open(OPEN - 20)
        clients.begin(last)
        clients.refuse(opened)
        last = opened
    assert clients.remembered("ESTABLISHED") <= OPEN


def test_none_begins_again_after_either_end_has_kept_it(stage: WalledStage, kept: Spent) -> None:
    """For longer than anything is noted of when it was reset. What a busy machine keeps too late is gone, and new."""
    deadline, opened = time.monotonic() + 60, True
    while opened:
        assert time.monotonic() < deadline
        by_attacker, by_peer = kept.open(40), kept.open(40)
        numbers = [*by_attacker, *by_peer]
        assert len(numbers) > 40
        kept.refuse(numbers)
        last = time.monotonic()
        waits = []
        for _ in range(10):
            time.sleep(0.4)
            kept.go_on(by_attacker)
            kept.send(by_peer)
            waits.append(time.monotonic() - last)
            last = time.monotonic()
        kept.begin_again(numbers)
        waits.append(time.monotonic() - last)
        opened = kept.remembered("ESTABLISHED") + kept.remembered("SYN_RECV") > 0
        assert not opened or max(waits) > 1.5
        forget(stage.world)


# ---------------------------------------------------------------- who is not hurt


def test_nobody_who_goes_on_sending_in_an_ended_flow_keeps_a_sandbox_from_connecting(
    stage: WalledStage, kept: Spent
) -> None:
    (one, *_) = kept.open(5)
    kept.end("finished", [one])
    stage.world.settle()
    stage.world.inject("internet", list(kept._into("A", 2, 2, [one])) * 4096)
    stage.world.settle()
    assert len(kept.open(5)) == 5


def test_a_neighbour_gets_answers_of_a_server_that_has_just_reset_others(stage: WalledStage, kept: Spent) -> None:
    """From another port of the server's, and so to the same ports of the node's: of those there are few here."""
    numbers, family = kept.open(380), kept.family
    kept.refuse(numbers)
    internet, victim = stage.lab.internet, stage.world.victim.host
    internet.run(["ip", "address", "add", FAR[family], "dev", "lo"])
    try:
        with listening(internet, family, FAR[family]) as server:
            again = 0
            for _ in range(20):
                with from_port(victim, family, port=0) as ours:
                    ours.connect((FAR[family], SERVED))
                    server.accept()[0].close()
                    again += sent_again(ours)
            assert again < 3  # whose answer was dropped, asks again after a second
    finally:
        internet.run(["ip", "address", "del", FAR[family], "dev", "lo"])
    assert len(numbers) > 200
