"""One connection and its bounds: whose it is, and how long a request may take to arrive.

aiohttp reads and writes HTTP; it knows neither a time for headers nor callers of a unix socket, and answers what is no
HTTP in HTML. Owns these three, in the one place where aiohttp's connection is subclassed. How many there may be is
`cellwall.daemon.http.census`'.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import LineTooLong

from cellwall.daemon.authority import Peer
from cellwall.daemon.bounds import Bounds
from cellwall.daemon.http.answers import problem_response, rendered
from cellwall.daemon.http.decoding import CallRefused
from cellwall.daemon.http.fast_path import FastPath
from cellwall.daemon.seldom import Seldom
from cellwall.wire.problems import CallProblem, Problem, call_problem, status_problem

_log = logging.getLogger("cellwall.daemon")

_MOST_UNREAD = 1 << 16
"""Octets that may arrive before the headers of a request are whole."""

_READ_AT_ONCE = 1 << 16
"""Octets that are read of a connection before the others have their turn."""

_TAKEN = 1.0
"""Seconds that a caller of a daemon that ends has to take its answer."""

_KEPT = 1 << 15
"""Octets of a body that asyncio takes at any time: with more than 64 KiB in its hands it has who writes wait."""


class Connection(web.RequestHandler):
    """A connection within bounds. `left` is called at its end; whose it is says who made it. `unanswered`: all of its
    kind whose callers have said a whole request and have no answer to it, itself among them then; `silence` is called
    when an answer is given and none is left of these, and `heard` whenever one says something. `fast`: answers for
    aiohttp where it can. `slow`: is told of who takes no answer."""

    __slots__ = (
        "_arriving",
        "_bounds",
        "_busy",
        "_fast",
        "_heard",
        "_held",
        "_left",
        "_reading",
        "_refused",
        "_silence",
        "_slow",
        "_takes",
        "_telling",
        "_timer",
        "_tried",
        "_unanswered",
        "_unread",
        "_whole",
        "peer",
    )

    def __init__(
        self,
        server: web.Server,
        *,
        bounds: Bounds,
        left: Callable[[], None],
        unanswered: "set[Connection]",
        silence: Callable[[], None],
        heard: Callable[[], None],
        fast: FastPath | None,
        slow: Seldom,
        **options: Any,
    ) -> None:
        super().__init__(server, **options)
        self._unanswered = unanswered
        self._silence = silence
        self._heard = heard
        self._fast = fast
        self._slow = slow
        self._bounds = bounds
        self._left = left
        self._timer: asyncio.TimerHandle | None = None
        self._arriving = True
        self._busy = False
        self._unread = 0
        self._whole = False
        self._tried = self._telling = False
        self._takes = bounds.answer_seconds
        self._reading: StreamReader | None = None
        self._refused: Problem | None = None
        self._held: list[Callable[[], None]] = []
        self._max_msg_queue_size, self._msg_queue_resume_size = 2, 1  # aiohttp's: by default, 32 requests at a time
        self.peer = Peer(uid=-1)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if hasattr(transport, "max_size"):  # asyncio's own reads four times that at once, into memory of ours
            transport.max_size = _READ_AT_ONCE
        self._timer = self._loop.call_later(self._bounds.header_seconds, self._late)

    @property
    def alone(self) -> bool:
        """Nobody else waits for an answer, and what this one asks was not tried at once already."""
        return not self._tried and len(self._unanswered) == 1 and self in self._unanswered

    def data_received(self, data: bytes) -> None:
        self._heard()
        if self._answered_fast(data):
            return
        if not (self._busy or self._arriving):
            self._arriving = True
            self._timer = self._loop.call_later(self._bounds.header_seconds, self._late)
        waits = self._waits()
        super().data_received(data)
        # Of whole headers what came is none any more: with Python 3.11 more comes before a request is begun.
        self._unread = 0 if self._messages else self._unread + len(data)
        if self._unread > _MOST_UNREAD and not self._busy:  # aiohttp bounds each header alone
            self._refuse("header-too-large")
            return
        self._refuse_rest()
        if self._messages:  # and not before: by half a request whoever likes would keep claims from being done at once
            self._unanswered.add(self)
            if self._arriving:
                self._stop_timer()  # it may be due in this very turn of the loop, before the request is
        if data:  # without any aiohttp has its parser go on with what it has
            self._whole = waits and self._is_one(data)

    def _waits(self) -> bool:
        """aiohttp waits for the next request: it has none in its hands, none in its queue, and is to read another."""
        return self._waiter is not None and not self._waiter.done() and not self._messages

    def _is_one(self, data: bytes) -> bool:
        """The last that came while aiohttp waited ended one request, with its last octet, and began no other: its
        parser, which does not tell, has nothing left. False also where that is not sure."""
        if len(self._messages) != 1:
            return False
        message, payload = self._messages[0]
        headers, end = getattr(message, "headers", None), data.find(b"\r\n\r\n")
        if headers is None or end < 0 or not payload.is_eof():  # an error; or it came, or comes, in pieces
            return False
        length = headers.get("Content-Length", "0")
        return not self._upgraded and length.isdecimal() and end + 4 + int(length) == len(data)

    def _answered_fast(self, data: bytes) -> bool:
        """Where aiohttp waits, and would read what came as the beginning of a request."""
        transport = self.transport
        between = self._whole and self._waits() and not self._unanswered
        if self._fast is None or transport is None or not between or transport.get_write_buffer_size():
            return False
        places = self._fast.read(self.peer, data)
        answer = None if places is None else self._fast.answer(self.peer, places)
        if answer is None:
            self._tried = places is not None
            return False
        self._next_keepalive_close_time = self._loop.time() + self._bounds.idle_seconds
        transport.write(answer)
        self._fast.answered()
        self._silence()
        return True

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_timer()
        self._unanswered.discard(self)
        self._let_go()
        self._left()
        super().connection_lost(exc)

    def began(self) -> None:
        """The headers of a request are here."""
        self._stop_timer()
        self._arriving, self._busy = False, True
        self._unread = 0

    def hold(self, leave: Callable[[], None]) -> None:
        """Have this called when the request in hand is answered, or its caller gone."""
        self._held.append(leave)
        if self.transport is None:
            self._let_go()

    def _let_go(self) -> None:
        while self._held:
            self._held.pop()()

    def end(self) -> None:
        """The daemon ends: who has asked is answered, and nobody else is waited for."""
        self._takes = min(_TAKEN, self._bounds.answer_seconds)
        if self not in self._unanswered:
            self.force_close()
        elif self._telling:
            self._loop.call_later(self._takes, self.force_close)

    async def until_said(self, request: web.BaseRequest) -> bytes:
        """The body, once the rest of it is here: until it is, its caller waits for no answer. CallRefused for what is
        no HTTP."""
        self._unanswered.discard(self)
        self._reading = request.content
        self._refuse_rest()
        try:
            said = await request.read()  # who goes instead has this cancelled
        finally:
            self._reading = None
        self._unanswered.add(self)
        if self._refused is not None:
            raise CallRefused(self._refused)
        return said

    def _refuse_rest(self) -> None:
        """What aiohttp has found behind a body of which not all is there is no request: no more of that body comes."""
        if self._reading is not None and not self._reading.is_eof() and self._messages:
            found = self._messages[0][0]
            self._refused = _not_http(getattr(found, "exc", None), getattr(found, "message", None))
            self.close()
            self._reading.feed_eof()  # an error in its place aiohttp would log, with all that led to it

    async def finish_response(self, request: Any, resp: Any, *rest: Any) -> Any:
        """aiohttp's, within the time that a caller has to take an answer. What it refuses by itself, before any call,
        is told as a problem, too."""
        if isinstance(resp, web.HTTPException):
            resp = problem_response(status_problem(resp.status, resp.text or ""))
        whole, self._telling = request.content.is_eof(), True
        if not whole or self._close:  # what goes on arriving is the rest of a body that was refused
            resp.force_close()
        try:
            if self._has_room_for(resp):  # nothing to wait for, and no timer to set
                return await super().finish_response(request, resp, *rest)
            async with asyncio.timeout(self._takes):
                return await super().finish_response(request, resp, *rest)
        except TimeoutError:
            self._slow.warn(f"{self.peer} does not take its answer")
            self.force_close()
            return resp, True
        finally:
            self._stop_timer()
            self._let_go()
            last = not resp.keep_alive
            if last or not self._messages:  # else the next one waits
                self._unanswered.discard(self)
            if last:  # it is closed once all that was said to it is taken, for which nobody waits
                self._timer = self._loop.call_later(self._takes, self.force_close)
            if not self._unanswered:
                self._silence()
            self._arriving, self._busy, self._tried, self._telling = False, not whole, False, False
            self._unread = 0

    def handle_error(
        self,
        request: Any,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is no HTTP, or a defect outside of any call."""
        self.began()
        problem = _not_http(exc, message) if status < 500 else call_problem("internal")
        if status >= 500:
            _log.error("a request of %s failed", self.peer, exc_info=exc)
        response = problem_response(problem)
        response.force_close()
        return response

    def force_close(self) -> None:
        """aiohttp's, at once: a connection is otherwise kept until the caller has taken what was said to it."""
        transport, unsent = self.transport, self._unsent()
        super().force_close()
        if isinstance(transport, asyncio.Transport) and unsent:
            transport.abort()

    def _has_room_for(self, resp: Any) -> bool:
        """Whoever writes this need not wait until the caller has taken any of it."""
        body = getattr(resp, "body", None)
        return isinstance(body, bytes) and len(body) <= _KEPT and self.transport is not None and not self._unsent()

    def _unsent(self) -> int:
        """Octets that the caller has not taken yet."""
        transport = self.transport
        return transport.get_write_buffer_size() if isinstance(transport, asyncio.Transport) else 0

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        self._refuse("too-slow", "the headers did not arrive in time")

    def _refuse(self, name: CallProblem, detail: str = "") -> None:
        if self.transport is not None:
            self.transport.write(rendered(call_problem(name, detail)))
        self.force_close()


def _not_http(error: BaseException | None, message: str | None) -> Problem:
    if isinstance(error, LineTooLong):
        return call_problem("header-too-large")
    return call_problem("malformed", (message or "").partition("\n")[0].strip().rstrip(":"))
