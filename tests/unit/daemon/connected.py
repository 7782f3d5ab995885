"""Connections of the daemon's, without a socket: what callers say is handed in, what they are told is looked at."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from cellwall.daemon.asker import Asker
from cellwall.daemon.authority import Authority, Peer
from cellwall.daemon.bounds import Bounds
from cellwall.daemon.http.answers import json_response
from cellwall.daemon.http.connection import Connection
from cellwall.daemon.http.fast_path import FastPath
from cellwall.daemon.seldom import Seldom
from cellwall.model.endpoint import Endpoint
from cellwall.wire.bodies import Places
from cellwall.wire.octets import request_text
from unit.daemon.claimed import WEB

GET = request_text("GET", "/v1/version", b"")
LAST = GET.replace(b"Accept:", b"Connection: close\r\nAccept:")
CLAIM = request_text("POST", "/v1/pool/claims", b'{"container":"web","tenant":"acme"}')


class Wire(asyncio.Transport):
    """What is written to a caller."""

    def __init__(self) -> None:
        super().__init__()
        self.said = b""
        self.unsent = 0
        self.ended = False
        self.aborted = False
        self.paused = False

    def write(self, data: Any) -> None:
        self.said += bytes(data)

    def writelines(self, pieces: Any) -> None:
        self.said += b"".join(pieces)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.ended

    def close(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Eager(Connection):
    """A connection whose caller says the rest in the moment in which it has an answer."""

    __slots__ = ("rest", "waited")
    rest: list[bytes]
    waited: list[bool]

    async def finish_response(self, request: Any, resp: Any, *rest: Any) -> Any:
        outcome = await super().finish_response(request, resp, *rest)
        self.waited.append(self in self._unanswered)
        while self.rest:
            self.data_received(self.rest.pop(0))
        return outcome


class Daemon:
    """Answers 200 by aiohttp and 201 by the fast path, to callers whose octets the test hands in."""

    def __init__(self) -> None:
        self.claims = 0
        self.heard = 0
        self.ready = True
        self.alone: list[bool] = []
        self.bounds = Bounds()
        self.slow = Seldom(logging.getLogger("cellwall.daemon"), "hung up")
        self.unanswered: set[Connection] = set()
        self.go_on = asyncio.Event()
        self.go_on.set()
        self._server = web.Server(self.respond, handler_cancellation=True)

    async def respond(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)
        connection.began()
        await (request.read() if request.content.is_eof() else connection.until_said(request))
        self.alone.append(connection.alone)
        await self.go_on.wait()
        return json_response(b"{}")

    def hear(self) -> None:
        self.heard += 1

    def claim(self, asker: Asker, places: Places) -> Endpoint | None:
        self.claims += 1
        return WEB if self.ready else None

    async def connect(self, *rest: bytes) -> "tuple[Eager, Wire]":
        """A connection of which aiohttp waits for octets, as before anything arrives."""
        made, wire = (
            Eager(
                self._server,
                bounds=self.bounds,
                left=lambda: None,
                unanswered=self.unanswered,
                silence=lambda: None,
                heard=self.hear,
                fast=FastPath(self.claim, Authority(), lambda *_: None),
                slow=self.slow,
                loop=asyncio.get_running_loop(),
                access_log=None,
            ),
            Wire(),
        )
        made.peer, made.rest, made.waited = Peer(0), list(rest), []
        made.connection_made(wire)
        await settled()  # before Python 3.12 a task begins with the loop's next round only
        return made, wire


async def settled() -> None:
    """All that can be done without another octet is done."""
    for _ in range(20):
        await asyncio.sleep(0)


def statuses(wire: Wire) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1.1 (\d+)", wire.said)]


Story = Callable[[Daemon], Awaitable[None]]


def told(story: Story) -> None:
    async def tell() -> None:
        await story(Daemon())

    asyncio.run(tell())
