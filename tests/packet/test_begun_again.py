"""Connections that begin again within flows that have ended, which the kernel takes off its count for good; and who is
not hurt who connects anew from a port of before."""

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest

from cellwall.attack.rows.ended import Kept, _hushed, reopen
from cellwall.attack.rows.exhaustion import forget
from cellwall.attack.stage import SETTINGS, WalledStage, walled_stage
from cellwall.lab import Host
from world import open_world, public

pytestmark = pytest.mark.root
LIMIT = 100
TOKEN = b"<connections that end>"
PORT, SERVED = 30001, 80
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


# ---------------------------------------------------------------- who is not hurt


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@contextmanager
def _listening(host: Host, family: int) -> Iterator[socket.socket]:
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    with host.socket(kind, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((public(family), SERVED))
        sock.listen(8)
        sock.settimeout(20)
        yield sock


def _connect(client: Host, family: int) -> socket.socket:
    """From the same port each time."""
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    sock = client.socket(kind, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("", PORT))
    sock.settimeout(20)
    sock.connect((public(family), SERVED))
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
