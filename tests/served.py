"""A daemon inside the test's process: a node of a lab behind a unix socket, and what speaks to it in plain HTTP."""

import asyncio
import http.client
import os
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any, TypeVar

import msgspec

from cellwall.adapters.sandbox import netns
from cellwall.api import Wall
from cellwall.config import paths_for
from cellwall.daemon.authority import Authority, Peer
from cellwall.daemon.bounds import Bounds
from cellwall.daemon.http.application import CniAnswer, application
from cellwall.daemon.http.fast_path import FastPath
from cellwall.daemon.http.listening import Listener
from cellwall.daemon.http.peers import peer_of
from cellwall.daemon.metrics.serving import Metrics
from cellwall.daemon.node import Node
from cellwall.lab import Lab
from cellwall.model.pool import PoolSize
from cellwall.model.settings import Settings
from world import World

T = TypeVar("T")

_MACHINE = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


class Answer(msgspec.Struct, frozen=True):
    """What came back. `document` is what the body says as JSON."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return msgspec.json.decode(self.body)


class Plain:
    """A connection that is kept, and speaks HTTP without knowing what the daemon is."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._http = http.client.HTTPConnection("cellwall", timeout=30)

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """One call. A body is bytes, chunks of bytes, or a value that is sent as JSON."""
        if self._http.sock is None:
            self._http.sock = connected(self._path)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        sent: Any = body
        if not (body is None or isinstance(body, bytes | Iterator)):
            sent = msgspec.json.encode(body)
            given = {"Content-Type": "application/json", **given}
        self._http.request(method, path, sent, given, encode_chunked=isinstance(body, Iterator))
        response = self._http.getresponse()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())

    @property
    def sock(self) -> socket.socket:
        """What it has asked by."""
        return self._http.sock

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> "Plain":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Served:
    """A daemon that answers. `world` is its node, whose wall is the daemon's own."""

    def __init__(self, world: World, path: str, node: Node, loop: asyncio.AbstractEventLoop, fast: FastPath) -> None:
        self.fast = fast
        self.world = world
        self.path = path
        self.node = node
        self.loop = loop

    def connect(self) -> Plain:
        return Plain(self.path)

    def run(self, act: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What a coroutine gives on the daemon's loop."""
        return asyncio.run_coroutine_threadsafe(act(), self.loop).result(30)


def connected(path: str) -> socket.socket:
    """A connected stream to a unix socket."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(30)
    sock.connect(path)
    return sock


@contextmanager
def open_served(
    *,
    bounds: Bounds | None = None,
    authority: Authority | None = None,
    cni: CniAnswer | None = None,
    settings: Settings | None = None,
    wrap: Callable[[Wall], Any] = lambda wall: wall,
    wrap_beside: Callable[[Wall, Wall], Any] = lambda beside, _: beside,
    up: bool = True,
    most_tenants: int = 100,
    size: PoolSize | None = None,
    peer: Callable[[socket.socket], Peer] = peer_of,
) -> Iterator[Served]:
    """A daemon on a lab's node. `wrap` puts something before its writing wall, `wrap_beside` before the one beside it,
    and is given the writing one, too. `peer`: who is at the other end of a connection."""
    given = settings or Settings()
    with (
        netns.entered(_MACHINE),
        Lab() as lab,
        lab.node.enter(),
        Wall.open(root=lab.root, settings=given, serving=True) as wall,
        Wall.open(root=lab.root, settings=given, reading=True) as beside,
        Wall.open(root=lab.root, settings=given, reading=True) as counting,
    ):
        report = wall.up() if up else None
        limits = bounds or Bounds()
        metrics = Metrics(paths_for(lab.root), wall, counting, limits, most=most_tenants)
        node = Node(wrap(wall), wrap_beside(beside, wall), limits, told=metrics.events.wrote, size=size or PoolSize())
        metrics.look_at(node, None)
        judge = authority or Authority()
        fast = FastPath(node.attachments.claim_at_once, judge, metrics.events.answered)
        listener = Listener(application(node, judge, limits, cni, metrics), limits, judge, peer=peer, fast=fast)
        path = os.path.join(lab.root, "api.sock")
        with _listening(path, node, listener) as loop:
            yield Served(World(lab, wall, report), path, node, loop, fast)


@contextmanager
def _listening(path: str, node: Node, listener: Listener) -> Iterator[asyncio.AbstractEventLoop]:
    """The node writes and the listener answers, on the loop that this gives."""
    with socket.socket(socket.AF_UNIX) as listening, _looping() as loop:
        listening.bind(path)
        node.start()
        asyncio.run_coroutine_threadsafe(listener.open(listening), loop).result(30)
        try:
            yield loop
        finally:
            asyncio.run_coroutine_threadsafe(listener.close(), loop).result(30)


@contextmanager
def _looping() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs in a thread of its own, in the caller's namespace."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, name="daemon")
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
