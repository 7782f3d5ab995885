"""A pool outlives its daemon: what stood ready does, what was being claimed or made is whole or nothing."""

import json
import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from typing import Any

import pytest

from cellwall.lab import Lab
from daemon.served import Daemon, UnixConnection, served

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

CONFIGURATION = "[pool]\nsize = {}\n"


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Lab() as lab, lab.node.enter(), served(lab, configuration=CONFIGURATION.format(4)) as daemon:
        daemon.ask("POST", "/v1/up")
        yield daemon


def until_ready(daemon: Daemon, count: int) -> Any:
    deadline = time.monotonic() + 30
    while (status := daemon.get("/v1/status"))["ready"] != count:
        assert time.monotonic() < deadline, status
        time.sleep(0.02)
    return status


def claim(daemon: Daemon, container: str) -> Any:
    connection = UnixConnection(daemon.paths.socket, 10)
    try:
        connection.request("POST", "/v1/pool/claims", json.dumps({"container": container, "tenant": "acme"}))
        answer = connection.getresponse()
        document = json.loads(answer.read())
    finally:
        connection.close()
    assert answer.status in (200, 201), document
    return document["endpoint"]


def test_what_stood_ready_is_claimed_from_the_next_daemon(daemon: Daemon) -> None:
    until_ready(daemon, 4)
    first = claim(daemon, "first")
    daemon.kill()
    daemon.start()
    assert claim(daemon, "first") == first
    second = claim(daemon, "second")
    assert "/~" in second["netns"] and second["netns"] != first["netns"]
    assert until_ready(daemon, 4)["drift"] == []
    for container in ("first", "second"):
        daemon.ask("DELETE", f"/v1/endpoints/{container}/eth0")


def test_claims_amid_kills_are_whole_or_nothing_and_nobody_shares_a_sandbox(daemon: Daemon) -> None:
    chance, told = random.Random(4), dict[str, Any]()

    def one(number: int) -> None:
        try:
            told[f"c{number}"] = claim(daemon, f"c{number}")
        except (OSError, HTTPException):
            return  # it was killed: nobody was told

    for round_ in range(4):
        with ThreadPoolExecutor(4) as threads:
            asked = [threads.submit(one, number) for number in range(round_ * 8, round_ * 8 + 8)]
            time.sleep(chance.uniform(0.0, 0.02))
            daemon.kill()
            for each in asked:
                each.result()
        daemon.start()
        status = until_ready(daemon, 4)
        assert status["drift"] == []
        attached = {one["container"]: one for one in daemon.get("/v1/endpoints")["endpoints"]}
        assert {name: attached.get(name) for name in told} == told  # who was told has what it was told
        assert len({one["netns"] for one in attached.values()}) == len(attached)
        assert len({one["address4"] for one in attached.values()}) == len(attached)


def test_another_size_is_taken_by_a_reload(daemon: Daemon) -> None:
    daemon.configure(CONFIGURATION.format(2))
    daemon.process.send_signal(signal.SIGHUP)
    until_ready(daemon, 2)
    daemon.configure(CONFIGURATION.format(6))
    daemon.process.send_signal(signal.SIGHUP)
    until_ready(daemon, 6)
