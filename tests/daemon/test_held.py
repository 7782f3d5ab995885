"""However many connections a group has, the daemon holds so much of what it says and no more, and root is answered."""

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from cellwall.daemon.authority import Authority, Granted, Peer
from cellwall.daemon.bounds import Bounds
from cellwall.model.grants import parse_grant
from cellwall.wire.octets import request_text
from daemon.test_bounds import problem, response, rest
from daemon.test_waiting import held as a_write_goes_on
from daemon.test_waiting import until_waiting
from running import wait_until
from served import Served, connected, open_served

pytestmark = pytest.mark.root
GROUP = 5000
MEMBER, ROOT = Peer(1000, frozenset({GROUP})), Peer(0)
LONG = b'{"mode":"block"' + b" " * 60_000 + b"}"
HEAD = b"PUT /v1/policies/ci-1 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(LONG)
NETWORKS = b'{"allow_list":[%s]}' % b",".join(b'"1.1.%d.%d"' % (n // 250, n % 250) for n in range(500))
SHORT = b"PUT /v1/policies/ci-2 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(NETWORKS), NETWORKS)


class Callers:
    """Who connects next."""

    peer = MEMBER

    def __call__(self, _: socket.socket) -> Peer:
        return self.peer


@pytest.fixture(scope="module")
def callers() -> Callers:
    return Callers()


@pytest.fixture(scope="module")
def held(callers: Callers) -> Iterator[Served]:
    """A daemon that holds no more of a group than of two long bodies."""
    authority = Authority([Granted(GROUP, parse_grant("5000 policy ci-*", "allow"))])
    with open_served(bounds=Bounds(held_bytes=2 * len(LONG)), authority=authority, peer=callers) as daemon:
        yield daemon


def begun(served: Served) -> socket.socket:
    """A call of whoever is next, but for its last octet."""
    sock = connected(served.path)
    sock.sendall(HEAD + LONG[:-1])
    return sock


def finished(sock: socket.socket) -> bytes:
    sock.sendall(LONG[-1:])
    return response(sock)


def test_what_is_held_of_a_groups_bodies_has_a_bound(held: Served, callers: Callers) -> None:
    first, second = begun(held), begun(held)
    with first, second:
        with begun(held) as third:
            raw = rest(third)
        assert (problem(raw)["status"], b"Retry-After: 1" in raw) == (503, True)
        with connected(held.path) as asks:  # what is short is answered, and a long answer is not
            asks.sendall(b"GET /v1/version HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b" 200 OK\r\n" in response(asks)
            asks.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
            assert problem(response(asks))["status"] == 503
            asks.sendall(SHORT)  # what is done is said, however long that is
            assert b" 200 OK\r\n" in response(asks)
        callers.peer = ROOT
        with begun(held) as of_root:
            assert b" 200 OK\r\n" in finished(of_root)
        callers.peer = MEMBER
        assert b" 200 OK\r\n" in finished(first)
        with begun(held) as third:
            assert b" 200 OK\r\n" in finished(third)
            assert b" 200 OK\r\n" in finished(second)
    with connected(held.path) as asks:
        asks.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 OK\r\n" in response(asks)


def test_what_was_held_of_who_goes_is_held_no_longer(held: Served) -> None:
    for _ in range(5):
        with begun(held), begun(held):
            pass

    def has_room() -> bool:
        with begun(held) as one:
            return b" 200 OK\r\n" in finished(one)

    wait_until(has_room)


def test_what_is_chunked_is_held_as_if_it_were_as_long_as_may_be(held: Served) -> None:
    with begun(held), connected(held.path) as chunked:
        chunked.sendall(HEAD.partition(b"Content")[0] + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")
        assert problem(rest(chunked))["status"] == 503


def test_of_what_comes_behind_a_call_little_is_read() -> None:
    with a_write_goes_on() as (served, _, _), connected(served.path) as sock:
        sock.sendall(request_text("POST", "/v1/endpoints", b'{"container":"waits"}'))
        until_waiting(served, 1)
        sock.setblocking(False)
        said, taken = HEAD.replace(b"%d" % len(LONG), b"1000000") + b" " * 1_000_000, 0
        for _ in range(20):
            with contextlib.suppress(BlockingIOError):
                while taken < len(said):
                    taken += sock.send(said[taken:])
            time.sleep(0.01)
        assert taken < 400_000
