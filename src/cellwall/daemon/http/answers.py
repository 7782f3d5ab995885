"""Documents and problems as HTTP responses."""

import msgspec
from aiohttp import web

from cellwall.wire.octets import answer_text
from cellwall.wire.problems import MEDIA_TYPE, Problem

_encode = msgspec.json.Encoder().encode

JSON = "application/json"

_DOCUMENT = {"Content-Type": JSON, "Server": "cellwall"}
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
    later = ("Retry-After: 1",) if problem.status == 503 else ()
    return answer_text(f"{problem.status} {problem.title}", MEDIA_TYPE, _encode(problem), *later, "Connection: close")
