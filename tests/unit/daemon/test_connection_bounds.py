"""Whom the daemon waits for and how long, and how much of what is said it takes meanwhile."""

import asyncio
import time

import pytest

from cellwall.daemon.bounds import Bounds
from cellwall.wire.octets import request_text
from unit.daemon.connected import CLAIM, GET, LAST, Daemon, settled, statuses, told

PARTS = {
    "a byte": GET[:1],
    "half a head": GET[:-2] + b"X-Said: ",
    "half a body": CLAIM[:-1],
    "a whole request and half of the next": GET + GET[:-2],
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_who_has_not_said_all_of_it_waits_for_no_answer(part: bytes) -> None:
    async def story(daemon: Daemon) -> None:
        slow, _ = await daemon.connect()
        slow.data_received(part)
        await settled()
        connection, wire = await daemon.connect()
        connection.data_received(GET)
        await settled()
        connection.data_received(CLAIM)
        assert statuses(wire) == [200, 201] and daemon.alone[-1] is True

    told(story)


def test_what_comes_with_the_rest_of_a_body_is_the_next_request() -> None:
    async def story(daemon: Daemon) -> None:
        connection, wire = await daemon.connect()
        for piece in (CLAIM[:-1], CLAIM[-1:] + GET):
            connection.data_received(piece)
            await settled()
        assert statuses(wire) == [200, 200]

    told(story)


def test_who_has_said_the_rest_waits_until_it_is_answered() -> None:
    async def story(daemon: Daemon) -> None:
        slow, wire = await daemon.connect()
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
        gone, _ = await daemon.connect()
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
        connection, wire = await daemon.connect()
        wire.unsent = 1
        for piece in pieces:
            connection.data_received(piece)
        await settled()
        assert wire.ended and daemon.unanswered == set()
        await asyncio.sleep(0.05)
        assert wire.aborted

    told(story)


def test_how_often_callers_take_no_answer_is_a_line_and_not_a_log(caplog: pytest.LogCaptureFixture) -> None:
    async def story(daemon: Daemon) -> None:
        daemon.bounds = Bounds(answer_seconds=0.01)
        callers = [await daemon.connect() for _ in range(5)]
        await settled()
        for connection, wire in callers:
            wire.unsent = 1
            connection.pause_writing()
            connection.data_received(GET)
        await asyncio.sleep(0.05)
        assert all(wire.aborted for _, wire in callers)

    told(story)
    assert [record.message for record in caplog.records] == [
        "uid 0 (pid 0) does not take its answer (hung up by now: 1)"
    ]


def test_who_has_taken_its_last_answer_is_not_hung_up() -> None:
    async def story(daemon: Daemon) -> None:
        daemon.bounds = Bounds(answer_seconds=0.01)
        connection, wire = await daemon.connect()
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
        connection, wire = await daemon.connect()
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
        connection, wire = await daemon.connect()
        await settled()
        said = GET[:-2] + LINES
        for start in range(0, len(said), piece):
            connection.data_received(said[start : start + piece])
        assert statuses(wire) == [431]
        connection, wire = await daemon.connect()
        await settled()
        connection.data_received(request_text("PUT", "/v1/policies/acme", LINES))
        await settled()
        assert statuses(wire) == [200]

    told(story)


def test_whose_headers_are_there_as_their_time_ends_is_answered() -> None:
    """Also where the loop was busy meanwhile, and comes to both at once."""

    async def story(daemon: Daemon) -> None:
        daemon.bounds = Bounds(header_seconds=0.01)
        connection, wire = await daemon.connect()
        await settled()
        time.sleep(0.02)
        asyncio.get_running_loop().call_soon(connection.data_received, GET)
        await settled()
        assert statuses(wire) == [200]

    told(story)


@pytest.mark.parametrize("end", ["answered", "gone", "gone before"])
def test_what_is_held_for_a_request_is_let_go_at_its_end(end: str) -> None:
    async def story(daemon: Daemon) -> None:
        connection, _ = await daemon.connect()
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
