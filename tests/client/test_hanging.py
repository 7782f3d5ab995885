"""Whoever answers at the daemon's socket and never comes to an end is waited for once, as long as one answer takes."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

import pytest

from cellwall.client import Client, asynchronous, blocking
from cellwall.client.asynchronous import AsyncClient
from cellwall.cni import thin
from cellwall.config import paths_for
from cellwall.errors import Unavailable

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


def hang(connection: socket.socket, ended: Event) -> None:
    ended.wait()


def trickle(connection: socket.socket, ended: Event) -> None:
    connection.sendall(HEAD % 1000000)
    while not ended.wait(0.01):
        connection.sendall(b"x")


def flood(connection: socket.socket, ended: Event) -> None:
    connection.sendall(HEAD % (1 << 40))
    while not ended.is_set():
        connection.sendall(b"x" * 65536)


Behaviour = Callable[[socket.socket, Event], None]
WAYS = pytest.mark.parametrize("behave", [hang, trickle, flood])


@contextmanager
def answering(root: Path, behave: Behaviour) -> Iterator[list[int]]:
    """Something at the socket of the daemon of `root`; how often it was asked."""
    place, asked, ended = paths_for(root).socket, [0], Event()
    os.makedirs(os.path.dirname(place))

    def serve(listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                asked[0] += 1
                with connection, suppress(OSError):
                    connection.recv(65536)
                    behave(connection, ended)

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(place)
        listening.listen()
        thread = Thread(target=serve, args=(listening,))
        thread.start()
        try:
            yield asked
        finally:
            ended.set()
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


@WAYS
def test_the_plugin_does_not_wait_for_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behave: Behaviour
) -> None:
    monkeypatch.setattr(thin, "_ANSWER", 0.5)
    with answering(tmp_path, behave) as asked:
        assert thin.ask(os.fsencode(tmp_path), {b"CNI_COMMAND": b"DEL"}, b"{}") == (thin.SILENT, b"")
    assert asked == [1]


@WAYS
def test_nor_does_a_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behave: Behaviour) -> None:
    monkeypatch.setattr(blocking, "ANSWER", 0.5)
    with answering(tmp_path, behave) as asked, Client.open(root=tmp_path) as client, pytest.raises(Unavailable):
        client.endpoints()
    assert asked == [1]


@pytest.mark.parametrize("behave", [trickle, flood])
def test_nor_does_one_that_is_awaited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behave: Behaviour) -> None:
    monkeypatch.setattr(asynchronous, "ANSWER", 0.5)

    async def ask() -> None:
        async with AsyncClient.open(root=tmp_path) as client:
            await client.endpoints()

    with answering(tmp_path, behave) as asked, pytest.raises(Unavailable):
        asyncio.run(ask())
    assert asked == [1]
