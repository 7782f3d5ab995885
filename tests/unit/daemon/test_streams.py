"""Whatever is said, in whatever pieces: what is answered as it arrives is carried out once, and in its order."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from cellwall.daemon.asker import Asker
from cellwall.daemon.http.answers import json_response
from cellwall.daemon.http.connection import Connection
from cellwall.model.endpoint import Endpoint
from cellwall.wire.bodies import Places
from cellwall.wire.octets import request_text
from unit.daemon.connected import Daemon, settled

T = TypeVar("T")

CLAIMS = "/v1/pool/claims"


def claim(number: int) -> bytes:
    return request_text("POST", CLAIMS, b'{"container":"c%d","tenant":"acme"}' % number)


HEAD = "/other HTTP/1.1\r\nHost: x\r\n"
LENGTH = len(claim(0))
BEFORE = (
    f"GET {HEAD}\r\n",
    f"GET {HEAD}X-Said: ",
    f"GET {HEAD}\r\nGET {HEAD}X-Said: ",
    f"GET /slow{HEAD}\r\n",
    f"GET {HEAD}Connection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    f"GET {HEAD}Connection: close\r\n\r\n",
    f"POST {HEAD}Content-Length: {LENGTH}\r\n\r\n",
    f"POST {HEAD}Content-Length: {LENGTH + 2}\r\n\r\n",
    f"POST {HEAD}Content-Length: {LENGTH + 1}\r\nExpect: 100-continue\r\n\r\n{{",
    f"POST {HEAD}Transfer-Encoding: chunked\r\n\r\n",
    f"POST {HEAD}Transfer-Encoding: chunked\r\n\r\n{LENGTH:x}\r\n",
    "\r\n",
    "no HTTP\r\n\r\n",
)
"""What comes before the octets of a claim, and may make them the rest of something else."""
BEHIND = ("\r\n", "\r\n0\r\n\r\n", "\r\n\r\n", f"GET {HEAD}\r\n", f"GET {HEAD}X-Said: ", "{}")


@st.composite
def streams(draw: st.DrawFn) -> list[tuple[bytes, bool]]:
    """Pieces, many of them whole claims, and whether their caller waits for an answer after each."""
    said = [(request_text("GET", "/first", b""), True)]
    for number in range(draw(st.integers(1, 6))):
        before, behind = draw(seldom("", BEFORE)).encode(), draw(seldom("", BEHIND)).encode()
        cuts = {len(before), len(before) + LENGTH} if draw(seldom(True, [False])) else set()
        piece = before + claim(number) + behind
        cuts |= {0, len(piece), draw(seldom(0, range(1, LENGTH)))}
        said += [(piece[a:b], draw(seldom(True, [False]))) for a, b in pairwise(sorted(cuts))]
    return said


def seldom(mostly: T, others: Sequence[T]) -> st.SearchStrategy[T]:
    """`mostly`, in a third of all cases another one."""
    return st.sampled_from([True, True, False]).flatmap(lambda so: st.just(mostly) if so else st.sampled_from(others))


class Noting(Daemon):
    """Notes what is carried out; answers claims as they arrive, or none."""

    def __init__(self, *, fast: bool) -> None:
        super().__init__()
        self.ready = fast
        self.done: list[str] = []

    async def respond(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)
        connection.began()
        body = await (request.read() if request.content.is_eof() else connection.until_said(request))
        if request.path.startswith("/slow"):
            await asyncio.sleep(0)
        self.done.append(f"{request.path} {body.decode()}")
        return json_response(b"{}")

    def claim(self, asker: Asker, places: Places) -> Endpoint | None:
        if self.ready:
            (request,) = places.requests
            self.done.append(f'{CLAIMS} {{"container":"{request.container_id}","tenant":"{request.tenant}"}}')
        return super().claim(asker, places)


async def carried_out(said: Sequence[tuple[bytes, bool]], *, fast: bool) -> tuple[list[str], int]:
    """What was done of it all, and how many answers there were."""
    daemon = Noting(fast=fast)
    connection, wire = await daemon.connect()
    for piece, waits in said:
        if not wire.ended:
            connection.data_received(piece)
        if waits:
            await settled()
    for _ in range(10):
        await settled()
    connection.connection_lost(None)
    await settled()
    assert daemon.unanswered == set()
    return daemon.done, wire.said.count(b"HTTP/1.")


@given(streams())
def test_what_is_answered_as_it_arrives_is_what_would_have_been_done(said: list[tuple[bytes, bool]]) -> None:
    assert asyncio.run(carried_out(said, fast=True)) == asyncio.run(carried_out(said, fast=False))
