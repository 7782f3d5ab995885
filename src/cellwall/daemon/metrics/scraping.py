"""`GET /metrics` over TCP, for a Prometheus that cannot speak to a unix socket: this one text, and nothing else.

Whoever connects is nobody in particular, so there is no other call here. The same bounds hold as at the socket, but for
fewer connections.
"""

import errno
import logging
import socket
import time
from ipaddress import IPv6Address

import msgspec
from aiohttp import web

from cellwall.daemon.authority import Authority, Peer
from cellwall.daemon.bounds import Bounds
from cellwall.daemon.http.answers import problem_response
from cellwall.daemon.http.connection import Connection
from cellwall.daemon.http.listening import Listener
from cellwall.daemon.http.sockets import BACKLOG
from cellwall.daemon.metrics.serving import Metrics
from cellwall.errors import Unavailable
from cellwall.model.scraped import Scraped
from cellwall.wire.calls import METRICS_PATH
from cellwall.wire.problems import call_problem, problem_of

_log = logging.getLogger("cellwall.daemon")

CONNECTIONS = 64
"""At once; a Prometheus needs one."""

_IP_FREEBIND, _IPV6_FREEBIND = 15, 78  # linux/in.h, linux/in6.h
_NOBODY = Peer(uid=-1)


def listening_at(where: Scraped) -> socket.socket | None:
    """A socket that listens there, also at an address that the node gets later. None, and it is said, where somebody
    else does: the wall is not kept up for its figures."""
    six = isinstance(where.address, IPv6Address)
    made = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if six:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        else:
            made.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        made.bind((str(where.address), where.port))
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        who = "somebody else listens there" if error.errno == errno.EADDRINUSE else error.strerror
        _log.error("daemon.metrics: %s: %s; metrics are at the daemon's socket alone", where, who)
        return None
    return made


def scraping(metrics: Metrics, bounds: Bounds) -> Listener:
    """What answers there."""
    bounds = msgspec.structs.replace(bounds, connections=CONNECTIONS * 2, connections_per_uid=CONNECTIONS)
    made = web.Application(client_max_size=1)
    made.router.add_route("*", "/{rest:.*}", lambda request: _answer(metrics, request))
    return Listener(made, bounds, Authority(), peer=lambda _: _NOBODY)


async def _answer(metrics: Metrics, request: web.Request) -> web.StreamResponse:
    connection = request.protocol
    assert isinstance(connection, Connection)
    connection.began()
    if request.path != METRICS_PATH:
        return problem_response(call_problem("no-such-call", f"{request.method} {request.path}"))
    if request.method not in ("GET", "HEAD"):
        return problem_response(call_problem("method-not-allowed", f"{request.method} {request.path}"))
    began, outcome = time.monotonic(), "gone"
    try:
        text = await metrics.exposition.text(request.headers.get("Accept", ""))
        outcome = "ok"
        return web.Response(body=text.body, headers={"Content-Type": text.media, "Server": "cellwall"})
    except Unavailable as error:
        outcome = "unavailable"
        return problem_response(problem_of(error))
    except Exception as error:
        outcome = "internal"
        _log.error("metrics could not be told", exc_info=error)
        return problem_response(call_problem("internal", "the daemon's log says what became of it"))
    finally:
        metrics.events.answered("metrics", outcome, time.monotonic() - began)
