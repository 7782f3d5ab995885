"""A daemon in a thread of the test's: the real application over the walls of a lab's node, its signals and its service
manager left out. It can be ended, and begun again at the same path, within a test."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Event, Thread

from cellwall.api import Wall
from cellwall.cni.served import answer_over
from cellwall.config import Paths, drop_mode_record, paths_for
from cellwall.daemon.authority import Authority
from cellwall.daemon.bounds import Bounds
from cellwall.daemon.http.application import application
from cellwall.daemon.http.listening import Listener
from cellwall.daemon.http.sockets import listening
from cellwall.daemon.node import Node
from cellwall.lab import Lab


class Daemon:
    """Begun and ended by the test."""

    def __init__(self, lab: Lab, bounds: Bounds | None = None) -> None:
        self.lab = lab
        self.paths: Paths = paths_for(lab.root)
        self._bounds = bounds or Bounds()
        self._thread: Thread | None = None

    def begin(self) -> None:
        """Returns once somebody answers."""
        self._up, self._failed = Event(), []
        self._thread = Thread(target=self._run)
        self._thread.start()
        assert self._up.wait(30)
        assert not self._failed, self._failed

    def end(self) -> None:
        """In order. Idempotent."""
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._over.set)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        try:
            with self.lab.node.enter(), ExitStack() as opened:
                wall = opened.enter_context(Wall.open(root=self.lab.root, serving=True))
                beside = opened.enter_context(Wall.open(root=self.lab.root, reading=True))
                sock = opened.enter_context(listening(self.paths.socket, None))
                node = Node(wall, beside, self._bounds)
                cni = lambda environ, raw: answer_over(wall, environ, raw)  # noqa: E731
                judge = Authority()
                listener = Listener(application(node, judge, self._bounds, cni), self._bounds, judge)
                asyncio.run(self._serve(node, listener, sock))
        except Exception as error:
            self._failed.append(error)
        finally:
            self._up.set()

    async def _serve(self, node: Node, listener: Listener, sock: object) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        node.start()
        await listener.open(sock)  # type: ignore[arg-type]
        self._up.set()
        await self._over.wait()
        await listener.close()


@contextmanager
def served(lab: Lab, bounds: Bounds | None = None) -> Iterator[Daemon]:
    """A daemon that has begun; whatever became of it, the node is anybody's afterwards."""
    daemon = Daemon(lab, bounds)
    try:
        daemon.begin()
        yield daemon
    finally:
        daemon.end()
        drop_mode_record(daemon.paths)
