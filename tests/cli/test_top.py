"""`cellwall metrics` and `cellwall top`: over a daemon as it is served, and what top does to a terminal."""

import json
import os
import pty
import select
import signal
import socket
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from nodecommand import SOURCE, Command

from cellwall.api import Wall
from cellwall.cli import exits
from cellwall.lab import Lab, connect
from cellwall.lab.host import Host
from daemon.served import Daemon, served
from world import PUBLIC4

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab, lab.internet.serve(udp=[53]):
        yield lab


@pytest.fixture(scope="module")
def web(lab: Lab) -> Host:
    """The sandbox of the container of that name."""
    return lab.sandbox("web")


@pytest.fixture(scope="module")
def daemon(lab: Lab, web: Host) -> Iterator[Daemon]:
    with lab.node.enter(), served(lab) as daemon:
        assert daemon.ask("POST", "/v1/up").status == 200
        for body in ({"container": "web", "netns": str(web.netns), "tenant": "acme"}, {"container": "idle"}):
            assert daemon.ask("POST", "/v1/endpoints", body).status == 201
        assert connect(web, PUBLIC4, 53, udp=True)
        yield daemon


@pytest.fixture
def cellwall(lab: Lab, daemon: Daemon) -> Command:
    return Command(lab)


def test_metrics_are_printed_as_they_are_served(cellwall: Command) -> None:
    said = cellwall("metrics")
    assert said.status == 0
    assert "\ncellwall_endpoints 2.0\n" in said.out
    assert 'cellwall_tenant_received_packets_total{tenant="acme"} 1.0' in said.out
    assert said.out.endswith("\n") and not said.out.endswith("\n\n")
    assert "\ncellwall_endpoints 2.0\n" in cellwall("metrics", "--json").json["text"]


def test_top_shows_one_look(cellwall: Command) -> None:
    said = cellwall("top", "--once", "--interval", "0.5", "--sort", "name")
    assert said.status == 0
    head, *rows = said.out.splitlines()
    assert head.startswith("TENANT") and [row.split()[:2] for row in rows] == [["-", "idle"], ["acme", "web"]]


def test_top_gives_programs_numbers(cellwall: Command) -> None:
    said = cellwall("top", "--json", "--interval", "0.5")
    assert said.json["seconds"] >= 0.5
    by_name = {row["container"]: row for row in said.json["rates"]}
    assert by_name.keys() == {"web", "idle"}
    assert (by_name["web"]["tenant"], by_name["web"]["connections"], by_name["web"]["received_bytes"]) == ("acme", 1, 0)
    tenants = cellwall("top", "--json", "--interval", "0.5", "--tenants").json["rates"]
    assert {(row["tenant"], row["container"]) for row in tenants} == {("acme", ""), ("", "")}


@pytest.mark.parametrize(("order", "first"), [("name", "idle"), ("bytes", "web")])
def test_top_tells_what_passed_between_two_looks(cellwall: Command, web: Host, order: str, first: str) -> None:
    argv = cellwall.argv("top", "--json", "--interval", "1", "--sort", order)
    asking = web.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with asking, subprocess.Popen(argv, stdout=subprocess.PIPE, env=environ()) as running:
        asking.connect((PUBLIC4, 53))
        while running.poll() is None:
            asking.send(b"x" * 1000)
            time.sleep(0.01)
        assert running.stdout is not None
        rows = json.loads(running.stdout.read())["rates"]
    assert rows[0]["container"] == first
    assert {row["container"]: row["received_packets"] > 0 for row in rows} == {"idle": False, "web": True}


@pytest.mark.parametrize("given", ["0", "0.4", "3601", "soon", "nan", "-1"])
def test_an_interval_that_is_none_is_refused(cellwall: Command, given: str) -> None:
    said = cellwall("top", f"--interval={given}")
    assert said.status == 2 and said.err.startswith("cellwall: --interval: ")


def test_top_goes_on_in_a_pipe_until_it_is_interrupted(cellwall: Command) -> None:
    argv = cellwall.argv("top", "--interval", "0.5")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environ()) as running:
        assert running.stdout is not None
        heads = 0
        while heads < 2:
            heads += running.stdout.readline().startswith("TENANT")
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 0


def test_a_reader_who_has_seen_enough_ends_it(cellwall: Command) -> None:
    argv = cellwall.argv("top", "--interval", "0.5")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ()) as running:
        assert running.stdout is not None and running.stderr is not None
        running.stdout.readline()
        running.stdout.close()
        assert running.wait(30) == exits.FAILED
        assert running.stderr.read() == ""


class Terminal:
    """A program on a terminal of its own; without `keys` it is one that nobody types at."""

    def __init__(self, argv: list[str], kind: str = "xterm", *, keys: bool = True) -> None:
        self.screen, side = pty.openpty()
        self.before = termios.tcgetattr(side)
        self.side = side
        self.seen = b""
        self.process = subprocess.Popen(
            argv,
            stdin=side if keys else subprocess.DEVNULL,
            stdout=side,
            stderr=side,
            env=environ(TERM=kind, COLUMNS="120", LINES="30"),
        )

    def until(self, word: bytes) -> None:
        deadline = time.monotonic() + 30
        while word not in self.seen:
            assert select.select([self.screen], [], [], deadline - time.monotonic())[0], self.seen
            self.seen += os.read(self.screen, 65536)

    def press(self, key: str) -> None:
        self.seen = b""
        os.write(self.screen, key.encode())

    def ended(self) -> int:
        """Its status; what it still had to say is read, as it may wait for that."""
        deadline = time.monotonic() + 60
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.seen
            if select.select([self.screen], [], [], 0.05)[0]:
                self.seen += os.read(self.screen, 65536)
        while select.select([self.screen], [], [], 0.05)[0]:
            self.seen += os.read(self.screen, 65536)
        return self.process.returncode


@contextmanager
def terminal(argv: list[str], kind: str = "xterm", *, keys: bool = True) -> Iterator[Terminal]:
    opened = Terminal(argv, kind, keys=keys)
    try:
        yield opened
    finally:
        opened.process.kill()
        opened.process.wait()
        os.close(opened.screen)
        os.close(opened.side)


def environ(**more: str) -> dict[str, str]:
    """Where output is not written as it is printed, which some have set."""
    kept = {name: text for name, text in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return {**kept, "PYTHONPATH": str(SOURCE), **more}


OTHER_SCREEN, FIRST_SCREEN, CURSOR = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h"


def test_top_is_live_in_a_terminal_hears_keys_and_leaves_it_as_it_was(cellwall: Command) -> None:
    with terminal(cellwall.argv("top", "--interval", "0.5")) as screen:
        screen.until(b"by bytes")
        assert OTHER_SCREEN in screen.seen and b"web" in screen.seen
        screen.press("s")
        screen.until(b"by packets")
        screen.press("t")
        screen.until(b"*")
        screen.press("q")
        assert screen.ended() == 0
        assert FIRST_SCREEN in screen.seen and CURSOR in screen.seen
        assert termios.tcgetattr(screen.side) == screen.before


@pytest.mark.parametrize("given", [("--sort", "denied"), ("--sort", "denied", "--tenants")])
def test_what_top_begins_with_is_as_it_was_asked(cellwall: Command, given: tuple[str, ...]) -> None:
    with terminal(cellwall.argv("top", *given)) as screen:
        screen.until(b"by denied")
        assert (b"web" in screen.seen) == ("--tenants" not in given)
        screen.press("q")
        assert screen.ended() == 0


@pytest.mark.parametrize("given", ["--once", "--json"])
def test_one_look_is_printed_in_a_terminal_too(cellwall: Command, given: str) -> None:
    with terminal(cellwall.argv("top", given, "--interval", "0.5")) as screen:
        assert screen.ended() == 0
        assert b"web" in screen.seen and OTHER_SCREEN not in screen.seen


def test_a_terminal_that_can_draw_nothing_has_a_table_each_interval(cellwall: Command) -> None:
    with terminal(cellwall.argv("top", "--interval", "0.5"), kind="dumb") as screen:
        for _ in range(2):
            screen.until(b"web")
            assert b"\x1b" not in screen.seen
            screen.seen = b""
        screen.process.send_signal(signal.SIGINT)
        assert screen.ended() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_the_terminal_as_it_was(cellwall: Command, number: signal.Signals) -> None:
    with terminal(cellwall.argv("top", "--interval", "60")) as screen:
        screen.until(b"by bytes")
        screen.process.send_signal(number)
        assert screen.ended() == 0
        assert FIRST_SCREEN in screen.seen
        assert termios.tcgetattr(screen.side) == screen.before


def test_without_a_daemon_root_sees_it_all_the_same_and_there_are_no_metrics() -> None:
    with Lab() as lab, lab.node.enter(), Wall.open(root=lab.root) as wall:
        wall.attach("web", tenant="acme")
        cellwall = Command(lab)
        rows = cellwall("top", "--json", "--interval", "0.5").json["rates"]
        assert [row["container"] for row in rows] == ["web"]
        said = cellwall("metrics")
        assert (said.status, "no daemon writes" in said.err) == (4, True)
