"""Clients of a daemon that is killed in the middle of what they ask: they notice nothing, and nothing is left."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from cellwall.client import Client
from cellwall.lab import Lab
from daemon.served import Daemon, served

pytestmark = [pytest.mark.root, pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")]


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with Lab() as lab, lab.node.enter(), served(lab) as daemon:
        yield daemon


def test_what_was_asked_of_a_daemon_that_is_killed_is_done_by_the_next(daemon: Daemon) -> None:
    over = threading.Event()

    def work(client: Client, number: int) -> int:
        done = 0
        while not over.is_set():
            name = f"c{number}-{done}"
            made = client.attach(name, expose=[f"{8000 + number}:80"])
            assert client.endpoint(name) == made
            assert client.unexpose(name, f"{8000 + number}:80").bindings == ()
            client.detach(name)
            done += 1
        return done

    with Client.open(root=daemon.lab.root, patience=60) as client, ThreadPoolExecutor(3) as pool:
        client.up()
        works = [pool.submit(work, client, number) for number in range(3)]
        try:
            for number in range(4):
                client.attach(f"k{number}")  # somebody was served: the others are at it
                daemon.kill()
                daemon.start()
        finally:
            over.set()
        assert all(work.result() > 0 for work in works)
        kept = {endpoint.key.container_id for endpoint in client.endpoints()}
        assert kept == {f"k{number}" for number in range(4)}
        client.reconcile()
        assert client.status().drift == ()
