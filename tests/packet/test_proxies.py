"""The process that serves clients of the other family: when it dies, is late or full, and what it makes rules of."""

import errno
import math
import os
import resource
import signal
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cellwall.adapters.record.store import Store
from cellwall.daemon.proxy import program as program_module
from cellwall.daemon.proxy import proxies as module
from cellwall.daemon.proxy import relay as relay_module
from cellwall.daemon.proxy.program import Program
from cellwall.daemon.proxy.proxies import Proxies
from cellwall.engine.ports import led
from cellwall.engine.requests import AttachRequest
from cellwall.engine.site import Site
from cellwall.errors import Conflict, Exhausted, KernelError, Unavailable, Unsupported
from cellwall.lab import connect
from cellwall.lab.addresses import LAN6, NODE6
from cellwall.model.endpoint import Endpoint, EndpointKey, parse_binding
from cellwall.model.pool import PoolSize
from cellwall.model.proxied import MAX_OF_TENANT, MAX_PROXIES, ProxyRule
from packet.proxied import Proxied, asked, bound_by_another, proxied_world, served
from running import wait_until
from served import open_served
from world import Stream

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def world() -> Iterator[Proxied]:
    with proxied_world() as world:
        yield world


@pytest.fixture(autouse=True)
def detached(world: Proxied) -> Iterator[None]:
    yield
    world.detach_all()
    world.proxies._not_before = 0.0  # what could not begin in one test may in the next


def patiences(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How many seconds each wait for an answer of the proxy may take, from now on."""
    waited: list[float] = []
    hear = Program._hear

    def counted(program: Program, patience: float) -> None:
        waited.append(patience)
        hear(program, patience)

    monkeypatch.setattr(Program, "_hear", counted)
    return waited


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
    world.proxies._end()
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
    world.proxies._end()


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


def test_a_port_that_cannot_be_listened_at_is_refused_and_nothing_is_changed(world: Proxied) -> None:
    taken = r"^expose\.host_port: 8099:80/tcp6to4: nothing can listen there for a proxy: Address already in use$"
    before = world.attach("web", tenant="acme", expose=["8081:80/tcp6to4"])
    with before.host.serve(tcp=[80]):
        with bound_by_another(world.lab.node, 8099):
            with pytest.raises(Conflict, match=taken):
                world.wall.expose(before.name, "8099:80/tcp6to4")
            assert world.wall.endpoint(before.name) == before.endpoint
            with pytest.raises(Conflict, match=taken):
                world.wall.attach("none", tenant="acme", expose=["8082:80/tcp6to4", "8099:80/tcp6to4"])
            assert world.wall.endpoints() == (before.endpoint,)
            for port in (8099, 8082):
                assert connect(world.lab.lan, NODE6, port, timeout=2.0).kind == "refused", "nobody listens there"
            assert asked(world.lab.lan, 6, 8081), "what is served goes on"
        world.wall.expose(before.name, "8099:80/tcp6to4")
        assert asked(world.lab.lan, 6, 8099)


@pytest.mark.parametrize(("command", "error", "why"), [
    (("sh", "-c", "exit 3"), Unavailable, "cannot be served now: the proxy ended as it began"),
    (("/nonexistent",), Unsupported, "the program '/nonexistent' is not installed"),
])  # fmt: skip
def test_a_port_is_refused_where_no_proxy_can_be_started_and_nothing_is_changed(
    world: Proxied, monkeypatch: pytest.MonkeyPatch, command: Sequence[str], error: type[Exception], why: str
) -> None:
    world.proxies._end()
    web = world.attach("web", tenant="acme")
    with web.host.serve(tcp=[80]):
        with monkeypatch.context() as broken:
            broken.setattr(program_module, "COMMAND", command)
            with pytest.raises(error, match=rf"^expose\.proxy: 8080:80/tcp6to4: {why}$"):
                world.wall.expose(web.name, "8080:80/tcp6to4")
            assert world.wall.endpoint(web.name) == web.endpoint
            assert connect(world.lab.lan, NODE6, 8080, timeout=2.0).kind == "refused"
        world.wall.expose(web.name, "8080:80/tcp6to4")
        assert asked(world.lab.lan, 6)


def test_a_port_is_refused_where_there_is_no_descriptor_for_it(world: Proxied) -> None:
    world.proxies._end()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    binding = parse_binding("8080:80/tcp6to4")
    with open(os.devnull) as lowest:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest.fileno(), limits[1]))
        try:
            with pytest.raises(Unavailable, match=r"^expose\.proxy: 8080:80/tcp6to4: .*Too many open files"):
                world.proxies.prepare(world.wall._site, [binding])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    world.wall.reconcile()
    assert world.proxies._sockets == world.proxies._ready == {}


def test_a_process_that_cannot_begin_anew_is_tried_again_and_not_by_every_write(
    world: Proxied, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(world, 6, "8080:80/tcp6to4"):
        assert not world.proxies.is_behind()
        with monkeypatch.context() as broken:
            broken.setattr(program_module, "COMMAND", ("sh", "-c", "exit 3"))
            world.proxies._end()
            world.attach("other")
            assert world.proxies.is_behind(), "whoever looks now and then has a turn made"
        world.attach("another")
        assert not asked(world.lab.lan, 6), "a process takes a while to begin, and so would each write"
        (note,) = world.proxies.notes()
        assert note.endswith(", and not served: the proxy ended as it began")
        time.sleep(module.AGAIN)
        world.attach("third")
        assert asked(world.lab.lan, 6) and not world.proxies.is_behind() and world.proxies.notes() == ()


def test_what_could_not_be_read_at_the_end_of_a_turn_is_served_by_a_later_one(
    world: Proxied, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Site) -> tuple[int, ...]:
        raise KernelError(errno.ENOBUFS, "list links")

    web = world.attach("web")
    with web.host.serve(tcp=[80]):
        with monkeypatch.context() as once:
            once.setattr(module, "_open_sides", broken)
            world.wall.expose(web.name, "8080:80/tcp6to4")
        assert world.proxies.is_behind(), "whoever looks now and then has a turn made"
        world.attach("other")
        assert asked(world.lab.lan, 6) and not world.proxies.is_behind()


def test_a_change_of_which_no_rule_could_be_made_then_is_gone_by_in_a_later_turn(
    world: Proxied, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What changed is told once."""

    def broken(*_: Any) -> tuple[ProxyRule, ...]:
        raise KernelError(errno.EIO, "read")

    with served(world, 6, "8080:80/tcp6to4"):
        assert asked(world.lab.lan, 6) and asked(world.lab.internet, 6)
        with monkeypatch.context() as once:
            once.setattr(module, "proxy_rules", broken)
            world.wall.set_policy({"inbound_cidr_allowlist": [LAN6]}, tenant="acme")
        assert not asked(world.lab.lan, 6) and not asked(world.lab.internet, 6), "by the former rule nobody is served"
        world.attach("other")
        assert asked(world.lab.lan, 6) and not asked(world.lab.internet, 6)


def test_what_is_closed_begins_no_more() -> None:
    """A wall that is closed deletes the links that its detaches left, which is a turn of its."""
    with proxied_world() as world, served(world, 6, "8080:80/tcp6to4"):
        world.proxies.close()
        world.attach("other")
        assert world.proxies._program is None and not asked(world.lab.lan, 6)
        with pytest.raises(Unavailable, match=r"^expose\.proxy: 8081:80/tcp6to4: the daemon is ending"):
            world.attach("third", expose=["8081:80/tcp6to4"])


def test_a_turn_of_others_asks_the_record_about_no_endpoint_and_no_policy(world: Proxied) -> None:
    """All that are about proxied ports may be 8 MB and more, in each turn of anybody's."""
    with served(world, 6, "8080:80/tcp6to4") as web:
        other, site = world.attach("other", tenant="other"), world.wall._site
        read: set[str | None] = set()

        def noted(_: int, table: str | None, *__: str | None) -> int:
            read.add(table)
            return sqlite3.SQLITE_OK

        def read_after(key: EndpointKey) -> set[str | None]:
            site.journal.set_phase([key], "attached")
            read.clear()
            world.proxies.follow(site, False)
            return read & {"endpoints", "policies", "bindings"}

        connection = site.journal._db._db
        connection.set_authorizer(noted)
        try:
            assert read_after(other.endpoint.key) == set()
            assert read_after(web.endpoint.key) == {"endpoints", "policies"}
        finally:
            connection.set_authorizer(None)


def test_a_claim_at_once_looks_after_the_ports_of_its_own_container_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all endpoints that have a proxied port the record would be asked."""
    with open_served() as node, closing(Proxies()) as proxies:
        wall, looked = node.world.wall, list[int]()
        wall.run_proxies(proxies)
        wall.attach("web", expose=["8080:80/tcp6to4"])
        changed = Store.changed

        def counted(store: Store) -> Any:
            looked.append(1)
            return changed(store)

        async def look() -> None:
            node.node.resize_pool(PoolSize(2))

        def claimed(name: str) -> bool:
            node.run(look)
            wait_until(lambda: node.node.pool.figures.ready == 2 and not node.node.writer.at_work)
            looked.clear()
            return bool(looked) if wall.claim_at_once(AttachRequest(name)) is not None else claimed(name)

        monkeypatch.setattr(Store, "changed", counted)
        assert not claimed("job")
        wall.attach("mine", ifname="net1", netns=node.world.host("mine").netns, expose=["8081:80/tcp6to4"])
        assert claimed("mine")
