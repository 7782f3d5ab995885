"""Host ports that a daemon keeps for containers: over its calls, and through its death."""

import os
import signal
import socket
from collections.abc import Iterator

import msgspec
import pytest

from cellwall.adapters.process import find_program
from cellwall.api import Wall
from cellwall.client import Client
from cellwall.engine.requests import AttachRequest
from cellwall.errors import Conflict, Exhausted, InvalidSpec
from cellwall.lab import Lab, connect
from cellwall.lab.addresses import NODE4, NODE6
from daemon.served import Daemon, ask_as, served, served_node
from engine.test_reservations import bindable
from running import wait_until
from world import World, assert_connection

pytestmark = pytest.mark.root
SOCKET, GROUP, USER = 6000, 6100, 1000
CONFIGURATION = f"""
[daemon]
group = "{SOCKET}"
allow = ["{GROUP} expose,list ci-1"]
"""


@pytest.fixture(scope="module")
def node() -> Iterator[tuple[Daemon, World]]:
    with served_node(keeps=True) as node:
        yield node


@pytest.fixture(autouse=True)
def given_back(node: tuple[Daemon, World]) -> Iterator[None]:
    yield
    daemon, world = node
    daemon.heard()
    for one in world.wall.reservations():
        world.wall.release_ports(one.container)
    daemon.heard()


def test_a_client_reserves_publishes_and_gives_back(node: tuple[Daemon, World]) -> None:
    daemon, world = node
    made = world.wall.reserve_ports("web", 2, tenant="acme", seconds=60)
    assert (made.container, made.tenant, len(made.ports), made.seconds) == ("web", "acme", 2, 60)
    (listed,) = world.wall.reservations()
    assert (listed.ports, listed.seconds <= 60) == (tuple(sorted(made.ports)), True)
    box = world.host("web")
    with pytest.raises(Conflict, match="is reserved for container web"):
        world.wall.attach("other", expose=[f"{made.ports[0]}:80"])
    world.wall.attach("web", netns=box.netns, tenant="acme", expose=[f"{made.ports[0]}:80"])
    with box.serve(tcp=[80]):
        assert_connection(world.lab.lan, NODE4, made.ports[0])
    world.wall.detach("web")
    daemon.heard()
    assert world.wall.reservations() == () and all(bindable(port) for port in made.ports)
    assert world.wall.release_ports("web") == 0
    for wrong in ({"count": 0}, {"count": 65}, {"seconds": -1}):
        with pytest.raises(InvalidSpec, match=f"^{next(iter(wrong))}: "):
            world.wall.reserve_ports("web", **wrong)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_kept_sockets_hold_ports_while_there_is_no_daemon(node: tuple[Daemon, World], end: signal.Signals) -> None:
    daemon, world = node
    made = world.wall.reserve_ports("web", 2)
    daemon.stop(end)
    daemon.heard()
    assert not any(bindable(port, kind) for port in made.ports for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM))
    daemon.give_back()
    daemon.start()
    assert world.wall.reserve_ports("web", 2).ports == made.ports
    assert world.wall.release_ports("web") == 2
    daemon.heard()
    assert all(bindable(port) for port in made.ports), "the service manager has let go, too"


def test_at_a_kept_port_that_a_proxy_served_clients_are_refused_while_there_is_no_daemon(
    node: tuple[Daemon, World],
) -> None:
    """The service manager's duplicate listened on: the kernel connected them, and they waited for nobody."""
    daemon, world = node
    web = world.attach("web", expose=["auto:80/tcp6to4"])
    port = web.endpoint.bindings[0].host_port
    daemon.heard()
    with web.host.serve(tcp=[80]):
        assert_connection(world.lab.lan, NODE6, port)
        daemon.kill()
        wait_until(lambda: connect(world.lab.lan, NODE6, port, timeout=1.0).kind == "refused")
        assert not bindable(port)
        daemon.give_back()
        daemon.start()
        assert_connection(world.lab.lan, NODE6, port)
    world.wall.detach(web.name)


def test_ports_that_nobody_kept_are_held_again_before_anybody_is_answered(node: tuple[Daemon, World]) -> None:
    daemon, world = node
    made = world.wall.reserve_ports("web", 2)
    daemon.kill()
    daemon.heard()
    for name in [name for name in daemon.store if name.startswith("port-")]:
        daemon.lose(name)
    assert bindable(made.ports[1])
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as program:
        program.bind(("0.0.0.0", made.ports[0]))
        daemon.give_back()
        daemon.start()
        assert "is held by another program" in daemon.logged(f"port {made.ports[0]}, reserved for web")
        assert not bindable(made.ports[1])


def begun_again(daemon: Daemon, *limited: str) -> None:
    """In order, with what was kept."""
    assert daemon.stop() == 0
    daemon.heard()
    daemon.give_back()
    daemon.prefix = [*daemon.prefix, *limited]
    daemon.start()


def test_ports_leave_the_daemon_descriptors_for_its_own_work(node: tuple[Daemon, World]) -> None:
    """Each is two sockets: under a low limit they took all there were."""
    daemon, world = node
    begun_again(daemon, find_program("prlimit") or "", "--nofile=128:128", "--")
    try:
        world.wall.reserve_ports("web", 10, tenant="acme")
        refused = (
            r"^count: 7: 10 ports are reserved already, of 16 at most that there are descriptors for \(LimitNOFILE=\)$"
        )
        with pytest.raises(Exhausted, match=refused):
            world.wall.reserve_ports("other", 7)
        world.wall.reserve_ports("other", 6)
        with pytest.raises(Exhausted, match="descriptors"):
            world.wall.attach("third", expose=["auto:80"])
        assert world.wall.status().drift == ()
    finally:
        begun_again(daemon)
    assert sum(len(one.ports) for one in world.wall.reservations()) == 16


def test_a_group_reserves_for_its_own_tenants_and_sees_no_others() -> None:
    with Lab() as lab, lab.node.enter():
        os.chmod(lab.root, 0o755)
        with served(lab, configuration=CONFIGURATION) as daemon:

            def ask(method: str, container: str = "", body: object = None) -> tuple[int, str]:
                path = "/v1/reservations" + (f"/{container}" if container else "")
                answer = ask_as(daemon, USER, [SOCKET, GROUP], method, path, body)
                return answer.status, str(answer.document)

            daemon.ask("PUT", "/v1/reservations/secret", {"count": 1, "tenant": "web"})
            daemon.ask("PUT", "/v1/reservations/anybody", {"count": 1})
            for tenant in ("web", None):
                status, said = ask("PUT", "job", {"count": 1, "tenant": tenant})
                assert status == 403 and "daemon.allow" in said
            assert ask("PUT", "job", {"count": 2, "tenant": "ci-1"})[0] == 200
            assert ask("PUT", "secret", {"count": 1, "tenant": "ci-1"})[0] == 200, "it is not to know"
            assert ask("DELETE", "secret") == (200, str({"released": 1}))
            taken = daemon.ask("PUT", "/v1/reservations/secret", {"count": 1, "tenant": "ci-1"})
            assert taken.status == 409 and "tenant web" in str(taken.document)
            status, said = ask("GET")
            assert status == 200 and "job" in said and "secret" not in said and "anybody" not in said
            for container in ("secret", "anybody", "job"):
                assert ask("DELETE", container) == (200, str({"released": 2 if container == "job" else 0}))
            listed = daemon.get("/v1/reservations")["reservations"]
            assert {one["container"] for one in listed} == {"secret", "anybody"}


def test_who_asked_is_on_record_where_that_is_not_root_by_whichever_way() -> None:
    """By which its share is counted."""
    with Lab() as lab, lab.node.enter():
        os.chmod(lab.root, 0o755)
        with served(lab, configuration=CONFIGURATION) as daemon, Client.open(root=lab.root, patience=60) as client:
            client.up()
            client.attach("web", tenant="ci-1", expose=["auto:80"])
            for method, path, body in (
                ("PUT", "/v1/reservations/job", {"count": 1, "tenant": "ci-1"}),
                ("POST", "/v1/endpoints/web/eth0/ports", {"binding": "auto:81"}),
            ):
                assert ask_as(daemon, USER, [SOCKET, GROUP], method, path, body).status == 200
            with Wall.open(root=lab.root, reading=True) as wall:
                record = msgspec.json.decode(wall._site.journal.get("reserved") or b"")
            assert sorted((row["container"], row["user"] or 0) for row in record) == [
                ("job", USER), ("web", 0), ("web", USER)
            ]  # fmt: skip


def test_what_a_vanished_container_had_comes_back_unasked(node: tuple[Daemon, World]) -> None:
    daemon, world = node
    boxes = [world.host("gone") for _ in range(8)]
    (port,) = world.wall.reserve_ports(boxes[0].name).ports
    world.wall.attach_many([AttachRequest(box.name, netns=str(box.netns)) for box in boxes])
    world.wall.expose(boxes[0].name, f"{port}:80")
    for box in boxes:
        world.lab.delete_sandbox(box)
    wait_until(lambda: world.wall.endpoints() == () and world.wall.reservations() == ())
    wait_until(lambda: all(f"detached {box.name}/eth0: its namespace or link is gone" in said(daemon) for box in boxes))
    world.wall.attach("heir", expose=[f"{port}:80"])
    world.wall.detach("heir")
    assert world.wall.status().drift == ()


def said(daemon: Daemon) -> str:
    return daemon.log.read_text()
