"""A published port whose server listens in one family only: clients of the other one are served by a proxy, and nobody
is who would not be by the wall."""

import math
import os
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cellwall.daemon.proxy import program as program_module
from cellwall.daemon.proxy import proxies as module
from cellwall.daemon.proxy import relay as relay_module
from cellwall.daemon.proxy.program import Program
from cellwall.daemon.proxy.proxies import Proxies
from cellwall.engine import led
from cellwall.engine.requests import AttachRequest
from cellwall.errors import Conflict, Exhausted, InvalidSpec, Unsupported
from cellwall.lab import connect
from cellwall.lab.addresses import LAN4, LAN6, NODE4, NODE6, NODE_INFRA, NODE_OTHER
from cellwall.lab.host import Host
from cellwall.model.endpoint import Endpoint, parse_binding
from cellwall.model.proxied import MAX_OF_TENANT, MAX_PROXIES, ProxyRule
from cellwall.model.settings import Settings
from world import Sandbox, Stream, World, assert_connection, assert_no_connection, open_world

pytestmark = pytest.mark.root
BOTH = pytest.mark.parametrize(("family", "word"), [(6, "tcp6to4"), (4, "tcp4to6")], ids=["6to4", "4to6"])
NODE, LAN = {4: NODE4, 6: NODE6}, {4: LAN4, 6: LAN6}
ANY = {4: "0.0.0.0", 6: "::"}


class Proxied(World):
    """A world whose wall has proxies."""

    def __init__(self, world: World, proxies: Proxies) -> None:
        super().__init__(world.lab, world.wall, world.report)
        self.proxies = proxies


@pytest.fixture(scope="module")
def world() -> Iterator[Proxied]:
    with open_world() as world:
        proxies = Proxies()
        world.wall.run_proxies(proxies.follow)
        try:
            yield Proxied(world, proxies)
        finally:
            proxies.close()


@pytest.fixture(autouse=True)
def detached(world: Proxied) -> Iterator[None]:
    """Nothing of a test is left for the next one, also where it failed: whoever has a policy or a port."""
    yield
    world.wall.detach_many([one.key for one in world.wall.endpoints()])
    for tenant in world.wall.policies():
        world.wall.remove_policy(tenant=tenant)


@contextmanager
def listening(host: Host, family: int, port: int = 80) -> Iterator[socket.socket]:
    """A server of one family alone."""
    with host.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_STREAM) as one:
        if family == 6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((ANY[family], port))
        one.listen(8)
        one.settimeout(10)
        yield one


@contextmanager
def served(world: Proxied, family: int, spec: str) -> Iterator[Sandbox]:
    """A sandbox that publishes a port, and echoes in the other family than that of the clients who are led."""
    sandbox = world.attach("web", tenant="acme")
    world.wall.expose(sandbox.name, spec)
    with sandbox.host.serve(tcp=[80]):
        yield sandbox


def asked(host: Host, family: int, port: int = 8080) -> bool:
    """Whether a client of this family is answered."""
    return connect(host, NODE[family], port, timeout=2.0).kind == "answer"


def patiences(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How many seconds each wait for an answer of the proxy may take, from now on."""
    waited: list[float] = []
    hear = Program._hear

    def counted(program: Program, patience: float) -> None:
        waited.append(patience)
        hear(program, patience)

    monkeypatch.setattr(Program, "_hear", counted)
    return waited


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
    world.wall.attach("web", netns=host.netns, expose=[f"{port}:80/{word}"])
    with host.serve(tcp=[80]):
        assert asked(world.lab.lan, family, port) and asked(world.lab.lan, 10 - family, port)
        world.wall.unexpose("web", f"{port}:80/{word}")
        assert not asked(world.lab.lan, family, port)
        world.wall.expose("web", f"{port}:80/{word}")
        assert asked(world.lab.lan, family, port), "it was held, and listens again"


def test_a_proxy_that_died_begins_anew(world: Proxied) -> None:
    with served(world, 6, "8080:80/tcp6to4"), Stream(world.lab.lan, NODE6, 8080) as stream:
        assert stream.ask(b"<1>")
        program = world.proxies._program
        assert program is not None
        program._process.kill()
        program._process.wait()
        assert not stream.ask(b"<2>", 1.0)
        world.attach("other")  # whatever is done next
        assert asked(world.lab.lan, 6)


def test_a_proxy_that_is_late_keeps_its_connections_and_passes_on_nothing_of_who_is_refused_meanwhile(
    world: Proxied, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program_module, "PATIENCE", 1.5)
    monkeypatch.setattr(program_module, "SILENT", math.inf)  # whatever the kernel takes for a change of the rules
    with (
        served(world, 6, "8080:80/tcp6to4") as web,
        Stream(world.lab.lan, NODE6, 8080) as lan,
        Stream(world.lab.internet, NODE6, 8080) as far,
    ):
        assert lan.ask(b"<1>") and far.ask(b"<1>")
        before = world.proxies._program
        assert before is not None
        os.kill(before.pid, signal.SIGSTOP)
        try:
            world.attach("other", tenant="other", expose=["8081:80/tcp6to4"])
            waited = patiences(monkeypatch)
            world.wall.set_policy({"inbound_cidr_allowlist": [LAN6]}, tenant="acme")
            assert waited and not any(waited), "one turn waits for it, and not each"
            far.say(b"<2>")
            time.sleep(relay_module.FRESH)
        finally:
            os.kill(before.pid, signal.SIGCONT)
        far._sock.settimeout(10.0)
        with pytest.raises(ConnectionResetError):
            far._sock.recv(9)  # what it sent meanwhile is passed to nobody
        assert lan.ask(b"<2>", timeout=10.0)
        world.wall.expose(web.name, "8082:80/tcp6to4")
        assert world.proxies._program is before and asked(world.lab.lan, 6, 8082)


def test_a_proxy_that_answers_nothing_for_long_begins_anew(world: Proxied, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program_module, "PATIENCE", 0.2)
    monkeypatch.setattr(program_module, "SILENT", 0.5)
    with served(world, 6, "8080:80/tcp6to4") as web:
        before = world.proxies._program
        assert before is not None
        os.kill(before.pid, signal.SIGSTOP)
        world.wall.expose(web.name, "8081:80/tcp6to4")
        assert world.proxies._program is before
        time.sleep(0.5)
        world.attach("other")
        assert world.proxies._program is not before
        monkeypatch.undo()
        assert asked(world.lab.lan, 6) and asked(world.lab.lan, 6, 8081)


def test_tenants_that_fill_the_proxy_keep_no_other_one_out(world: Proxied, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a quarter at most, so four have all; where a fifth one comes, they give up what they use least."""
    world.proxies.close()
    few = MAX_PROXIES + 64 + 2 * 32  # descriptors for 32 connections: 8 of a tenant, 4 of an endpoint
    begin = f"ulimit -n {few}; exec {' '.join(program_module.COMMAND)}"
    monkeypatch.setattr(program_module, "COMMAND", ("sh", "-c", begin))
    with ExitStack() as opened:
        for port, name in enumerate((f"{tenant}{which}" for tenant in "abcde" for which in (1, 2)), 8000):
            sandbox = world.attach(name, tenant=name[0], expose=[f"{port}:80/tcp6to4"])
            opened.enter_context(sandbox.host.serve(tcp=[80]))

        def come(number: int, port: int) -> list[Stream]:
            return [opened.enter_context(Stream(world.lab.lan, NODE6, port)) for _ in range(number)]

        full = [come(4, port) for port in range(8000, 8008)]
        for streams in full:
            for stream in streams:
                assert stream.ask(b"<1>")
        assert not asked(world.lab.lan, 6, 8000), "nobody gives way to who has most"
        first = full[0][0]
        assert first.ask(b"<2>"), "used last of all"
        came = [*come(3, 8008), *come(3, 8009)]
        assert [stream.ask(b"<1>") for stream in came] == [True] * 6
        assert first.ask(b"<3>")
        left = [sum(stream.ask(b"<4>") for stream in (*full[n], *full[n + 1])) for n in (0, 2, 4, 6)]
        assert sorted(left) == [6, 6, 7, 7], "each has its share"
        assert not asked(world.lab.lan, 6, 8008)
    world.proxies.close()


def test_a_proxy_has_no_privilege_and_nothing_open_but_what_it_serves(world: Proxied) -> None:
    with served(world, 6, "8080:80/tcp6to4"):
        assert asked(world.lab.lan, 6)
        program = world.proxies._program
        assert program is not None
        status = Path(f"/proc/{program.pid}/status").read_text()
        assert {line.split()[1] for line in status.splitlines() if line.startswith(("CapEff", "CapPrm"))} == {"0" * 16}
        assert "Uid:\t65534\t65534\t65534\t65534" in status
        assert Path(f"/proc/{program.pid}/oom_score_adj").read_text().strip() == "0"
        opened = [os.readlink(path) for path in Path(f"/proc/{program.pid}/fd").iterdir()]
        others = [name for name in opened if not name.startswith(("socket:", "/dev/null", "anon_inode:", "pipe:"))]
        assert others == [] or others == [os.readlink("/proc/self/fd/2")]


@pytest.mark.parametrize(("spec", "why"), [
    ("8080:80/udp6to4", "tcp or udp"), ("8080-8081:80/tcp6to4", "one port"),
    ("93.184.216.10:8080:80/tcp6to4", "bind address"), ("[2001:db8::1]:8080:80/tcp4to6", "bind address"),
])  # fmt: skip
def test_what_no_proxy_could_serve_is_refused(spec: str, why: str) -> None:
    with pytest.raises(InvalidSpec, match=why):
        parse_binding(spec)


def test_what_stands_is_not_displaced_and_a_tenant_has_a_share(world: Proxied, monkeypatch: pytest.MonkeyPatch) -> None:
    """Container ids are the tenants' to choose: the one that sorts first is served no sooner."""
    monkeypatch.setattr(module, "MAX_PROXIES", 8)  # also of a record that an earlier version wrote, and bounded less
    with served(world, 6, "8080:80/tcp6to4"), Stream(world.lab.lan, NODE6, 8080) as stream:
        evil = world.attach("aaa", tenant="evil", expose=[f"{9000 + n}:80/tcp6to4" for n in range(MAX_OF_TENANT)])
        with pytest.raises(Exhausted, match=r"^expose\.proxy: 9999:80/tcp6to4: a tenant has at most 64 ports"):
            world.attach("aab", tenant="evil", expose=["9999:80/tcp6to4"])
        assert world.wall.unexpose(evil.name, "9000:80/tcp6to4")
        more = world.attach("aac", tenant="evil", expose=["9000:80/tcp6to4"])
        with pytest.raises(Exhausted, match="a tenant has at most 64 ports"):
            world.wall.expose(more.name, "9998:80/tcp6to4")
        assert world.wall.expose(more.name, "9998:80").bindings, "without a proxy"
        monkeypatch.setattr(led, "MAX_PROXIES", MAX_OF_TENANT + 1)
        third = world.attach("aad", tenant="third")
        with pytest.raises(Exhausted, match=r"^expose\.proxy: 9997:80/tcp6to4: a node has at most 65 ports"):
            world.wall.expose(third.name, "9997:80/tcp6to4")
        monkeypatch.setattr(led, "MAX_PROXIES", (MAX_OF_TENANT + 1) * 4 // 3 + 1)
        refused = (
            r"^expose\.proxy: 9997:80/tcp6to4: a node has at most 65 ports served by a proxy for others than root$"
        )
        with pytest.raises(Exhausted, match=refused):
            world.wall.expose(third.name, "9997:80/tcp6to4", user=1000)
        request = AttachRequest("aae", tenant="fourth", bindings=(parse_binding("9997:80/tcp6to4"),), user=1000)
        with pytest.raises(Exhausted, match=refused):
            world.wall.attach_many([request])
        assert world.wall.expose(third.name, "9997:80/tcp6to4").bindings
        assert stream.ask(b"<1>") and asked(world.lab.lan, 6)


def test_a_turn_of_others_makes_no_rule_anew(world: Proxied, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    rules_of = module.proxy_rules

    def counted(endpoints: Sequence[Endpoint], *more: Any) -> tuple[ProxyRule, ...]:
        made.extend(str(one.key) for one in endpoints)
        return rules_of(endpoints, *more)

    with served(world, 6, "8080:80/tcp6to4") as web:
        second = world.attach("second", tenant="second", expose=["8081:80/tcp6to4"])
        monkeypatch.setattr(module, "proxy_rules", counted)
        other = world.attach("other", tenant="other")
        world.wall.set_policy({"inbound_cidr_allowlist": [LAN6]}, tenant="other")
        world.wall.expose(other.name, "8082:80")
        world.wall.detach(other.name)
        world.wall.remove_policy(tenant="other")
        assert made == []
        world.wall.set_policy({"inbound_cidr_allowlist": [LAN6]}, tenant="acme")
        assert made == [f"{web.name}/eth0"], "whose policy it is"
        world.wall.expose(second.name, "8083:80/tcp6to4")
        assert made[1:] == [f"{second.name}/eth0"]
        world.wall.remove_policy(tenant="acme")
        assert made[2:] == [f"{web.name}/eth0"]


def test_under_a_bound_that_a_proxy_would_not_keep_none_is_served(world: Proxied) -> None:
    """A change of the configuration ends those that are; a bound that is only watched ends none."""
    site = world.wall._site
    bounded = msgspec.structs.replace(site.settings, tenant_bytes=20_000)
    watched = msgspec.structs.replace(bounded, watched=("tenant_bytes",))
    with served(world, 6, "8080:80/tcp6to4"), Stream(world.lab.lan, NODE6, 8080) as stream:
        assert stream.ask(b"<1>")
        world.proxies.follow(msgspec.structs.replace(site, settings=watched, settings_text="watched"), False)
        assert stream.ask(b"<2>")
        world.proxies.follow(msgspec.structs.replace(site, settings=bounded, settings_text="bounded"), False)
        assert not stream.ask(b"<3>", 1.0) and not asked(world.lab.lan, 6)
        world.proxies.follow(site, False)
        assert asked(world.lab.lan, 6)


def test_a_proxy_is_refused_where_a_rate_is_bounded() -> None:
    with open_world(settings=Settings(bytes=20_000, tenant_new_connections=5)) as world:
        world.wall.run_proxies(lambda site, anew: None)
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


@BOTH
def test_both_flows_of_a_connection_that_ended_are_soon_forgotten(world: Proxied, family: int, word: str) -> None:
    """No bound counts them then, as those of other published ports."""
    assert_soon_forgotten(world, family, word)


def test_so_they_are_where_iptables_holds_the_wall() -> None:
    with open_world(settings=Settings(backend="iptables")) as world, ExitStack() as ending:
        proxies = Proxies()
        ending.callback(proxies.close)
        world.wall.run_proxies(proxies.follow)
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
