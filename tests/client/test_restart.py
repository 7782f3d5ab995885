"""A daemon that is not there: waited for within bounds, and asked again when it is back."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from cellwall.client import AsyncClient, Client
from cellwall.config import paths_for
from cellwall.engine.requests import AttachRequest
from cellwall.errors import CellwallError, NoPrivilege, Unavailable
from cellwall.lab import Lab
from client.serving import Daemon, served

pytestmark = [pytest.mark.root, pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture
def daemon(lab: Lab) -> Iterator[Daemon]:
    with served(lab) as daemon:
        yield daemon
        with Client.open(root=lab.root) as client:
            client.down(force=True)


def asynchronously(path: str, patience: float) -> object:
    async def ask() -> object:
        async with AsyncClient(path, patience=patience) as client:
            return await client.endpoints()

    return asyncio.run(ask())


def waiting(path: str, patience: float) -> object:
    with Client(path, patience=patience) as client:
        return client.endpoints()


CLIENTS = pytest.mark.parametrize("ask", [waiting, asynchronously])


@CLIENTS
def test_where_nobody_answers_the_wait_is_bounded(tmp_path: Path, ask: Callable[[str, float], object]) -> None:
    with pytest.raises(Unavailable, match=r"no daemon answered within 0\.05 s"):
        ask(str(tmp_path / "missing"), 0.05)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead"))
    with pytest.raises(Unavailable, match="refused"):
        ask(str(tmp_path / "dead"), 0.05)


@CLIENTS
def test_what_answers_like_no_daemon_is_unavailable(tmp_path: Path, ask: Callable[[str, float], object]) -> None:
    for said in (b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n12", b""):
        path = tmp_path / f"other{len(said)}"
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
            listening.listen()
            ended = threading.Event()

            def answer(listening: socket.socket = listening, said: bytes = said, over: threading.Event = ended) -> None:
                listening.settimeout(0.02)
                while not over.is_set():
                    try:
                        connection, _ = listening.accept()
                    except TimeoutError:
                        continue
                    with connection, suppress(OSError):  # a client that has given up meanwhile hears nothing
                        connection.recv(1 << 16)
                        connection.sendall(said)

            other = threading.Thread(target=answer)
            other.start()
            with pytest.raises(Unavailable):
                ask(str(path), 0.05)
            ended.set()
            other.join()


@CLIENTS
def test_paths_of_any_length_lead_to_a_daemon(
    daemon: Daemon, tmp_path: Path, ask: Callable[[str, float], object]
) -> None:
    long = tmp_path / ("x" * 150)
    long.symlink_to(daemon.paths.socket_directory)
    assert ask(str(long / "cellwall.sock"), 5.0) == ()


def test_a_client_outlives_its_daemon(daemon: Daemon, lab: Lab) -> None:
    with Client.open(root=lab.root) as client:
        web = client.attach("web")
        for _ in range(3):
            daemon.end()
            daemon.begin()
            assert client.endpoint("web") == web
            assert client.attach("web") == web, "asked again it is as it was"


def test_what_is_asked_during_a_restart_is_answered_by_the_next(daemon: Daemon, lab: Lab) -> None:
    """From many threads of one client, none of which notices."""
    restarted = threading.Event()

    def work(client: Client, number: int) -> int:
        done = 0
        while not restarted.is_set():
            name = f"c{number}-{done}"
            client.attach(name)
            assert client.endpoint(name).key.container_id == name
            client.detach(name)
            done += 1
        return done

    with Client.open(root=lab.root, patience=30) as client, ThreadPoolExecutor(4) as pool:
        client.up()
        works = [pool.submit(work, client, number) for number in range(4)]
        try:
            for _ in range(3):
                daemon.end()
                daemon.begin()
                client.attach_many([AttachRequest("between")])
                assert client.detach("between")
        finally:
            restarted.set()
        assert all(work.result() > 0 for work in works)
        assert client.endpoints() == ()
        assert client.status().drift == ()


def test_tasks_of_one_loop_share_a_client(daemon: Daemon, lab: Lab) -> None:
    async def crowd() -> int:
        async with AsyncClient.open(root=lab.root) as client:
            names = [f"c{number}" for number in range(40)]
            endpoints = await asyncio.gather(*(client.attach(name) for name in names))
            assert [endpoint.key.container_id for endpoint in endpoints] == names
            assert {endpoint.key for endpoint in await client.endpoints()} == {one.key for one in endpoints}
            return sum(await asyncio.gather(*(client.detach(name) for name in names)))

    assert asyncio.run(crowd()) == 40


def test_who_may_not_use_the_socket_is_told_so(daemon: Daemon, lab: Lab) -> None:

    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setresuid(65534, 65534, 65534)
            Client(paths_for(lab.root).socket, patience=5).endpoints()
        except CellwallError as error:
            os.write(writing, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    said = os.read(reading, 4096).decode()
    os.close(reading)
    os.waitpid(child, 0)
    assert said.startswith(f"{NoPrivilege.__name__}: ") and "daemon.group" in said
