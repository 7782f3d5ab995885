"""The daemon's application: each call of the table at its path, and a problem document for everything else.

Owns: the way of one request, from who asks and whether they may, over what was sent, to the node and back; and what of
an error goes out. A traceback never does: it is logged under an incident's number, and the caller is told that.
Refuses: being stateful. What waits, and for how long, is `cellwall.daemon.node`'s and `cellwall.daemon.bounds`'.
"""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from cellwall.daemon.asker import Asker
from cellwall.daemon.authority import Authority
from cellwall.daemon.bounds import Bounds
from cellwall.daemon.http.answers import json_response, problem_response
from cellwall.daemon.http.calls import ACTS, READ, Ask, Misnamed
from cellwall.daemon.http.connection import Connection
from cellwall.daemon.http.decoding import CallRefused, decoded, is_long
from cellwall.daemon.http.room import Room
from cellwall.daemon.node import CniReply, Node
from cellwall.daemon.seldom import Seldom
from cellwall.daemon.turns.single import Single
from cellwall.errors import CellwallError, InvalidSpec, KernelError
from cellwall.wire.calls import CALLS, CNI, METRICS_PATH, Call
from cellwall.wire.openapi import openapi_document
from cellwall.wire.pointers import Refused
from cellwall.wire.problems import TYPE, Problem, call_problem, problem_of

if TYPE_CHECKING:
    from cellwall.daemon.metrics.serving import Metrics

_log = logging.getLogger("cellwall.daemon")

CniAnswer = Callable[[Mapping[str, str], bytes], CniReply]
"""From the variables of a plugin's process and its standard input to its answer, over the daemon's own wall."""

Respond = Callable[[web.Request, Asker], Awaitable[web.StreamResponse]]

Counted = Callable[[str, str, float], None]
"""Is told of each call its name, what became of it, and how many seconds it took."""

_CNI_COMMANDS = frozenset({"ADD", "DEL", "CHECK", "STATUS", "GC", "VERSION"})


class Gate:
    """The way in and out that all calls share."""

    def __init__(self, node: Node, authority: Authority, bounds: Bounds, counted: Counted) -> None:
        self.node = node
        self._authority = authority
        self._bounds = bounds
        self._counted = counted
        self._long = Single()
        self._room = Room(bounds.held_bytes)
        self._failures: dict[int | None, Seldom] = {}

    def guarded(
        self, respond: Respond, name: str = "other", *, judge_media: bool = True
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """A handler of aiohttp's, whose every outcome is a response of ours, and counted under that name."""

        async def answer(request: web.Request) -> web.StreamResponse:
            began, outcome = time.monotonic(), "gone"
            connection = _connection(request)
            connection.began()
            asker = Asker(connection.peer, self._authority)
            try:
                if judge_media:
                    _refuse_other_media(request)
                response = await respond(request, asker)
                self._hold_answer(request, asker, response)
                outcome = "ok" if response.status < 400 else "failed"
                return response
            except Exception as error:
                problem = self._problem(request, asker, error)
                outcome = problem.type.removeprefix(TYPE)
                return problem_response(problem)
            finally:
                self._counted(_counted_as(name, request), outcome, time.monotonic() - began)

        return answer

    def call(self, call: Call) -> Respond:
        """What carries out a call of the table."""
        act = ACTS[call.name]
        decode = None if call.body is None else msgspec.json.Decoder(call.body).decode
        read = READ.get(call.name, lambda body: body)
        known = {parameter.name: parameter.required for parameter in call.query}

        async def respond(request: web.Request, asker: Asker) -> web.StreamResponse:
            asker.authority.permit(asker.peer, call.verb)
            query = _query(request, known)
            raw = await self.body(request, asker)
            ask = partial(Ask, asker, request.match_info, query)
            if decode is None:
                if raw and call.method != "GET":
                    raise Refused("", "body", f"{len(raw)} bytes", "is not taken by this call")
                return await act(self.node, ask(None))
            _refuse_other_bodies(request, call.media)
            parse = partial(_parsed, decode, read, raw or (b"{}" if call.body_optional else b""))
            if not is_long(raw):
                return await act(self.node, ask(parse(), alone=_connection(request).alone))
            async with self._long.turn(asker.whose):  # of the others what was sent waits, and not what is made of it
                return await act(self.node, ask(await self.node.aside.do(parse, whose=asker.whose)))

        return respond

    def cni(self, answer: CniAnswer) -> Respond:
        """What carries out a call of the CNI plugin."""

        async def respond(request: web.Request, asker: Asker) -> web.StreamResponse:
            asker.authority.permit(asker.peer, CNI.verb)
            variables = dict(request.query)
            raw = await self.body(request, asker)
            status, body = await self.node.cni(lambda: answer(variables, raw))
            return json_response(body, status)

        return respond

    async def body(self, request: web.Request, asker: Asker) -> bytes:
        """All of the body, in time."""
        if not request.body_exists:
            return b""
        if request.headers.get("Content-Encoding", "identity") != "identity":
            raise CallRefused(call_problem("unsupported-media-type", "a body is not compressed"))
        limit = self._bounds.body_bytes
        if (request.content_length or 0) > limit:
            raise CallRefused(call_problem("too-large", f"at most {limit} bytes"))
        octets = limit if request.content_length is None else request.content_length
        _connection(request).hold(self._room.take(asker.whose, octets))
        if request.content.is_eof():  # it came with the headers, as most do: nothing to wait for, and no timer to set
            return await request.read()
        try:
            async with asyncio.timeout(self._bounds.body_seconds):
                return await _connection(request).until_said(request)
        except TimeoutError:
            request.protocol.close()
            raise CallRefused(call_problem("too-slow", "the body did not arrive in time")) from None

    def _hold_answer(self, request: web.Request, asker: Asker, response: web.StreamResponse) -> None:
        """Until its caller has it. Unavailable for who only reads, and may ask again; whoever changed something has to
        hear that it is done."""
        body = getattr(response, "body", None)
        octets = len(body) if isinstance(body, bytes) else 0
        _connection(request).hold(self._room.take(asker.whose, octets, refuse=request.method in ("GET", "HEAD")))

    def _problem(self, request: web.Request, asker: Asker, error: Exception) -> Problem:
        if isinstance(error, CallRefused):
            return error.problem
        if isinstance(error, Misnamed):
            return problem_of(error.error, parameter=error.parameter)
        if isinstance(error, web.HTTPRequestEntityTooLarge):
            return call_problem("too-large", f"at most {self._bounds.body_bytes} bytes")
        if isinstance(error, CellwallError | OSError):
            problem = problem_of(asker.authority.told(asker.peer, error))
            if problem.status in (501, 503) or problem.status < 500:
                if isinstance(error.__cause__, KernelError):  # by what somebody inside did, or others beside it
                    self._tell(request, asker, error)
                return problem
            self._tell(request, asker, error)
            if asker.peer.root:
                return problem
            return call_problem("internal", "the daemon's log says what became of it")
        incident = os.urandom(4).hex()
        _log.error("incident %s: %s %s of %s", incident, request.method, request.path, asker.peer, exc_info=error)
        return call_problem("internal", "please report it, with what the daemon logged", incident=incident)

    def _tell(self, request: web.Request, asker: Asker, error: Exception) -> None:
        """In the log: each of root's, and of each group's some, as its members decide how often calls fail."""
        line = f"{request.method} {request.rel_url.raw_path} of {asker.peer}: {error}"
        if asker.peer.root:
            _log.warning("%s", line)
        else:
            group = asker.whose.group
            self._failures.setdefault(group, Seldom(_log, "failed")).warn(line)


def application(
    node: Node,
    authority: Authority,
    bounds: Bounds,
    cni: CniAnswer | None = None,
    metrics: "Metrics | None" = None,
) -> web.Application:
    """The application over a node. It refuses new writes when it is shut down, and ends the node, and the metrics, when
    it is cleaned up; opening and closing the walls is the caller's. Without `cni`, or `metrics`, there is no such
    call."""
    made = web.Application(client_max_size=bounds.body_bytes)
    gate = Gate(node, authority, bounds, _uncounted if metrics is None else metrics.events.answered)
    for call in CALLS:
        if call is CNI and cni is None:
            continue
        respond = gate.cni(cni) if call is CNI and cni is not None else gate.call(call)
        _route(made, call.method, call.path, gate.guarded(respond, call.name))
    if metrics is not None:
        _route(made, "GET", METRICS_PATH, gate.guarded(_metrics(metrics), "metrics", judge_media=False))
    _route(made, "GET", "/openapi.json", gate.guarded(_openapi))
    made.router.add_route("*", "/{rest:.*}", gate.guarded(_no_such_call))

    async def refuse(_: web.Application) -> None:
        node.refuse()

    async def end(_: web.Application) -> None:
        await asyncio.get_running_loop().run_in_executor(None, node.end)
        if metrics is not None:
            await asyncio.get_running_loop().run_in_executor(None, metrics.end)

    made.on_shutdown.append(refuse)
    made.on_cleanup.append(end)
    return made


def _route(made: web.Application, method: str, path: str, answer: Any) -> None:
    # a name in braces takes one segment of what was sent, and is decoded after that
    for each in (method, "HEAD") if method == "GET" else (method,):
        made.router.add_route(each, path, answer)


def _metrics(metrics: "Metrics") -> Respond:
    async def respond(request: web.Request, asker: Asker) -> web.StreamResponse:
        asker.authority.permit(asker.peer, "metrics")
        text = await metrics.exposition.text(request.headers.get("Accept", ""))
        return web.Response(body=text.body, headers={"Content-Type": text.media, "Server": "cellwall"})

    return respond


def _counted_as(name: str, request: web.Request) -> str:
    """The plugin's calls are told apart by their command."""
    if name != CNI.name:
        return name
    command = request.query.get("CNI_COMMAND", "")
    return f"{name}-{command.lower()}" if command in _CNI_COMMANDS else name


def _uncounted(call: str, outcome: str, seconds: float) -> None:
    pass


async def _openapi(_: web.Request, __: Asker) -> web.StreamResponse:
    return json_response(openapi_document())


async def _no_such_call(request: web.Request, _: Asker) -> web.StreamResponse:
    methods: set[str] = set()
    for resource in request.app.router.resources():
        if resource.canonical != "/{rest}":
            methods |= (await resource.resolve(request))[1]
    allow = ", ".join(sorted({*methods, "OPTIONS"}))
    if methods and request.method == "OPTIONS":
        return web.Response(status=204, headers={"Allow": allow, "Server": "cellwall"})
    if not methods:
        return problem_response(call_problem("no-such-call", f"{request.method} {request.path}"))
    response = problem_response(call_problem("method-not-allowed", f"{request.method} {request.path}"))
    response.headers["Allow"] = allow
    return response


def _connection(request: web.Request) -> Connection:
    connection = request.protocol
    assert isinstance(connection, Connection)
    return connection


def _query(request: web.Request, known: Mapping[str, bool]) -> Mapping[str, str]:
    """What it says. `known`: the names of the call's parameters, and whether they must be there."""
    if not (known or request.query_string):
        return {}
    query: dict[str, str] = {}
    for name, value in request.query.items():
        if name not in known:
            raise Misnamed(name, InvalidSpec("query", name, "is not a parameter of this call"))
        if name in query:
            raise Misnamed(name, InvalidSpec("query", name, "is there twice"))
        query[name] = value
    for name, required in known.items():
        if required and name not in query:
            raise Misnamed(name, InvalidSpec("query", name, "is missing"))
    return query


def _parsed(decode: Callable[[bytes], Any], read: Callable[[Any], Any], raw: bytes) -> Any:
    return read(decoded(decode, raw))


def _refuse_other_media(request: web.Request) -> None:
    """JSON is all that is answered."""
    accepted = request.headers.get("Accept")
    if accepted is None or "*/*" in accepted:
        return
    kinds = [part.partition(";")[0].strip().lower() for part in accepted.split(",")]
    if not {"application/json", "application/*", "application/problem+json"}.intersection(kinds):
        raise CallRefused(call_problem("not-acceptable"))


def _refuse_other_bodies(request: web.Request, media: tuple[str, ...]) -> None:
    """JSON is all that is read. Who says nothing about a body means JSON."""
    if request.headers.get("Content-Type") is None:
        return
    if request.content_type not in media or (request.charset or "utf-8").lower() != "utf-8":
        raise CallRefused(call_problem("unsupported-media-type", f"{media[0]} in UTF-8"))
