"""Who connects anew from a port of before is not hurt: connections that begin again within flows that have ended are
dropped, and these are not to be taken for such."""

import socket
import time
from collections.abc import Iterator

import pytest

from cellwall.lab.addresses import NODE4, NODE6
from cellwall.model.settings import Settings
from packet.ended_flows import SERVED, from_port, listening, reset
from world import World, open_world, public, sent_again

pytestmark = pytest.mark.root
NFTABLES = Settings(backend="nftables")
NFT, LEGACY = (Settings(backend="iptables", iptables=variant) for variant in ("nft", "legacy"))
TRIED = {
    "nftables, IPv4": (NFTABLES, 4),
    "nftables, IPv6": (NFTABLES, 6),
    "iptables-nft, IPv4": (NFT, 4),
    "iptables-legacy, IPv6": (LEGACY, 6),
}
"""The text of the rules is one for both variants of iptables, so each is tried with one family here."""
AGAIN = {"nftables": 200, "iptables": 60}


@pytest.fixture(scope="module", params=TRIED)
def tried(request: pytest.FixtureRequest) -> tuple[Settings, int]:
    return TRIED[request.param]


@pytest.fixture(scope="module")
def world(tried: tuple[Settings, int]) -> Iterator[World]:
    with open_world(settings=tried[0]) as world:
        yield world


@pytest.fixture
def family(tried: tuple[Settings, int]) -> int:
    return tried[1]


@pytest.mark.parametrize("end", ["the server finishes", "the client resets"])
def test_who_connects_from_the_same_port_again_and_again_waits_for_nothing(world: World, family: int, end: str) -> None:
    times = AGAIN[world.wall.settings.backend]
    with listening(world.lab.internet, family) as server:
        client, again = world.attach("client").host, 0
        for _ in range(times):
            with from_port(client, family) as ours:
                ours.connect((public(family), SERVED))
                theirs, _ = server.accept()
                again += sent_again(ours)
                if end == "the client resets":
                    reset(ours)
                    theirs.close()
                else:
                    theirs.close()
                    assert ours.recv(1) == b""
        assert again < times / 20  # a machine that stands still for a second has a SYN or two sent again


def test_who_was_reset_by_its_server_connects_from_the_same_port_within_seconds(world: World, family: int) -> None:
    with listening(world.lab.internet, family) as server:
        client = world.attach("client").host
        with from_port(client, family) as ours:
            ours.connect((public(family), SERVED))
            theirs, _ = server.accept()
            reset(theirs)
            with pytest.raises(ConnectionResetError):
                ours.recv(1)
        began = time.monotonic()
        with from_port(client, family) as ours:
            ours.connect((public(family), SERVED))
            assert time.monotonic() - began < 10


@pytest.mark.parametrize("spent", [False, True], ids=["whole", "with a TTL that is used up"])
def test_a_client_whom_one_tenant_reset_connects_to_another_from_the_same_port(
    world: World, family: int, spent: bool
) -> None:
    """It still sends in the flow that was reset, of which it does not hear. All tenants have the node's address."""
    client = world.lab.internet
    port, anywhere, node = 8081 + 2 * spent, {4: "0.0.0.0", 6: "::"}[family], {4: NODE4, 6: NODE6}[family]
    one = world.attach(f"one-{port}", tenant="one", expose=[f"{port}:80"]).host
    other = world.attach(f"other-{port}", tenant="other", expose=[f"{port + 1}:80"]).host
    client.run(["nft", "-f", "-"], input=_DEAF % port)
    with listening(one, family, anywhere) as resets, listening(other, family, anywhere) as serves:
        with from_port(client, family) as ours:
            ours.connect((node, port))
            reset(resets.accept()[0])
            if spent:
                level, option = (0, socket.IP_TTL) if family == 4 else (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)
                ours.setsockopt(level, option, 1)
            time.sleep(0.1)
            ours.send(b"more")
            time.sleep(0.1)
            reset(ours)
        with from_port(client, family) as ours:
            ours.connect((node, port + 1))
            serves.accept()[0].close()
            assert ours.recv(1) == b""
            assert sent_again(ours) < 2  # who waits, waits for the second or third
    client.run(["nft", "delete", "table", "inet", "deaf"])


_DEAF = b"table inet deaf { chain deaf { type filter hook input priority 0; tcp sport %d tcp flags rst drop; }; }"
