"""The daemon's own record: from a packet to a line of `cellwall log`, over restarts, and what is said while nobody can
listen."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from typing import Any

import pytest

from cellwall.adapters.events.nflog import PacketLog
from cellwall.attack.frames import frame, packet
from cellwall.client import Client
from cellwall.model.addresses import mac_text
from cellwall.model.settings import Settings
from daemon.served import Daemon, ask_as, served_node
from world import Sandbox, World

pytestmark = pytest.mark.root
SOURCE = Path(__file__).parents[2] / "src"
FLOOR = {4: "10.0.0.5", 6: "fc00:9::9"}
MEMBER, GROUP = 1000, 5000
CONFIGURATION = f"""
[daemon]
group = "{GROUP}"
allow = ["{GROUP} log acme"]
[audit]
rate = 1000
burst = 1000
"""


@pytest.fixture(scope="module")
def node() -> Iterator[tuple[Daemon, World]]:
    with serving(CONFIGURATION) as made:
        yield made


@contextmanager
def serving(configuration: str) -> Iterator[tuple[Daemon, World]]:
    with served_node(configuration=configuration) as node:
        os.chmod(node[1].lab.root, 0o755)
        yield node


def tries(box: Sandbox, sport: int, family: int = 4) -> None:
    macs = mac_text(box.endpoint.mac), mac_text(Settings().network.bridge_mac)
    body = packet(box.address(family), FLOOR[family], "udp", b"x", sport=sport, dport=9)
    box.host.inject("eth0", [frame(*macs, body)])


class Following:
    """`cellwall log --follow`, whose next event is waited for."""

    def __init__(self, root: str, *arguments: str) -> None:
        argv = [sys.executable, "-m", "cellwall.cli.main", "--root", root, "log", "--follow", "--json", *arguments]
        environ = {**os.environ, "PYTHONPATH": str(SOURCE)}
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environ)

    def until(self, **wanted: object) -> Any:
        """The next event with these fields."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line)
            if wanted.items() <= event.items():
                return event
        raise AssertionError("it ended")


def as_member(daemon: Daemon, *arguments: str) -> Any:
    """What a command of a member of the group prints."""
    identity = ["setpriv", f"--reuid={MEMBER}", f"--regid={MEMBER}", f"--groups={GROUP}", "--"]
    argv = [*identity, sys.executable, "-m", "cellwall.cli.main", "--root", str(daemon.lab.root), *arguments]
    environ = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(argv, capture_output=True, check=True, timeout=60, env=environ)
    return json.loads(done.stdout)


@contextmanager
def following(daemon: Daemon, *arguments: str) -> Iterator[Following]:
    made = Following(str(daemon.lab.root), *arguments)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.communicate()


def test_what_a_sandbox_tries_is_told_to_whom_it_concerns(node: tuple[Daemon, World]) -> None:
    assert_told_to_whom_it_concerns(*node)


def assert_told_to_whom_it_concerns(daemon: Daemon, world: World) -> None:
    web, other = world.attach("web", tenant="acme"), world.attach("other", tenant="rival")
    with following(daemon) as told:
        for sport, box, family in ((1001, web, 4), (1002, other, 6), (1003, web, 6)):
            tries(box, sport, family)
            event = told.until(source_port=sport)
            assert (event["container"], event["tenant"]) == (box.name, box.endpoint.tenant)
            assert (event["reason"], event["generation"]) == ("the floor", box.endpoint.generation)
    answer = ask_as(daemon, MEMBER, [GROUP], "GET", "/v1/log")
    assert {event.get("tenant") for event in answer.document["events"]} == {None, "acme"}
    assert [event["source_port"] for event in answer.document["events"] if "source_port" in event][-2:] == [1001, 1003]
    shown = as_member(daemon, "log", "--json", "--limit", "1", "--reason", "the floor")
    assert (shown["events"][0]["source_port"], shown["more"]) == (1003, True)
    for box in (web, other):
        world.detach(box)


@pytest.mark.parametrize(("end", "sport"), [("killed", 2001), ("ended", 2002)])
def test_a_daemon_that_begins_again_knows_whose_everything_is(node: tuple[Daemon, World], end: str, sport: int) -> None:
    daemon, world = node
    box = world.attach("web", tenant="acme")
    with following(daemon, "--since", "0s") as told:
        if end == "killed":
            daemon.kill()
        else:
            assert daemon.stop() == 0
        daemon.start()
        told.until(kind="began")
        tries(box, sport)
        assert told.until(source_port=sport)["container"] == box.name
    world.detach(box)


def test_while_another_program_listens_the_status_says_that_nothing_is_recorded(node: tuple[Daemon, World]) -> None:
    daemon, _ = node
    assert daemon.stop() == 0
    with PacketLog(Settings().audit.group):
        daemon.start()
        daemon.logged("what sandboxes try is not recorded")
        notes = daemon.get("/v1/status")["notes"]
        assert any("another program listens" in note for note in notes), notes
        assert "\ncellwall_audit_recording 0.0\n" in metrics(daemon)
        assert daemon.stop() == 0
    daemon.start()
    notes = daemon.get("/v1/status")["notes"]
    assert not any("not recorded" in note for note in notes), notes
    assert "\ncellwall_audit_recording 1.0\n" in metrics(daemon)


def metrics(daemon: Daemon) -> str:
    with Client.open(root=daemon.lab.root, patience=60) as client:
        return client.metrics()


def test_another_group_of_the_log_is_listened_to_from_up_on(node: tuple[Daemon, World]) -> None:
    daemon, world = node
    box = world.attach("web", tenant="acme")
    for sport, group in ((3001, 777), (3002, Settings().audit.group)):
        daemon.configure(CONFIGURATION + f"group = {group}\n")
        with following(daemon) as told:
            world.wall.up()
            while str(group) not in listened_to(world):
                sleep(0.05)
            tries(box, sport)
            assert told.until(source_port=sport)["container"] == box.name
    world.detach(box)


def listened_to(world: World) -> list[str]:
    """The groups of the node's log that somebody listens to."""
    lines = world.lab.node.run(["cat", "/proc/net/netfilter/nfnetlink_log"]).text.splitlines()
    return [line.split()[0] for line in lines]
