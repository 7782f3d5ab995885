"""The daemon as a process: it answers first, is the only one, ends in order, and leaves what the next takes over."""

import asyncio
import os
import resource
import signal
import socket
import stat
from collections.abc import Iterator

import pytest

from cellwall.adapters.service_manager import ServiceManager
from cellwall.config import recorded_mode
from cellwall.daemon import life as life_module
from cellwall.daemon.life import Life
from cellwall.daemon.turns.writer import Writer
from cellwall.errors import Conflict, Dismissed
from cellwall.lab import Lab
from daemon.served import Daemon, ask_as, served
from running import wait_until

pytestmark = pytest.mark.root


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as lab, lab.node.enter():
        yield lab


@pytest.fixture
def daemon(lab: Lab) -> Iterator[Daemon]:
    with served(lab) as daemon:
        yield daemon


def test_it_serves_until_it_is_asked_to_end(daemon: Daemon) -> None:
    assert daemon.get("/v1/version")["api"] == 1
    daemon.attach("web")
    assert daemon.attached() == {"web"}
    assert recorded_mode(daemon.paths) == "daemon"
    assert daemon.stop() == 0
    assert "STOPPING=1" in daemon.until("STOPPING=1")
    assert not os.path.exists(daemon.paths.socket)
    assert recorded_mode(daemon.paths) == "daemon", "it comes back"
    daemon.start()
    assert daemon.attached() == {"web"}
    assert daemon.get("/v1/status")["drift"] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_node_that_is_no_daemons_by_now_is_everybodys_after_an_orderly_end(daemon: Daemon, number: int) -> None:
    daemon.configure(mode="inprocess")
    assert daemon.stop(number) == 0
    assert recorded_mode(daemon.paths) is None


def test_a_node_whose_configuration_does_not_want_a_daemon_gets_none(lab: Lab) -> None:
    daemon = Daemon(lab)
    daemon.configure(mode="inprocess")
    assert daemon.start(ready=False).process.wait(30) == 2
    assert "node.mode" in daemon.log.read_text()
    assert recorded_mode(daemon.paths) is None
    daemon.close()


def test_a_second_daemon_is_refused_and_the_first_goes_on(daemon: Daemon, lab: Lab) -> None:
    second = Daemon(lab)
    assert second.start(ready=False).process.wait(30) == 4
    assert "another daemon holds it" in second.log.read_text()
    assert daemon.get("/v1/version")["api"] == 1
    second.close()


def test_a_daemon_that_begins_while_another_ends_takes_its_place(daemon: Daemon, lab: Lab) -> None:
    second = Daemon(lab).start(ready=False)
    assert daemon.stop() == 0
    second.until("READY=1")
    assert second.get("/v1/version")["api"] == 1
    second.close()


def test_who_calls_before_the_node_is_taken_over_waits_and_is_answered(daemon: Daemon) -> None:
    daemon.attach("web")
    daemon.kill()
    daemon.start(ready=False)
    while not os.path.exists(daemon.paths.socket):
        os.sched_yield()
    answers = []
    while not answers:
        try:
            answers = [daemon.get("/v1/version")["api"]]
        except ConnectionRefusedError:  # the dead one's socket, until it is replaced
            continue
    daemon.attach("after")
    assert daemon.attached() == {"web", "after"}


def test_a_reload_reads_who_may_connect_and_keeps_what_it_had_where_that_is_wrong(daemon: Daemon) -> None:
    daemon.configure('[daemon]\ngroup = "5000"\nallow = ["5000 list *"]')
    daemon.reload()
    assert stat.S_IMODE(os.stat(daemon.paths.socket).st_mode) == 0o660
    assert os.stat(daemon.paths.socket).st_gid == 5000
    daemon.configure('[daemon]\ngroup = "no-such-group"')
    daemon.reload()
    assert os.stat(daemon.paths.socket).st_gid == 5000
    assert "no-such-group" in daemon.log.read_text()


def test_a_reload_that_comes_while_it_begins_ends_it_not_and_is_not_lost(lab: Lab) -> None:
    """A script that writes the configuration and tells whoever runs need not know how far that one is."""
    daemon = Daemon(lab)
    try:
        daemon.start(ready=False)
        wait_until(lambda: recorded_mode(daemon.paths) == "daemon")
        daemon.configure('[daemon]\ngroup = "5000"\nallow = ["5000 list *"]')
        daemon.process.send_signal(signal.SIGHUP)
        daemon.until("READY=1")
        wait_until(lambda: os.stat(daemon.paths.socket).st_gid == 5000)
    finally:
        daemon.close()


@pytest.mark.parametrize("wrong", ["no-such-group list ci-*", "5001 lst ci-*"], ids=["its group", "its verb"])
def test_of_what_is_read_anew_one_wrong_grant_has_nothing_in_force_and_is_told(daemon: Daemon, wrong: str) -> None:
    """Nor the others, and not who may connect: half of what somebody wrote is what nobody wrote."""
    os.chmod(daemon.lab.root, 0o755)  # its users reach the socket
    rest = ["5000 list *"]
    daemon.configure(f'[daemon]\ngroup = "5000"\nallow = {rest}')
    daemon.reload()
    daemon.configure(f'[daemon]\ngroup = "5001"\nallow = {["5001 list ci-*", wrong]}')
    said = daemon.reload()
    assert wrong in said and "STATUS=" in said
    assert os.stat(daemon.paths.socket).st_gid == 5000
    assert ask_as(daemon, 1000, [5000], "GET", "/v1/endpoints").status == 200
    (note,) = [line for line in daemon.get("/v1/status")["notes"] if "as it was" in line]
    assert wrong in note and wrong in daemon.logged("stays as it was")
    daemon.configure(f'[daemon]\ngroup = "5000"\nallow = {rest}')
    assert "STATUS=serves" in daemon.reload()
    assert not [line for line in daemon.get("/v1/status")["notes"] if "as it was" in line]


def test_grants_that_nobody_can_use_are_told(daemon: Daemon) -> None:
    daemon.configure('[daemon]\nallow = ["5000 list *"]')
    daemon.reload()
    assert "daemon.group says who may connect" in daemon.log.read_text()


def test_the_watchdog_hears_of_a_writer_that_gets_on(lab: Lab) -> None:
    daemon = Daemon(lab)
    daemon.environ = {"WATCHDOG_USEC": "200000"}
    daemon.start()
    for _ in range(3):
        daemon.until("WATCHDOG=1")
    daemon.close()


def test_a_socket_of_the_service_manager_outlives_the_daemon(lab: Lab) -> None:
    daemon = Daemon(lab)
    os.makedirs(daemon.paths.socket_directory, mode=0o750)
    with socket.socket(socket.AF_UNIX) as unit:
        unit.bind(daemon.paths.socket)
        unit.listen()
        daemon.store["api"] = [os.dup(unit.fileno())]
        daemon.give_back()
        daemon.start()
        inode = os.stat(daemon.paths.socket).st_ino
        assert daemon.get("/v1/version")["api"] == 1
        daemon.kill()
        waiting = socket.socket(socket.AF_UNIX)
        waiting.connect(daemon.paths.socket)  # nobody is there, and nobody is refused
        waiting.sendall(b"GET /v1/version HTTP/1.1\r\nHost: x\r\n\r\n")
        daemon.start()
        with waiting:
            assert waiting.recv(100).startswith(b"HTTP/1.1 200")
        assert daemon.stop() == 0
        assert os.stat(daemon.paths.socket).st_ino == inode
    daemon.close()


def test_when_the_record_of_the_node_is_removed_the_daemon_ends(daemon: Daemon) -> None:
    for name in os.listdir(daemon.paths.run):
        if name.startswith(("state.db", "writer.lock")):
            os.unlink(daemon.paths.in_run(name))
    answer = daemon.ask("POST", "/v1/endpoints", {"container": "web"})
    assert answer.status == 503


def test_what_others_change_is_put_back_while_it_serves(daemon: Daemon, lab: Lab) -> None:
    daemon.attach("web")
    (link,) = [name for _, name in socket.if_nameindex() if name.startswith("b9h")]
    for _ in range(3):
        lab.node.run(["bridge", "link", "set", "dev", link, "isolated", "off", "learning", "on"])
        daemon.logged("repaired in")
        assert daemon.get("/v1/status")["drift"] == []


class Idle:
    """A node without a wall, and nobody who asks."""

    def __init__(self) -> None:
        self.writer = Writer(limit=1, together=1, afterwards=lambda: None)
        self.unread = ""

    def start(self) -> None:
        self.writer.start()


class Silent:
    async def open(self, _: object) -> None: ...
    async def close(self) -> None: ...


def test_what_could_not_be_done_about_the_node_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life_module, "_NOW_AND_THEN", 0.0)
    tried = []

    def again() -> None:
        tried.append(1)
        if len(tried) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        raise Conflict("not yet")

    idle = Idle()
    life = Life(ServiceManager({}), idle, lambda: (), lambda: None, again)  # type: ignore[arg-type]
    with socket.socket() as unused:
        asyncio.run(life.run([(Silent(), unused)], lambda _: None))  # type: ignore[list-item]
    idle.writer.end()
    assert len(tried) >= 3


@pytest.mark.parametrize("error", [RuntimeError("a defect"), Dismissed("uninstalled")])
def test_what_goes_wrong_for_good_behind_the_calls_ends_the_daemon(error: Exception) -> None:
    """Nobody else would notice that the node is not taken over."""

    def take_over() -> tuple[str, ...]:
        raise error

    idle = Idle()
    life = Life(ServiceManager({}), idle, take_over, lambda: None, lambda: None)  # type: ignore[arg-type]
    with pytest.raises(type(error), match=str(error)), socket.socket() as unused:
        asyncio.run(life.run([(Silent(), unused)], lambda _: None))  # type: ignore[list-item]
    idle.writer.end()


def test_one_that_is_asked_to_end_while_it_takes_over_says_nothing_of_readiness(lab: Lab) -> None:
    with served(lab) as daemon:
        daemon.ask("POST", "/v1/up")
        daemon.logged("listening")
        for _ in range(3):
            daemon.kill()
            daemon.start(ready=False)
            daemon.logged("listening")
            daemon.said.clear()
            assert daemon.stop() == 0
            daemon.until("STOPPING=1")
            assert not any("not taken over" in text for text in daemon.said)
            daemon.start()
            daemon.logged("listening")
        assert "not taken over" not in daemon.log.read_text()
        assert daemon.get("/v1/status")["drift"] == []


def test_it_has_as_many_descriptors_as_it_may(lab: Lab) -> None:
    daemon = Daemon(lab)
    daemon.prefix = ["prlimit", "--nofile=128:3000", "--"]
    try:
        daemon.start()
        assert resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE) == (3000, 3000)
    finally:
        daemon.close()
