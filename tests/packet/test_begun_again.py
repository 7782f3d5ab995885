"""Connections that begin again within flows that have ended, which the kernel takes off its count for good; and who is
not hurt who connects anew from a port of before."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import msgspec
import pytest

from cellwall.attack.rows.ended import Kept, _hushed, reopen
from cellwall.attack.rows.exhaustion import forget
from cellwall.attack.stage import SETTINGS, WalledStage, walled_stage
from cellwall.lab.addresses import NODE
from cellwall.lower.nft import sets
from packet.ended_flows import KINDS, PORT, QUIET, SERVED, TOKEN, Clients, from_port, listening, reset
from world import open_world, public

pytestmark = pytest.mark.root
LIMIT = 100
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
    monkeypatch.setattr(sets, "ENDED_FLOWS", 1)
    with open_world() as world, listening(world.lab.internet, family) as server:
        client = world.attach("client").host
        for port, told in ((PORT, 0), (PORT + 1, 1)):
            for begun in range(2):
                with from_port(client, family, port, timeout=0.5) as ours:
                    assert bool(ours.connect_ex((public(family), SERVED))) == bool(begun)
                    if not begun:
                        theirs, _ = server.accept()
                        reset(theirs)
                        with pytest.raises(ConnectionResetError):
                            ours.recv(1)
            notes = [note for note in world.wall.status().notes if "could not be noted" in note]
            assert len(notes) == told
        counted = {one.reason: one.packets for one in world.wall.meters().rules() if one.packets}
        assert counted["begins again, and could not be noted"] >= 1


# ---------------------------------------------------------------- who is not hurt


@pytest.mark.full
@IPS
def test_a_client_that_a_published_port_reset_connects_from_the_same_port_within_seconds(family: int) -> None:
    """Its ports stay what they were, so that an answer is dropped for as long as a SYN is noted."""
    kind = KINDS[family]
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
        reset(theirs)
        with pytest.raises(ConnectionResetError):
            ours.recv(1)
        ours.close()
        began = time.monotonic()
        connected()
        assert time.monotonic() - began < 20
