"""Who is answered as a claim arrives, and who not yet: only where aiohttp has nothing of a connection in its hands."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from aiohttp import web

from cellwall.daemon.asker import Asker
from cellwall.daemon.authority import Authority, Peer
from cellwall.daemon.bounds import Bounds
from cellwall.daemon.http.answers import json_response
from cellwall.daemon.http.connection import Connection
from cellwall.daemon.http.fast_path import FastPath
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
        self.unanswered: set[Connection] = set()
        self.go_on = asyncio.Event()
        self.go_on.set()
        self._server = web.Server(self.respond, handler_cancellation=True)

    async def respond(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)
        connection.began()
        await (request.read() if request.content.is_eof() else connection.until_said(request.read()))
        self.alone.append(connection.alone)
        await self.go_on.wait()
        return json_response(b"{}")

    def hear(self) -> None:
        self.heard += 1

    def claim(self, asker: Asker, places: Places) -> Endpoint | None:
        self.claims += 1
        return WEB if self.ready else None

    def connect(self, *rest: bytes) -> "tuple[Eager, Wire]":
        made, wire = (
            Eager(
                self._server,
                bounds=self.bounds,
                left=lambda: None,
                unanswered=self.unanswered,
                silence=lambda: None,
                heard=self.hear,
                fast=FastPath(self.claim, Authority(), lambda *_: None),
                loop=asyncio.get_running_loop(),
                access_log=None,
            ),
            Wire(),
        )
        made.peer, made.rest, made.waited = Peer(0), list(rest), []
        made.connection_made(wire)
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


def test_a_claim_behind_an_answer_is_answered_as_it_arrives() -> None:
    async def story(daemon: Daemon) -> None:
        connection, wire = daemon.connect()
        await settled()  # before 3.12 a task begins with the loop's next round only
        connection.data_received(GET)
        await settled()
        connection.data_received(CLAIM)
        connection.data_received(CLAIM)
        assert statuses(wire) == [200, 201, 201] and daemon.heard == 3
        connection.data_received(CLAIM[:-1])
        await settled()
        connection.data_received(CLAIM[-1:])
        await settled()
        assert statuses(wire) == [200, 201, 201, 200]  # a body in two pieces is aiohttp's
        connection.data_received(GET)
        await settled()
        connection.data_received(CLAIM)
        assert statuses(wire) == [200, 201, 201, 200, 200, 201]

    told(story)


def test_a_claim_overtakes_no_request_before_it() -> None:
    async def story(daemon: Daemon) -> None:
        connection, wire = daemon.connect(CLAIM)
        connection.data_received(GET + GET)
        await settled()
        assert statuses(wire) == [200, 200, 200] and daemon.claims == 0

    told(story)


def test_a_claim_waits_for_the_request_before_it() -> None:
    async def story(daemon: Daemon) -> None:
        connection, wire = daemon.connect()
        connection.data_received(GET)
        await settled()
        daemon.go_on.clear()
        connection.data_received(GET)
        connection.data_received(CLAIM)
        await settled()
        connection.data_received(CLAIM)
        assert statuses(wire) == [200] and daemon.claims == 0
        daemon.go_on.set()
        await settled()
        assert statuses(wire) == [200, 200, 200, 200] and daemon.claims == 0

    told(story)


@pytest.mark.parametrize("first", [LAST, GET + LAST])
def test_behind_the_last_answer_nothing_is_carried_out(first: bytes) -> None:
    async def story(daemon: Daemon) -> None:
        connection, wire = daemon.connect(CLAIM)
        connection.data_received(first)
        await settled()
        connection.data_received(CLAIM)
        assert 201 not in statuses(wire) and wire.ended and daemon.claims == 0

    told(story)


HALVES = {
    "alone": [GET, GET[:-2] + b"X-Said: "],
    "behind a whole one": [GET + GET[:-2] + b"X-Said: "],
    "behind a whole one with a body": [CLAIM + GET[:-2] + b"X-Said: "],
    "behind an empty line": [GET, b"\r\n" + GET[:-2] + b"X-Said: "],
    "behind one that ended in pieces": [GET[:-2], b"\r\n" + GET[:-2] + b"X-Said: "],
}


@pytest.mark.parametrize("pieces", HALVES.values(), ids=HALVES)
def test_what_ends_an_unfinished_head_is_no_claim(pieces: list[bytes]) -> None:
    async def story(daemon: Daemon) -> None:
        connection, _ = daemon.connect()
        for piece in pieces:
            connection.data_received(piece)
            await settled()
        connection.data_received(CLAIM)
        assert daemon.claims == 0

    told(story)


def test_an_unfinished_head_behind_a_body_in_pieces_is_none_either() -> None:
    async def story(daemon: Daemon) -> None:
        connection, _ = daemon.connect()
        daemon.go_on.clear()
        connection.data_received(GET)
        await settled()
        connection.data_received(request_text("POST", "/v1/endpoints", b"0123456789")[:-6])
        connection.data_received(b"\r\n\r\n89" + GET[:8])  # as long as a whole one is, from its empty line on
        daemon.go_on.set()
        await settled()
        connection.data_received(CLAIM)
        assert daemon.claims == 0

    told(story)


@pytest.mark.parametrize("header", [b"Transfer-Encoding: chunked", b"Connection: upgrade\r\nUpgrade: websocket"])
def test_behind_what_goes_on_nothing_is_a_claim(header: bytes) -> None:
    async def story(daemon: Daemon) -> None:
        connection, _ = daemon.connect()
        connection.data_received(GET[:-2] + header + b"\r\n\r\n")
        await settled()
        connection.data_received(CLAIM)
        assert daemon.claims == 0

    told(story)


def test_of_a_connection_that_is_being_closed_nothing_is_carried_out() -> None:
    async def story(daemon: Daemon) -> None:
        connection, _ = daemon.connect()
        connection.data_received(GET)
        await settled()
        connection.close()
        connection.data_received(CLAIM)
        assert daemon.claims == 0

    told(story)


def test_a_claim_keeps_nobody_waiting() -> None:
    async def story(daemon: Daemon) -> None:
        connection, wire = daemon.connect()
        connection.data_received(GET)
        await settled()
        with waiting(daemon):
            connection.data_received(CLAIM)
            await settled()
            assert daemon.claims == 0 and daemon.alone[-1] is False
        await settled()
        assert statuses(wire) == [200, 200]

    told(story)


@contextmanager
def waiting(daemon: Daemon) -> Iterator[None]:
    """Another caller has asked, and has no answer yet."""
    other, _ = daemon.connect()
    daemon.go_on.clear()
    other.data_received(GET)
    yield
    daemon.go_on.set()


PARTS = {
    "a byte": GET[:1],
    "half a head": GET[:-2] + b"X-Said: ",
    "half a body": CLAIM[:-1],
    "a whole request and half of the next": GET + GET[:-2],
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_who_has_not_said_all_of_it_waits_for_no_answer(part: bytes) -> None:
    async def story(daemon: Daemon) -> None:
        slow, _ = daemon.connect()
        slow.data_received(part)
        await settled()
        connection, wire = daemon.connect()
        connection.data_received(GET)
        await settled()
        connection.data_received(CLAIM)
        assert statuses(wire) == [200, 201] and daemon.alone[-1] is True

    told(story)


def test_who_has_said_the_rest_waits_until_it_is_answered() -> None:
    async def story(daemon: Daemon) -> None:
        slow, wire = daemon.connect()
        slow.data_received(CLAIM[:-1])
        await settled()
        daemon.go_on.clear()
        slow.data_received(CLAIM[-1:])
        await settled()
        assert daemon.unanswered == {slow}
        daemon.go_on.set()
        await settled()
        assert daemon.unanswered == set() and statuses(wire) == [200]

    told(story)


@pytest.mark.parametrize("pieces", [[GET], [CLAIM[:-1]], [CLAIM[:-1], CLAIM[-1:]], [GET + GET]])
@pytest.mark.parametrize("at_once", [True, False])
def test_who_has_gone_waits_for_nothing(pieces: list[bytes], at_once: bool) -> None:
    async def story(daemon: Daemon) -> None:
        gone, _ = daemon.connect()
        daemon.go_on.clear()
        for piece in pieces:
            await settled()
            gone.data_received(piece)
        if not at_once:
            await settled()
        gone.connection_lost(None)
        await settled()
        assert daemon.unanswered == set()

    told(story)


@pytest.mark.parametrize("pieces", [[LAST], [LAST, GET], [GET + LAST], [GET, b"no HTTP\r\n\r\n"]])
def test_who_does_not_take_its_last_answer_is_hung_up_and_waits_for_no_other(pieces: list[bytes]) -> None:
    async def story(daemon: Daemon) -> None:
        daemon.bounds = Bounds(answer_seconds=0.01)
        connection, wire = daemon.connect()
        wire.unsent = 1
        for piece in pieces:
            connection.data_received(piece)
        await settled()
        assert wire.ended and daemon.unanswered == set()
        await asyncio.sleep(0.05)
        assert wire.aborted

    told(story)


def test_who_has_taken_its_last_answer_is_not_hung_up() -> None:
    async def story(daemon: Daemon) -> None:
        daemon.bounds = Bounds(answer_seconds=0.01)
        connection, wire = daemon.connect()
        wire.unsent = 1
        connection.data_received(LAST)
        await settled()
        wire.unsent = 0
        connection.connection_lost(None)
        await asyncio.sleep(0.05)
        assert not wire.aborted

    told(story)


def test_of_who_does_not_wait_for_its_answers_no_more_is_read() -> None:
    async def story(daemon: Daemon) -> None:
        connection, wire = daemon.connect()
        await settled()
        daemon.go_on.clear()
        for asked in range(1, 4):
            assert not wire.paused, asked
            connection.data_received(GET)
            await settled()
        assert wire.paused
        daemon.go_on.set()
        await settled()
        assert not wire.paused and statuses(wire) == [200, 200, 200]

    told(story)


LINES = b"".join(b"X-%d: %s\r\n" % (number, b"x" * 1100) for number in range(70))


@pytest.mark.parametrize("piece", [1 << 14, 1 << 20])
def test_headers_have_a_bound_together_and_what_comes_with_them_has_another(piece: int) -> None:
    async def story(daemon: Daemon) -> None:
        connection, wire = daemon.connect()
        await settled()
        said = GET[:-2] + LINES
        for start in range(0, len(said), piece):
            connection.data_received(said[start : start + piece])
        assert statuses(wire) == [431]
        connection, wire = daemon.connect()
        await settled()
        connection.data_received(request_text("PUT", "/v1/policies/acme", LINES))
        await settled()
        assert statuses(wire) == [200]

    told(story)


def test_whose_headers_are_there_as_their_time_ends_is_answered() -> None:
    """Also where the loop was busy meanwhile, and comes to both at once."""

    async def story(daemon: Daemon) -> None:
        daemon.bounds = Bounds(header_seconds=0.01)
        connection, wire = daemon.connect()
        await settled()
        time.sleep(0.02)
        asyncio.get_running_loop().call_soon(connection.data_received, GET)
        await settled()
        assert statuses(wire) == [200]

    told(story)


@pytest.mark.parametrize("end", ["answered", "gone", "gone before"])
def test_what_is_held_for_a_request_is_let_go_at_its_end(end: str) -> None:
    async def story(daemon: Daemon) -> None:
        connection, _ = daemon.connect()
        await settled()
        daemon.go_on.clear()
        connection.data_received(GET)
        await settled()
        let_go: list[str] = []
        if end == "gone before":
            connection.connection_lost(None)
        connection.hold(lambda: let_go.append(end))
        if end == "gone":
            connection.connection_lost(None)
        daemon.go_on.set()
        await settled()
        assert let_go == [end]

    told(story)


def test_who_sent_two_requests_waits_until_both_are_answered() -> None:
    async def story(daemon: Daemon) -> None:
        other, _ = daemon.connect()
        other.data_received(GET + GET)
        await settled()
        assert other.waited == [True, False] and daemon.unanswered == set()

    told(story)


def test_what_a_caller_has_not_taken_yet_comes_first() -> None:
    async def story(daemon: Daemon) -> None:
        connection, wire = daemon.connect()
        connection.data_received(GET)
        await settled()
        wire.unsent = 1
        connection.data_received(CLAIM)
        assert daemon.claims == 0

    told(story)


def test_what_was_tried_as_it_arrived_is_not_tried_at_once_again() -> None:
    async def story(daemon: Daemon) -> None:
        connection, wire = daemon.connect()
        await settled()  # before 3.12 a task begins with the loop's next round only
        connection.data_received(GET)
        await settled()
        daemon.ready = False
        connection.data_received(CLAIM)
        await settled()
        connection.data_received(GET)
        await settled()
        assert (daemon.claims, daemon.alone, statuses(wire)) == (1, [True, False, True], [200, 200, 200])

    told(story)
