"""From a listening socket to an application: every connection within bounds, and an orderly end.

Connections are accepted here and not by asyncio's server, which takes as many at once as may wait, and makes all that
serves one before anybody can ask whose it is: one user's loop of connects then kept everybody waiting.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from contextlib import suppress

from aiohttp import web

from cellwall.daemon.authority import Authority, Peer
from cellwall.daemon.bounds import Bounds
from cellwall.daemon.http.answers import rendered
from cellwall.daemon.http.census import Census, Counted
from cellwall.daemon.http.connection import Connection
from cellwall.daemon.http.fast_path import FastPath
from cellwall.daemon.http.peers import peer_of
from cellwall.daemon.http.sockets import BACKLOG
from cellwall.daemon.seldom import Seldom
from cellwall.errors import Unavailable
from cellwall.wire.problems import problem_of

_log = logging.getLogger("cellwall.daemon")

_LINGER = 1.0
"""Seconds for which what a caller goes on sending is read and thrown away, so that it finds the answer behind it."""

_UNREAD = 1 << 15
"""Octets of a body, about, that are read before whoever handles the request takes any: half of what it may be."""

_AT_ONCE = 16
"""Connections that are accepted before whoever is connected has a turn again."""

_AGAIN = 1.0
"""Seconds until connections are accepted again where there was no descriptor or memory for one."""

_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listener:
    """The sockets that answer with one application. Opened on a running loop. `peer` says who has connected; `silence`
    is called whenever all who asked have their answers, and `heard` whenever one says something; `fast`: of each
    connection."""

    def __init__(
        self,
        application: web.Application,
        bounds: Bounds,
        authority: Authority,
        *,
        peer: Callable[[socket.socket], Peer] = peer_of,
        silence: Callable[[], None] = lambda: None,
        heard: Callable[[], None] = lambda: None,
        fast: FastPath | None = None,
    ) -> None:
        self._silence = silence
        self._heard = heard
        self._fast = fast
        self._slow = Seldom(_log, "hung up")
        self._peer = peer
        self._bounds = bounds
        self._census = Census(bounds, authority.groups_of)
        self._runner = web.AppRunner(
            application, access_log=None, handler_cancellation=True, shutdown_timeout=bounds.ending_seconds
        )
        self._listening: list[socket.socket] = []
        self._unanswered: set[Connection] = set()
        self._beginning: set[asyncio.Task[None]] = set()
        self._refusal = rendered(problem_of(Unavailable("there are too many connections; ask again")))

    async def open(self, *listening: socket.socket) -> None:
        """Answer at these sockets, which listen already or do from now on."""
        await self._runner.setup()
        for sock in listening:
            sock.setblocking(False)
            sock.listen(BACKLOG)
            self._listening.append(sock)
            self._begin(sock)

    async def close(self) -> None:
        """Take no more connections, finish what was begun, and end the application. Idempotent. Who has not said all
        that it asks, or does not take its answer, keeps nobody from that: while a daemon ends, no other begins."""
        for sock in self._listening:
            asyncio.get_running_loop().remove_reader(sock)
        self._listening.clear()
        await asyncio.gather(*self._beginning, return_exceptions=True)
        for connection in self._connections():
            connection.end()
        await self._runner.cleanup()

    def _connections(self) -> list[Connection]:
        server = self._runner.server
        made = [] if server is None else server.connections
        return [connection for connection in made if isinstance(connection, Connection)]

    def _begin(self, sock: socket.socket) -> None:
        if sock in self._listening:  # and is not closed meanwhile
            asyncio.get_running_loop().add_reader(sock, self._accept, sock)

    def _accept(self, sock: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                made, _ = sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                _log.error("no connection is accepted for a moment: %s", error)
                loop = asyncio.get_running_loop()
                loop.remove_reader(sock)  # it would wake us again and again
                loop.call_later(_AGAIN, self._begin, sock)
                return
            self._admit(made)

    def _admit(self, made: socket.socket) -> None:
        made.setblocking(False)
        if _gone(made):  # whoever connects in a loop does not wait: what serves one costs more than to look
            made.close()
            return
        try:
            peer = self._peer(made)
            counted = self._census.enter(peer)
        except BaseException:
            made.close()
            raise
        if counted is None:
            with made, suppress(OSError):
                made.send(self._refusal)
            return
        loop = asyncio.get_running_loop()
        connection = self._connection(loop, counted)
        connection.peer = peer
        task = loop.create_task(self._serve(loop, made, connection, counted))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    async def _serve(
        self, loop: asyncio.AbstractEventLoop, made: socket.socket, connection: Connection, counted: Counted
    ) -> None:
        try:
            await loop.connect_accepted_socket(lambda: connection, made)
        except BaseException:
            if connection.transport is None:  # else its own end counts it out
                made.close()
                self._census.leave(counted)
            raise

    def _connection(self, loop: asyncio.AbstractEventLoop, counted: Counted) -> Connection:
        server = self._runner.server
        assert server is not None
        bounds = self._bounds
        return Connection(
            server,
            bounds=bounds,
            left=lambda: self._census.leave(counted),
            unanswered=self._unanswered,
            silence=self._silence,
            heard=self._heard,
            fast=self._fast,
            slow=self._slow,
            loop=loop,
            access_log=None,
            keepalive_timeout=bounds.idle_seconds,
            tcp_keepalive=False,
            max_line_size=bounds.header_bytes,
            max_field_size=bounds.header_bytes,
            read_bufsize=_UNREAD,
            auto_decompress=False,
            lingering_time=_LINGER,
        )


def _gone(made: socket.socket) -> bool:
    """Whoever connected has hung up, and said nothing."""
    try:
        return not made.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
