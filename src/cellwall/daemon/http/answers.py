"""Documents and problems as HTTP responses."""

import msgspec
from aiohttp import web

from cellwall.wire.problems import MEDIA_TYPE, Problem

_encode = msgspec.json.Encoder().encode

_DOCUMENT = {"Content-Type": "application/json", "Server": "cellwall"}
_PROBLEM = {"Content-Type": MEDIA_TYPE, "Server": "cellwall"}
_LATER = {**_PROBLEM, "Retry-After": "1"}


def document_response(document: msgspec.Struct, status: int = 200) -> web.Response:
    """A document."""
    return web.Response(body=_encode(document), status=status, headers=_DOCUMENT)


def json_response(body: bytes, status: int = 200) -> web.Response:
    """JSON that is text already."""
    return web.Response(body=body, status=status, headers=_DOCUMENT)


def problem_response(problem: Problem) -> web.Response:
    """A problem."""
    return web.Response(
        body=_encode(problem), status=problem.status, headers=_LATER if problem.status == 503 else _PROBLEM
    )


def rendered(problem: Problem) -> bytes:
    """A problem as the last response of a connection, where no request was read."""
    body = _encode(problem)
    later = "Retry-After: 1\r\n" if problem.status == 503 else ""
    return (
        f"HTTP/1.1 {problem.status} {problem.title}\r\nContent-Type: {MEDIA_TYPE}\r\nServer: cellwall\r\n{later}"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode() + body
