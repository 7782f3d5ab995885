"""A published port whose server listens in one family only: clients of the other one are served by a proxy, and nobody
is who would not be by the wall."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from cellwall.daemon.proxy.proxies import Proxies
from cellwall.errors import Conflict, InvalidSpec, Unsupported
from cellwall.lab import connect
from cellwall.lab.addresses import NODE4, NODE_INFRA, NODE_OTHER
from cellwall.model.endpoint import parse_binding
from cellwall.model.settings import Settings
from packet.proxied import BOTH, LAN, NODE, Proxied, asked, bound_by_another, listening, proxied_world, served
from world import Stream, World, assert_connection, assert_no_connection, open_world

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def world() -> Iterator[Proxied]:
    with proxied_world() as world:
        yield world


@pytest.fixture(autouse=True)
def detached(world: Proxied) -> Iterator[None]:
    yield
    world.detach_all()


@BOTH
def test_clients_of_both_families_reach_a_server_of_one(world: Proxied, family: int, word: str) -> None:
    other = 10 - family
    web = world.attach("web")
    with listening(web.host, other) as server:
        world.wall.expose(web.name, "8081:80")
        assert not asked(world.lab.lan, family, 8081), "without a proxy"
        world.wall.unexpose(web.name, "8081:80")
        world.wall.expose(web.name, f"8080:80/{word}")
        for client in (world.lab.lan, world.lab.internet, world.lab.node):
            for version in (4, 6):
                with client.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_STREAM) as asking:
                    asking.settimeout(10)
                    asking.connect((NODE[version], 8080))
                    serving, peer = server.accept()
                    with serving:
                        serving.sendall(b"answer")
                        assert asking.recv(10) == b"answer"
                    if client is world.lab.lan and version == other:
                        assert peer[0] == LAN[version], "those that no proxy leads are seen as they are"
        world.wall.unexpose(web.name, f"8080:80/{word}")
        assert not asked(world.lab.lan, family) and not asked(world.lab.lan, other)
    assert world.wall.status().drift == ()


@BOTH
def test_a_half_closed_connection_goes_on_in_the_other_direction(world: Proxied, family: int, word: str) -> None:
    """And nothing is read that the other side does not take: a megabyte waits for who reads it late."""
    web, body = world.attach("web", expose=[f"8080:80/{word}"]), bytes(range(256)) * 4096
    with listening(web.host, 10 - family) as server, Stream(world.lab.lan, NODE[family], 8080) as client:
        serving, _ = server.accept()
        with serving:
            client._sock.sendall(b"question")
            client._sock.shutdown(socket.SHUT_WR)
            serving.settimeout(10)
            assert serving.recv(100) + serving.recv(100) == b"question", "and then its end"
            client._sock.settimeout(10)
            serving.sendall(body[:1])
            assert client._sock.recv(1) == body[:1]
            serving.setblocking(False)
            sent = 1
            while sent < len(body):
                try:
                    sent += serving.send(body[sent:])
                except BlockingIOError:
                    break
            serving.settimeout(10)
            got = 1
            while got < sent:
                got += len(client._sock.recv(1 << 16))
            serving.shutdown(socket.SHUT_WR)
            assert client._sock.recv(10) == b""


@BOTH
def test_a_tenant_reaches_no_other_by_the_proxy(world: Proxied, family: int, word: str) -> None:
    with served(world, family, f"8080:80/{word}") as web:
        other = world.attach("other", tenant="other")
        for host in (other.host, web.host):
            for version in (4, 6):
                assert_no_connection(host, NODE[version], 8080)
            gateway = "192.168.0.1" if family == 4 else "fd00:abcd::1"
            assert_no_connection(host, gateway, 8080)
        assert asked(world.lab.lan, family)


@BOTH
def test_clients_come_by_the_uplink_or_are_the_node_also_by_the_proxy(world: Proxied, family: int, word: str) -> None:
    """A program that listens at every address is there for the node's other networks, too; a published port is not."""
    with served(world, family, f"8080:80/{word}"):
        for host, own in ((world.lab.infra, NODE_INFRA), (world.lab.other, NODE_OTHER)):
            assert connect(host, own[family], 8080, timeout=2.0).kind != "answer"
            assert connect(host, NODE[family], 8080, timeout=2.0).kind != "answer"
        assert connect(world.lab.node, NODE_INFRA[family], 8080, timeout=2.0).kind == "answer", "the node's own"
        assert asked(world.lab.lan, family) and asked(world.lab.node, family)


@BOTH
def test_clients_are_those_of_the_binding_also_by_the_proxy(world: Proxied, family: int, word: str) -> None:
    lan = "93.184.216.16/28" if family == 4 else "2606:2800:220:1::20/124"
    with served(world, family, f"8080:80/{word}@{lan}"):
        assert asked(world.lab.lan, family)
        assert not asked(world.lab.internet, family) and not asked(world.lab.node, family)
        assert not asked(world.lab.lan, 10 - family), "that family has no client in the list"


@BOTH
@pytest.mark.parametrize("whose", ["tenant", "container"])
def test_clients_are_those_of_the_policies_and_open_connections_end_with_a_change(
    world: Proxied, family: int, word: str, whose: str
) -> None:
    with served(world, family, f"8080:80/{word}") as web:
        subject = {"tenant": "acme"} if whose == "tenant" else {"container": web.name}
        with Stream(world.lab.lan, NODE[family], 8080) as lan, Stream(world.lab.internet, NODE[family], 8080) as far:
            assert lan.ask(b"<1>") and far.ask(b"<1>")
            world.wall.set_policy({"inbound_cidr_allowlist": [LAN[family]]}, **subject)
            assert lan.ask(b"<2>"), "it goes on"
            assert not far.ask(b"<2>", 1.0) and not asked(world.lab.internet, family)
            world.wall.set_policy({"inbound_cidr_allowlist": [LAN[10 - family]]}, **subject)
            assert not lan.ask(b"<3>", 1.0) and not asked(world.lab.lan, family)
        world.wall.set_policy({"inbound_cidr_allowlist": [LAN[10 - family]], "monitor": True}, **subject)
        assert asked(world.lab.internet, family), "what only watches keeps nobody out"
        world.wall.remove_policy(**subject)


@BOTH
def test_what_is_withdrawn_or_detached_ends_its_connections(world: Proxied, family: int, word: str) -> None:
    spec = f"8080:80/{word}"
    with served(world, family, spec) as web:
        with Stream(world.lab.lan, NODE[family], 8080) as stream:
            assert stream.ask(b"<1>")
            world.wall.unexpose(web.name, spec)
            assert not stream.ask(b"<2>", 1.0) and not asked(world.lab.lan, family)
        world.wall.expose(web.name, spec)
        with Stream(world.lab.lan, NODE[family], 8080) as stream:
            assert stream.ask(b"<1>")
            world.wall.detach(web.name)
            assert not stream.ask(b"<2>", 1.0) and not asked(world.lab.lan, family)


@BOTH
def test_a_reserved_port_is_served_by_the_socket_that_holds_it(world: Proxied, family: int, word: str) -> None:
    (port,) = world.wall.reserve_ports("web").ports
    host = world.host("web")
    with bound_by_another(world.lab.node, 8099), pytest.raises(Conflict, match="nothing can listen there"):
        world.wall.attach("web", netns=host.netns, expose=[f"{port}:80/{word}", "8099:80/tcp6to4"])
    assert connect(world.lab.lan, NODE[family], port, timeout=2.0).kind == "refused", "held, and nobody listens"
    world.wall.attach("web", netns=host.netns, expose=[f"{port}:80/{word}"])
    with host.serve(tcp=[80]):
        assert asked(world.lab.lan, family, port) and asked(world.lab.lan, 10 - family, port)
        world.wall.unexpose("web", f"{port}:80/{word}")
        assert not asked(world.lab.lan, family, port)
        world.wall.expose("web", f"{port}:80/{word}")
        assert asked(world.lab.lan, family, port), "it was held, and listens again"


@pytest.mark.parametrize(("spec", "why"), [
    ("8080:80/udp6to4", "tcp or udp"), ("8080-8081:80/tcp6to4", "one port"),
    ("93.184.216.10:8080:80/tcp6to4", "bind address"), ("[2001:db8::1]:8080:80/tcp4to6", "bind address"),
])  # fmt: skip
def test_what_no_proxy_could_serve_is_refused(spec: str, why: str) -> None:
    with pytest.raises(InvalidSpec, match=why):
        parse_binding(spec)


def test_a_proxy_is_refused_where_a_rate_is_bounded() -> None:
    with open_world(settings=Settings(bytes=20_000, tenant_new_connections=5)) as world:
        world.wall.run_proxies(Proxies())
        said = r"^expose\.proxy: 8080:80/tcp6to4: limits\.bytes, limits\.tenant_new_connections would not hold"
        with pytest.raises(Unsupported, match=said):
            world.attach("web", expose=["8080:80/tcp6to4"])
        web = world.attach("web", expose=["8081:80"])
        with pytest.raises(Unsupported, match=said):
            world.wall.expose(web.name, "8080:80/tcp6to4")


def test_a_port_of_the_node_is_not_captured_by_a_proxy(world: Proxied) -> None:
    web = world.attach("web")
    with listening(world.lab.node, 6, 8080), pytest.raises(Conflict, match="the node itself listens there"):
        world.wall.expose(web.name, "8080:80/tcp6to4")
    assert world.wall.endpoint(web.name).bindings == ()


def test_nobody_is_a_client_who_is_none_of_a_port_that_the_kernel_leads(world: Proxied) -> None:
    """By a link-local address nobody is forwarded to a container."""
    local = next(one for one in world.lab.node.addresses("eth0") if one.startswith("fe80"))
    with served(world, 6, "8080:80/tcp6to4"):
        assert asked(world.lab.lan, 6)
        assert connect(world.lab.lan, f"{local}%eth0", 8080, timeout=1.0).kind != "answer"


@BOTH
def test_both_flows_of_a_connection_that_ended_are_soon_forgotten(world: Proxied, family: int, word: str) -> None:
    """No bound counts them then, as those of other published ports."""
    assert_soon_forgotten(world, family, word)


def test_so_they_are_where_iptables_holds_the_wall() -> None:
    with open_world(settings=Settings(backend="iptables")) as world, ExitStack() as ending:
        proxies = Proxies()
        ending.callback(proxies.close)
        world.wall.run_proxies(proxies)
        assert_soon_forgotten(Proxied(world, proxies), 6, "tcp6to4")


def assert_soon_forgotten(world: Proxied, family: int, word: str) -> None:
    soon = 5
    with served(world, family, f"8080:80/{word}") as sandbox:
        for _ in range(3):
            assert asked(world.lab.lan, family)
        ends = {family: ("--orig-port-dst", "8080"), 10 - family: ("--orig-dst", sandbox.address(10 - family))}
        for version, query in ends.items():
            for _ in range(100):
                told = world.lab.node.run(["conntrack", "-L", "-f", f"ipv{version}", "-p", "tcp", *query]).text
                left = [int(line.split()[2]) for line in told.splitlines() if "TIME_WAIT" in line]
                if len(left) >= 3:
                    break
                time.sleep(0.05)
            assert len(left) >= 3 and max(left) <= soon, (version, told)


def test_without_a_daemon_nobody_is_led(node_lab: World) -> None:
    """The last one here: from its first use on, the thread is on that node."""
    web = node_lab.attach("web")
    with pytest.raises(Unsupported, match=r"^expose\.proxy: 8080:80/tcp6to4: a proxy is the daemon's to run"):
        node_lab.wall.expose(web.name, "8080:80/tcp6to4")
    node_lab.wall.expose(web.name, "8080:80")
    with web.host.serve(tcp=[80]):
        assert_connection(node_lab.lab.lan, NODE4, 8080)
    node_lab.wall.detach(web.name)
