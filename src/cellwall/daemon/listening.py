"""From a listening socket to an application: every connection within bounds, and an orderly end."""

import asyncio
import socket

from aiohttp import web

from cellwall.daemon.bounds import Bounds
from cellwall.daemon.connection import Census, Connection

_LINGER = 1.0
"""Seconds for which what a caller goes on sending is read and thrown away, so that it finds the answer behind it."""


class Listener:
    """The sockets that answer with one application. Opened on a running loop."""

    def __init__(self, application: web.Application, bounds: Bounds) -> None:
        self._bounds = bounds
        self._census = Census(bounds)
        self._runner = web.AppRunner(
            application, access_log=None, handler_cancellation=True, shutdown_timeout=bounds.ending_seconds
        )
        self._servers: list[asyncio.Server] = []

    async def open(self, *listening: socket.socket) -> None:
        """Answer at these unix sockets, which listen already or do from now on."""
        await self._runner.setup()
        for sock in listening:
            # not create_unix_server, which from Python 3.13 on removes the path of a socket that may not be ours
            server = await asyncio.get_running_loop().create_server(self._connection, sock=sock, backlog=1024)
            self._servers.append(server)

    async def close(self) -> None:
        """Take no more connections, finish what was begun, and end the application. Idempotent."""
        for server in self._servers:
            server.close()
        await self._runner.cleanup()

    def _connection(self) -> Connection:
        server = self._runner.server
        assert server is not None
        bounds = self._bounds
        return Connection(
            server,
            bounds=bounds,
            census=self._census,
            loop=asyncio.get_running_loop(),
            access_log=None,
            keepalive_timeout=bounds.idle_seconds,
            tcp_keepalive=False,
            max_line_size=bounds.header_bytes,
            max_field_size=bounds.header_bytes,
            auto_decompress=False,
            lingering_time=_LINGER,
        )
