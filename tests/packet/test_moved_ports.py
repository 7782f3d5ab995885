"""A published port that moves to another container leads there for everybody, also for a client that keeps its source
port: what conntrack remembers of the former holder is forgotten, and nothing else is."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cellwall.api import Wall
from cellwall.lab.addresses import NODE, NODE4, NODE6, NODE_INFRA4
from cellwall.lab.host import Host
from cellwall.model.endpoint import Endpoint
from engine.steps import killed_at, reopened
from world import PUBLIC4, PUBLIC6, Sandbox, Stream, World, open_world

pytestmark = pytest.mark.root
Move = Callable[[World, Sandbox, str], Sandbox]
PORT = 8080


@pytest.fixture(scope="module")
def shared() -> Iterator[World]:
    with open_world() as world:
        yield world


@pytest.fixture
def node_lab(shared: World) -> Iterator[World]:
    yield shared
    shared.wall.detach_many([endpoint.key for endpoint in shared.wall.endpoints()])


def by_exposure(world: World, holder: Sandbox, binding: str) -> Sandbox:
    world.wall.unexpose(holder.name, binding)
    successor = world.attach("successor")
    world.wall.expose(successor.name, binding)
    return successor


def by_attachment(world: World, holder: Sandbox, binding: str) -> Sandbox:
    world.detach(holder)
    return world.attach("successor", expose=[binding])


def by_claim(world: World, holder: Sandbox, binding: str) -> Sandbox:
    world.detach(holder)
    assert world.wall.fill_pool(1) == 1
    endpoint = world.wall.claim("successor", expose=[binding])
    return Sandbox(Host(endpoint.key.container_id, Path(endpoint.netns), world.lab._custody), endpoint)


@pytest.mark.parametrize("move", [by_exposure, by_attachment, by_claim])
@pytest.mark.parametrize(
    ("family", "binding"),
    [
        *((family, binding) for family in (4, 6) for binding in ("8080:80/udp", "8070-8090:8070/udp")),
        (4, f"{NODE4}:8080:80/udp"),
        (6, f"[{NODE6}]:8080:80/udp"),
    ],
)
def test_a_client_that_keeps_its_port_is_led_to_the_new_holder(
    node_lab: World, move: Move, binding: str, family: int
) -> None:
    port = 80 if ":80/" in binding else PORT
    former = node_lab.attach("former", expose=[binding])
    with (
        former.host.serve(udp=[port]),
        Stream(node_lab.lab.lan, NODE[family], PORT, udp=True) as client,
        Stream(node_lab.lab.node, NODE[family], PORT, udp=True) as own,
    ):
        assert client.ask(node_lab.token())
        assert own.ask(node_lab.token())
        successor = move(node_lab, former, binding)
        with successor.host.serve(udp=[port]) as services:
            for stream in (client, own):
                token = node_lab.token()
                assert stream.ask(token)
                assert services.saw(token)


@pytest.mark.parametrize("family", [4, 6])
def test_a_client_that_asked_before_the_port_was_published_is_answered_after(node_lab: World, family: int) -> None:
    """Its flow to the node itself is remembered as such, and each packet of it would keep it so."""
    with Stream(node_lab.lab.lan, NODE[family], PORT, udp=True) as client:
        assert not client.ask(node_lab.token(), 0.1)
        tenant = node_lab.attach("tenant", expose=["8080:80/udp"])
        with tenant.host.serve(udp=[80]):
            assert client.ask(node_lab.token()) or client.ask(node_lab.token())  # the first tells of a past refusal


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_it_is_answered_also_where_the_exposure_was_killed_and_is_repeated(node_lab: World) -> None:
    tenant = node_lab.attach("tenant")

    def expose(wall: Wall) -> Endpoint:
        return wall.expose(tenant.name, "8080:80/udp")

    with tenant.host.serve(udp=[80]):
        for step in range(1, 100):
            with Stream(node_lab.lab.lan, NODE4, PORT, udp=True) as client:
                assert not client.ask(node_lab.token(), 0.05)
                killed = killed_at(node_lab, expose, step)
                with reopened(node_lab) as wall:
                    expose(wall)
                assert client.ask(node_lab.token()) or client.ask(node_lab.token()), step
            node_lab.wall.unexpose(tenant.name, "8080:80/udp")
            if not killed:
                return
    raise AssertionError("the operation has no end")


@pytest.mark.parametrize("move", [by_exposure, by_attachment])
@pytest.mark.parametrize("family", [4, 6])
def test_a_client_that_reuses_its_tcp_port_is_led_to_the_new_holder(node_lab: World, move: Move, family: int) -> None:
    """As a balancer does that has few: the old connection was never closed, as far as the node has seen."""
    lan, former = node_lab.lab.lan, node_lab.attach("former", expose=["8080:80"])
    with former.host.serve(tcp=[80]):
        stack = ExitStack()
        with stack, Stream(lan, NODE[family], PORT, source_port=40123) as client:
            assert client.ask(node_lab.token())
            successor = move(node_lab, former, "8080:80")
            abort(client)
        with successor.host.serve(tcp=[80]) as services, Stream(lan, NODE[family], PORT, source_port=40123) as again:
            token = node_lab.token()
            assert again.ask(token)
            assert services.saw(token)


def abort(stream: Stream) -> None:
    """Forget a connection without a packet: TCP_REPAIR closes in silence."""
    stream._sock.setsockopt(socket.IPPROTO_TCP, 19, 1)


def test_everything_else_of_the_holder_and_of_others_is_left_alone(node_lab: World) -> None:
    """Egress to the very same port, another port of the holder's, the same port at another address, one's own flow."""
    lab = node_lab.lab
    holder = node_lab.attach("holder", expose=[f"{NODE4}:8080:80/udp", "8081:80/udp"])
    other = node_lab.attach("other", expose=[f"{NODE_INFRA4}:8080:80/udp"])
    with ExitStack() as stack:
        for sandbox in (holder, other):
            stack.enter_context(sandbox.host.serve(udp=[80]))
        heard = {}
        for family, address in ((4, PUBLIC4), (6, PUBLIC6)):
            version = socket.AF_INET if family == 4 else socket.AF_INET6
            heard[family] = stack.enter_context(lab.internet.socket(version, socket.SOCK_DGRAM))
            heard[family].bind((address, PORT))
            heard[family].settimeout(10)
        egress = {
            (sandbox.name, family): stack.enter_context(Stream(sandbox.host, address, PORT, udp=True))
            for sandbox in (holder, other)
            for family, address in ((4, PUBLIC4), (6, PUBLIC6))
        }

        def seen_from() -> dict[tuple[str, int], object]:
            """The translated source of each, as the Internet has it."""
            peers = {}
            for key, stream in egress.items():
                token = node_lab.token()
                stream.say(token)
                data, peers[key] = heard[key[1]].recvfrom(1 << 16)
                assert data == token
            return peers

        elsewhere = stack.enter_context(Stream(lab.lan, NODE4, 8081, udp=True))
        infra = stack.enter_context(Stream(lab.node, NODE_INFRA4, PORT, udp=True))
        assert elsewhere.ask(node_lab.token())
        assert infra.ask(node_lab.token())
        before, entries = seen_from(), flows(node_lab)
        node_lab.wall.unexpose(holder.name, f"{NODE4}:8080:80/udp")
        node_lab.wall.expose(holder.name, f"{NODE4}:8080:81/udp")
        assert entries <= flows(node_lab)
        assert seen_from() == before
        assert elsewhere.ask(node_lab.token())
        assert infra.ask(node_lab.token())


def flows(world: World) -> set[str]:
    """The tuples that conntrack has."""
    listed = "".join(world.lab.node.run(["conntrack", "-L", "-f", f"ipv{family}"]).text for family in (4, 6))
    words = [[word for word in line.split() if word.partition("=")[0] in _TUPLE] for line in listed.splitlines()]
    return {" ".join(line) for line in words}


_TUPLE = ("src", "dst", "sport", "dport")
