"""A proxy between the address families is the daemon's: over its calls, and through its death."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cellwall.api import Wall
from cellwall.config import drop_mode_record, record_daemon
from cellwall.errors import Exhausted, Unsupported
from cellwall.lab import connect
from cellwall.lab.addresses import NODE6
from cellwall.model.endpoint import parse_binding
from daemon.served import PATIENCE, Daemon, served_node
from packet.proxied import bound_by_another
from world import Stream, World, assert_connection, assert_no_connection

pytestmark = pytest.mark.root
SPEC = "8080:80/tcp6to4"


@pytest.fixture(scope="module")
def node() -> Iterator[tuple[Daemon, World]]:
    with served_node() as node:
        yield node


def test_a_proxy_ends_with_its_daemon_and_is_there_again_with_the_next(node: tuple[Daemon, World]) -> None:
    daemon, world = node
    web = world.attach("web", expose=[SPEC])
    assert web.endpoint.bindings == (parse_binding(SPEC),)
    assert daemon.get("/v1/endpoints/web-1/eth0")["endpoint"]["exposed"][0]["proxy"] == "6to4"
    with web.host.serve(tcp=[80]):
        assert_connection(world.lab.lan, NODE6, 8080)
        with Stream(world.lab.lan, NODE6, 8080) as stream:
            assert stream.ask(b"<1>")
            daemon.kill()
            assert not stream.ask(b"<2>", 1.0), "nobody judges it any more"
        assert_no_connection(world.lab.lan, NODE6, 8080)
        daemon.start()
        assert_connection(world.lab.lan, NODE6, 8080)
        assert world.wall.unexpose(web.name, SPEC).bindings == ()
        assert_no_connection(world.lab.lan, NODE6, 8080)
        body = {"binding": {"host_port": 8080, "port": 80, "proxy": "6to4"}}
        assert daemon.ask("POST", f"/v1/endpoints/{web.name}/eth0/ports", body).status == 200
        assert_connection(world.lab.lan, NODE6, 8080)
    assert daemon.stop() == 0
    with pytest.raises(Unsupported, match="a proxy is the daemon's to run"):
        in_process(daemon, world, web.name)
    daemon.start()


def test_a_proxy_that_dies_is_there_again_with_nobody_asking(node: tuple[Daemon, World]) -> None:
    daemon, world = node
    web = world.attach("web", expose=["8090:80/tcp6to4"])
    with web.host.serve(tcp=[80]):
        assert_connection(world.lab.lan, NODE6, 8090)
        os.kill(relay_of(daemon), signal.SIGKILL)
        daemon.logged("the proxy has died")
        assert_served_soon(world, 8090)
    world.wall.detach(web.name)


def test_a_port_that_cannot_be_served_is_refused_over_http_and_told_where_it_was_published_before(
    node: tuple[Daemon, World],
) -> None:
    daemon, world = node
    web = world.attach("web")
    ports = f"/v1/endpoints/{web.name}/eth0/ports"
    body = {"binding": {"host_port": 8070, "port": 80, "proxy": "6to4"}}
    with web.host.serve(tcp=[80]):
        with bound_by_another(world.lab.node, 8070):
            refused = daemon.ask("POST", ports, body)
            assert (refused.status, refused.document["type"]) == (409, "urn:cellwall:problem:conflict")
            said = "expose.host_port: 8070:80/tcp6to4: nothing can listen there for a proxy: Address already in use"
            assert refused.document["detail"] == said
            taken = daemon.ask("POST", "/v1/endpoints", {"container": "other", "expose": ["8070:80/tcp6to4"]})
            assert (taken.status, taken.document["detail"]) == (409, said)
            assert [one.bindings for one in world.wall.endpoints() if one.key == web.endpoint.key] == [()]
        assert daemon.ask("POST", ports, body).status == 200
        assert_connection(world.lab.lan, NODE6, 8070)
        assert daemon.stop() == 0
        with bound_by_another(world.lab.node, 8070):
            daemon.start()
            (note,) = [note for note in world.wall.status().notes if "8070" in note]
            target = web.endpoint.address4
            assert note == f"port 8070 is proxied for {target}, and not served: Address already in use"
        assert_served_soon(world, 8070)  # with nobody asking
        assert not any("8070" in note for note in world.wall.status().notes)
    world.wall.detach(web.name)


def test_ports_leave_the_daemon_descriptors_for_its_own_work_and_what_is_one_too_many_is_told(
    node: tuple[Daemon, World],
) -> None:
    """Under a low limit they took all, and with none left it told nothing of the wall and repaired nothing."""
    daemon, world = node
    world.wall.detach_many([one.key for one in world.wall.endpoints()])
    assert daemon.stop() == 0
    try:
        daemon.prefix = ["prlimit", "--nofile=128:128", "--"]
        daemon.start()
        web = world.attach("web", tenant="acme", expose=[f"{port}:80/tcp6to4" for port in range(8100, 8132)])
        said = r"the daemon's 128 descriptors \(LimitNOFILE=\) are enough for 32 ports served by a proxy$"
        with pytest.raises(Exhausted, match=rf"^expose\.proxy: 8132:80/tcp6to4: {said}"):
            world.wall.expose(web.name, "8132:80/tcp6to4")
        assert world.wall.expose(web.name, "8132:80").bindings, "without a proxy"
        assert world.wall.status().drift == ()
        assert daemon.stop() == 0
        daemon.prefix = ["prlimit", "--nofile=120:120", "--"]
        daemon.start()
        daemon.logged("32 ports are proxied: 30 of these are served")
        notes = world.wall.status().notes
        assert sum("and not served: the daemon's 120 descriptors" in note for note in notes) == 2
        with web.host.serve(tcp=[80]):
            assert_connection(world.lab.lan, NODE6, 8100)
        assert daemon.stop() == 0
    finally:
        daemon.prefix = []
    daemon.start()
    with web.host.serve(tcp=[80]):
        assert_connection(world.lab.lan, NODE6, 8131)
    world.wall.detach(web.name)


def assert_served_soon(world: World, port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while connect(world.lab.lan, NODE6, port, timeout=2.0).kind != "answer":
        assert time.monotonic() < deadline
        time.sleep(0.1)


def relay_of(daemon: Daemon) -> int:
    """The process, by its number."""
    children = Path(f"/proc/{daemon.process.pid}/task").glob("*/children")
    pids = [pid for each in children for pid in each.read_text().split()]
    (relay,) = (pid for pid in pids if b"cellwall.daemon.proxy.relay" in Path(f"/proc/{pid}/cmdline").read_bytes())
    return int(relay)


def in_process(daemon: Daemon, world: World, name: str) -> None:
    """What a node that is everybody's again says."""
    drop_mode_record(daemon.paths)
    try:
        with Wall.open(root=world.lab.root) as wall:
            wall.expose(name, "8081:80/tcp6to4")
    finally:
        record_daemon(daemon.paths)
