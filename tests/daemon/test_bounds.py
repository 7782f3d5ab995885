"""No caller takes more of the daemon than its bounds, each tried over a real socket; others are answered meanwhile."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from cellwall.daemon.authority import Authority
from cellwall.daemon.bounds import Bounds
from served import Plain, Served, connected, open_served

pytestmark = pytest.mark.root

TIGHT = Bounds(
    body_bytes=4096,
    header_bytes=1024,
    header_seconds=0.3,
    body_seconds=0.3,
    answer_seconds=0.5,
    idle_seconds=0.6,
)


@pytest.fixture(scope="module")
def tight() -> Iterator[Served]:
    """A daemon with little patience."""
    with open_served(bounds=TIGHT, authority=Authority()) as daemon:
        yield daemon


def talk(served: Served, *said: bytes) -> bytes:
    """All that comes back until the daemon closes."""
    with connected(served.path) as sock:
        for part in said:
            sock.sendall(part)
        return rest(sock)


def rest(sock: socket.socket) -> bytes:
    got = b""
    with contextlib.suppress(ConnectionResetError):  # where it did not read all that was sent
        while part := sock.recv(65536):
            got += part
    return got


def response(sock: socket.socket) -> bytes:
    """One response, of a connection that is kept."""
    got = b""
    while b"\r\n\r\n" not in got:
        got += sock.recv(65536)
    head, _, body = got.partition(b"\r\n\r\n")
    (length,) = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
    while len(body) < length:
        body += sock.recv(65536)
    return head + b"\r\n\r\n" + body


def problem(raw: bytes) -> Any:
    """The last response's document."""
    head, _, body = raw.rpartition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    return msgspec.json.decode(body)


def well(served: Served) -> bool:
    with served.connect() as plain:
        return plain.ask("GET", "/v1/version").status == 200


HEAD = b"POST /v1/endpoints HTTP/1.1\r\nHost: x\r\n"


def test_a_connection_that_says_nothing_is_closed(tight: Served) -> None:
    assert problem(talk(tight))["type"].endswith("too-slow")
    assert well(tight)


def test_headers_that_trickle_in_are_not_waited_for(tight: Served) -> None:
    with connected(tight.path) as sock:
        sock.sendall(b"GET /v1/version HTTP/1.1\r\nHost: x\r\n")
        assert problem(rest(sock))["status"] == 408


def test_nor_those_of_a_second_request(tight: Served) -> None:
    with connected(tight.path) as sock:
        sock.sendall(b"GET /v1/version HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/ver")
        assert b"HTTP/1.1 200" in sock.recv(65536)
        assert b"HTTP/1.1 200" not in rest(sock)


def test_a_body_that_trickles_in_is_not_waited_for(tight: Served) -> None:
    raw = talk(tight, HEAD + b"Content-Length: 100\r\n\r\n{")
    assert problem(raw)["type"].endswith("too-slow")


def test_a_body_that_is_too_large_is_not_read(tight: Served) -> None:
    raw = talk(tight, HEAD + b"Content-Length: 5000\r\nConnection: close\r\n\r\n")
    assert (problem(raw)["status"], problem(raw)["detail"]) == (413, "at most 4096 bytes")


def test_headers_that_are_too_large_are_refused(tight: Served) -> None:
    for raw in (
        b"GET /v1/" + b"x" * 2000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/version HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 2000 + b"\r\n\r\n",
    ):
        assert problem(talk(tight, raw))["type"].endswith("header-too-large")


def test_many_headers_are_refused(tight: Served) -> None:
    headers = b"".join(b"X-%d: %s\r\n" % (number, b"x" * 900) for number in range(1000))
    with connected(tight.path) as sock:
        with contextlib.suppress(OSError):  # it need not take all of them
            sock.sendall(b"GET /v1/version HTTP/1.1\r\nHost: x\r\n" + headers)
        assert problem(rest(sock))["status"] in (400, 431)


def test_what_is_no_http_is_refused(tight: Served) -> None:
    for raw in (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9\r\n\r\n"):
        assert problem(talk(tight, raw))["type"].endswith("malformed")
    smuggled = HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert problem(talk(tight, smuggled))["status"] == 400
    assert well(tight)


@pytest.mark.parametrize("rest_of_it", [b"zz\r\n", b"2\r\n{}XX", b"2\r\n{}\r\n0\r\n" + b"X: y\r\n" * 500 + b"\r\n"])
def test_a_body_that_is_no_http_is_refused_at_once(
    tight: Served, rest_of_it: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with connected(tight.path) as sock:
        sock.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n \r\n")
        time.sleep(0.1)  # it is being read
        sock.sendall(rest_of_it)
        raw = rest(sock)
    assert (problem(raw)["type"].rpartition(":")[2], raw.count(b"HTTP/1.")) == ("malformed", 1)
    assert well(tight) and caplog.text == ""


@pytest.mark.parametrize(
    ("request_line", "header", "status"),
    [
        (b"OPTIONS *", b"", 404),
        (b"CONNECT example.org:443", b"", 404),
        (b"TRACE /v1/version", b"", 405),
        (b"GET /v1/version", b"Expect: the unexpected\r\n", 417),
        (b"GET http://elsewhere/v1/nothing", b"", 404),
        (b"GET //v1/version", b"", 404),
        (b"GET /v1/../v1/version", b"", 404),
    ],
)
def test_what_no_call_is_asked_with_is_a_problem_and_the_connection_goes_on(
    tight: Served, request_line: bytes, header: bytes, status: int
) -> None:
    with connected(tight.path) as sock:
        sock.sendall(request_line + b" HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n")
        assert problem(response(sock))["status"] == status
        sock.sendall(b"GET /v1/version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"HTTP/1.1 200" in rest(sock)


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /v1/version HTTP/1.0\r\n\r\n",
        b"GET http://elsewhere/v1/version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /v1/version HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade, close\r\n\r\n",
        b"GET /v1/version HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
    ],
)
def test_other_ways_to_ask_the_same(tight: Served, raw: bytes) -> None:
    assert b" 200 OK\r\n" in talk(tight, raw)


def test_a_connection_that_is_not_used_is_closed(tight: Served) -> None:
    with connected(tight.path) as sock:
        sock.sendall(b"GET /v1/version HTTP/1.1\r\nHost: x\r\n\r\n")
        assert rest(sock).count(b"HTTP/1.1 200") == 1


def test_who_does_not_take_its_answer_is_hung_up(tight: Served) -> None:
    with connected(tight.path) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        sock.setblocking(False)
        try:
            while True:
                sock.send(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            pass
        sock.settimeout(30)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while True:
                sock.send(b"x")
    assert well(tight)


def test_a_caller_has_so_many_connections_and_no_more() -> None:
    with open_served(bounds=Bounds(connections_per_uid=3), up=False) as few:
        _tried_by_others(few)


def _tried_by_others(tight: Served) -> None:
    os.chmod(tight.path, 0o666)
    os.chmod(tight.world.lab.root, 0o755)
    held = [connected_as(tight.path, 12345) for _ in range(3)]
    try:
        with connected_as(tight.path, 12345) as sock:
            refused = rest(sock)
        assert problem(refused)["status"] == 503
        assert b"Retry-After: 1" in refused
        with connected_as(tight.path, 12346) as sock:  # another one's are its own
            sock.sendall(b"GET /v1/version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert b"HTTP/1.1 200" in rest(sock)
        assert well(tight)
    finally:
        for sock in held:
            sock.close()
    with connected_as(tight.path, 12345) as sock:
        sock.sendall(b"GET /v1/version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"HTTP/1.1 200" in rest(sock)


CONNECT = """
import os, socket, sys
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
made = socket.socket(socket.AF_UNIX); made.connect(sys.argv[1])
socket.send_fds(socket.socket(fileno=0), [b"x"], [made.fileno()])
"""


def connected_as(path: str, uid: int) -> socket.socket:
    """A connection of another user's: whose it is the kernel notes when it is made."""
    mine, theirs = socket.socketpair()
    with mine, theirs:
        subprocess.run([sys.executable, "-IS", "-c", CONNECT, path, str(uid)], stdin=theirs, check=True)
        _, (fd,), _, _ = socket.recv_fds(mine, 1, 1)
    made = socket.socket(fileno=fd)
    made.settimeout(30)
    return made


def test_a_batch_has_a_bound_of_its_own(served: Served) -> None:
    with served.connect() as plain:
        entries = [{"container": f"c{number}"} for number in range(1025)]
        answer = plain.ask("POST", "/v1/endpoints/batch", {"endpoints": entries})
        assert (answer.status, answer.document["pointer"]) == (422, "/endpoints")


def test_many_connections_of_root_are_answered(served: Served) -> None:
    kept: list[Plain] = []
    try:
        for _ in range(300):
            kept.append(served.connect())
            assert kept[-1].ask("GET", "/v1/version").status == 200
    finally:
        for plain in kept:
            plain.close()


def test_an_endpoint_publishes_so_many_ports_and_no_more(served: Served) -> None:
    with served.connect() as plain:
        ports = [f"{port}:80" for port in range(1, 66)]
        answer = plain.ask("POST", "/v1/endpoints", {"container": "full", "expose": ports})
        assert (answer.status, answer.document["pointer"]) == (422, "/expose")
        assert plain.ask("POST", "/v1/endpoints", {"container": "full", "expose": ports[:-1]}).status == 201
        answer = plain.ask("POST", "/v1/endpoints/full/eth0/ports", {"binding": ports[-1]})
        assert (answer.status, answer.document["type"]) == (409, "urn:cellwall:problem:exhausted")
        assert plain.ask("DELETE", "/v1/endpoints/full/eth0").status == 200


def test_what_all_of_a_batch_publish_has_a_bound(served: Served) -> None:
    with served.connect() as plain:
        clients = ",".join(f"10.{number}.0.0/16" for number in range(200))
        entries = [{"container": f"c{first}", "expose": [f"{first}:80@{clients}"]} for first in range(1, 90)]
        answer = plain.ask("POST", "/v1/endpoints/batch", {"endpoints": entries})
        assert (answer.status, answer.document["pointer"]) == (422, "/endpoints")
        shifted = [{"container": f"c{n}", "expose": [f"{1024 * n}-{1024 * n + 1023}:60000"]} for n in range(1, 18)]
        answer = plain.ask("POST", "/v1/endpoints/batch", {"endpoints": shifted})
        assert answer.status == 422, answer
