"""Clients of a published port who are none: anybody outside begins flows under any address, and a bound of clients must
not be full of these for longer than a client would wait."""

import re
import socket
import time
from collections.abc import Iterator

import pytest

from cellwall.attack.frames import frame, packet
from cellwall.lab.addresses import NODE4, NODE6
from cellwall.model.settings import Settings
from world import Sandbox, World, open_world, public

pytestmark = pytest.mark.root
IPS = pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
NODE = {4: NODE4, 6: NODE6}
LIMIT = 16
HALF_OPEN = 10
"""Seconds."""
_SILENT = b"table inet silent { chain silent { type filter hook input priority 0; tcp dport 82 drop; }; }"


@pytest.fixture(scope="module", params=["nftables", "iptables"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with open_world(settings=Settings(connections=LIMIT, backend=request.param)) as world:
        yield world


@pytest.fixture(scope="module")
def published(world: World) -> Sandbox:
    sandbox = world.attach("web")
    world.wall.expose(sandbox.name, "8080:80")
    world.wall.expose(sandbox.name, "8080:80/udp")
    sandbox.host.serve(tcp=[80])
    return sandbox


def forge(world: World, family: int, protocol: str, port: int, count: int) -> None:
    """A first packet each of so many clients that do not exist."""
    outside, there = world.lab.internet, world.lab.node.mac("eth0")
    source = "45.7.{}.9" if family == 4 else "2a04:4e42:77::{}:9"
    bodies = [
        packet(source.format(one + 1), NODE[family], protocol, b"forged", sport=1025 + one, dport=port)
        for one in range(count)
    ]
    outside.inject("eth0", [frame(outside.mac("eth0"), there, body) for body in bodies])


def known(world: World, family: int, protocol: str, port: int) -> list[tuple[str, int]]:
    """The state and the seconds left of all flows to a port of the node."""
    query = ["conntrack", "-L", "-f", f"ipv{family}", "-p", protocol, "--orig-port-dst", str(port)]
    found = re.findall(r"^\w+ +\d+ (\d+) ([A-Z_]*)", world.lab.node.run(query).text, re.MULTILINE)
    return [(state, int(left)) for left, state in found]


def wait_for_flows(world: World, family: int, protocol: str, port: int, state: str) -> list[tuple[str, int]]:
    for _ in range(100):
        flows = known(world, family, protocol, port)
        if any(one == state for one, _ in flows):
            return flows
        time.sleep(0.05)
    raise AssertionError(f"no flow is in {state or 'the table'}: {flows}")


@IPS
@pytest.mark.parametrize(
    ("protocol", "port", "state"),
    [("tcp", 8080, "SYN_RECV"), ("udp", 8080, "")],
    ids=["a SYN that is answered", "a datagram"],
)
def test_a_flow_that_its_client_does_not_complete_is_soon_forgotten(
    world: World, published: Sandbox, family: int, protocol: str, port: int, state: str
) -> None:
    if protocol == "udp" and world.wall.settings.backend == "iptables":
        pytest.skip("what is said in `raw` is said of every packet, and UDP has no first one")
    forge(world, family, protocol, port, 4)
    flows = wait_for_flows(world, family, protocol, port, state)
    assert max(left for _, left in flows) <= HALF_OPEN


@IPS
def test_a_syn_that_nobody_answers_is_soon_forgotten(world: World, family: int) -> None:
    """The container takes nothing: as one whose queue is full."""
    silent, port = world.attach("silent"), 8080 + family
    world.wall.expose(silent.name, f"{port}:82")
    silent.host.run(["nft", "-f", "-"], input=_SILENT)
    forge(world, family, "tcp", port, 4)
    assert max(left for _, left in wait_for_flows(world, family, "tcp", port, "SYN_SENT")) <= HALF_OPEN


@IPS
def test_a_client_that_completes_its_connection_keeps_it(world: World, published: Sandbox, family: int) -> None:
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    with world.lab.internet.socket(kind, socket.SOCK_STREAM) as client:
        client.bind((public(family), 0))
        client.settimeout(10)
        client.connect((NODE[family], 8080))
        flows = wait_for_flows(world, family, "tcp", 8080, "ESTABLISHED")
    assert max(left for state, left in flows if state == "ESTABLISHED") > 1000


@pytest.mark.full
def test_a_syn_that_nobody_answers_arrives_whenever_it_is_sent_again(world: World) -> None:
    """After 3 seconds, and after 7: in iptables a half-open flow has then no more time left than one that has ended."""
    arrived = {}
    for family, port in ((4, 8094), (6, 8096)):
        silent = world.attach(f"deaf-{family}", expose=[f"{port}:82"])
        silent.host.run(["nft", "-f", "-"], input=_COUNTING + _SILENT)
        arrived[family, port] = silent.host
    begun = time.monotonic()
    for number, after in enumerate((0, 1, 3, 7), 1):
        time.sleep(max(begun + after - time.monotonic(), 0))
        for (family, port), silent in arrived.items():
            forge(world, family, "tcp", port, 1)
            wait_for_flows(world, family, "tcp", port, "SYN_SENT")
            counted = silent.run(["nft", "list", "table", "inet", "counting"]).text
            assert f"packets {number} " in counted


_COUNTING = b"table inet counting { chain c { type filter hook prerouting priority -300; tcp dport 82 counter; }; }\n"


@pytest.mark.slow
def test_forged_clients_shut_a_published_port_for_seconds_alone(world: World) -> None:
    """More than may be at once: whoever comes next waits no longer than a flow that is not completed stands."""
    other = world.attach("shut")
    world.wall.expose(other.name, "8083:83")
    with other.host.serve(tcp=[83]):
        forge(world, 4, "tcp", 8083, 2 * LIMIT)
        begun = time.monotonic()
        with world.lab.internet.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
            client.settimeout(60)
            client.connect((NODE[4], 8083))
        assert time.monotonic() - begun < HALF_OPEN + 20  # between its tries a TCP waits, the longer the later
