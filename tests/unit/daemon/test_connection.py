"""Who is answered as a claim arrives, and who not yet: only where aiohttp has nothing of a connection in its hands."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cellwall.wire.octets import request_text
from unit.daemon.connected import CLAIM, GET, LAST, Daemon, settled, statuses, told


def test_a_claim_behind_an_answer_is_answered_as_it_arrives() -> None:
    async def story(daemon: Daemon) -> None:
        connection, wire = await daemon.connect()
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
        connection, wire = await daemon.connect(CLAIM)
        connection.data_received(GET + GET)
        await settled()
        assert statuses(wire) == [200, 200, 200] and daemon.claims == 0

    told(story)


def test_a_claim_waits_for_the_request_before_it() -> None:
    async def story(daemon: Daemon) -> None:
        connection, wire = await daemon.connect()
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
        connection, wire = await daemon.connect(CLAIM)
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
        connection, _ = await daemon.connect()
        for piece in pieces:
            connection.data_received(piece)
            await settled()
        connection.data_received(CLAIM)
        assert daemon.claims == 0

    told(story)


def test_an_unfinished_head_behind_a_body_in_pieces_is_none_either() -> None:
    async def story(daemon: Daemon) -> None:
        connection, _ = await daemon.connect()
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
        connection, _ = await daemon.connect()
        connection.data_received(GET[:-2] + header + b"\r\n\r\n")
        await settled()
        connection.data_received(CLAIM)
        assert daemon.claims == 0

    told(story)


def test_of_a_connection_that_is_being_closed_nothing_is_carried_out() -> None:
    async def story(daemon: Daemon) -> None:
        connection, _ = await daemon.connect()
        connection.data_received(GET)
        await settled()
        connection.close()
        connection.data_received(CLAIM)
        assert daemon.claims == 0

    told(story)


def test_a_claim_keeps_nobody_waiting() -> None:
    async def story(daemon: Daemon) -> None:
        connection, wire = await daemon.connect()
        connection.data_received(GET)
        await settled()
        async with waiting(daemon):
            connection.data_received(CLAIM)
            await settled()
            assert daemon.claims == 0 and daemon.alone[-1] is False
        await settled()
        assert statuses(wire) == [200, 200]

    told(story)


@asynccontextmanager
async def waiting(daemon: Daemon) -> AsyncIterator[None]:
    """Another caller has asked, and has no answer yet."""
    other, _ = await daemon.connect()
    daemon.go_on.clear()
    other.data_received(GET)
    yield
    daemon.go_on.set()


def test_who_sent_two_requests_waits_until_both_are_answered() -> None:
    async def story(daemon: Daemon) -> None:
        other, _ = await daemon.connect()
        other.data_received(GET + GET)
        await settled()
        assert other.waited == [True, False] and daemon.unanswered == set()

    told(story)


def test_what_a_caller_has_not_taken_yet_comes_first() -> None:
    async def story(daemon: Daemon) -> None:
        connection, wire = await daemon.connect()
        connection.data_received(GET)
        await settled()
        wire.unsent = 1
        connection.data_received(CLAIM)
        assert daemon.claims == 0

    told(story)


def test_what_was_tried_as_it_arrived_is_not_tried_at_once_again() -> None:
    async def story(daemon: Daemon) -> None:
        connection, wire = await daemon.connect()
        connection.data_received(GET)
        await settled()
        daemon.ready = False
        connection.data_received(CLAIM)
        await settled()
        connection.data_received(GET)
        await settled()
        assert (daemon.claims, daemon.alone, statuses(wire)) == (1, [True, False, True], [200, 200, 200])

    told(story)
