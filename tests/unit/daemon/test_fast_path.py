"""Claims as our own client writes them, answered without aiohttp; and all that is left to it."""

from pathlib import Path

import msgspec
import pytest

from cellwall.client.http import read_answer
from cellwall.daemon.asker import Asker
from cellwall.daemon.authority import Authority, Granted, Peer
from cellwall.daemon.http.fast_path import FastPath
from cellwall.errors import Conflict
from cellwall.model.endpoint import Endpoint
from cellwall.model.grants import Grant
from cellwall.wire.answers import EndpointAnswer
from cellwall.wire.bodies import Places
from cellwall.wire.documents import endpoint_document
from cellwall.wire.octets import request_text
from unit.daemon.claimed import WEB

CLAIMS = "/v1/pool/claims"


class Pool:
    """What is claimed of it, and by whom."""

    def __init__(self, *, ready: bool = True) -> None:
        self.ready = ready
        self.claimed: list[tuple[int, str]] = []
        self.counted: list[tuple[str, str]] = []

    def claim(self, asker: Asker, places: Places) -> Endpoint | None:
        (request,) = asker.authority.admit(asker.peer, places.requests)
        if not self.ready:
            return None
        self.claimed.append((asker.peer.uid, request.container_id))
        return WEB

    def path(self, *grants: Granted) -> FastPath:
        return FastPath(self.claim, Authority(grants), lambda call, outcome, _: self.counted.append((call, outcome)))


def answered(path: FastPath, peer: Peer, said: bytes) -> bytes | None:
    places = path.read(peer, said)
    answer = None if places is None else path.answer(peer, places)
    if answer is not None:
        path.answered()
    return answer


def claim(body: bytes = b'{"container":"web","tenant":"acme"}') -> bytes:
    return request_text("POST", CLAIMS, body)


def test_what_our_client_writes_is_answered_and_counted() -> None:
    pool = Pool()
    said = answered(pool.path(), Peer(0), claim())
    assert said is not None
    pieces = iter([said])
    answer = read_answer(lambda: next(pieces, b""))
    assert answer.status == 201 and answer.lasting
    assert answer.body == msgspec.json.encode(EndpointAnswer(endpoint_document(WEB)))
    assert pool.claimed == [(0, "web")]
    assert pool.counted == [("claim", "ok")]


def test_the_documentation_has_what_our_client_writes() -> None:
    page = (Path(__file__).parents[3] / "docs/pool.md").read_text()
    lines = page.partition("```http\n")[2].partition("\n```")[0]
    assert lines.replace("\n", "\r\n").encode() == claim()


OTHERS = {
    "another call": request_text("GET", "/v1/version", b""),
    "another path": request_text("POST", CLAIMS + "/", b'{"container":"web"}'),
    "another header": claim().replace(b"\r\n\r\n", b"\r\nX-Sent: by another\r\n\r\n"),
    "a header that closes": claim().replace(b"Accept:", b"Connection: close\r\nAccept:"),
    "half a head": claim()[:60],
    "half a body": claim()[:-1],
    "more than one": claim() + claim(),
    "more than its body": claim() + b"\r\n",
    "no body": claim(b""),
    "a length with a sign": claim().replace(b"Length: ", b"Length: +"),
    "a length with a space": claim().replace(b"Length: ", b"Length:  "),
    "two lengths": claim().replace(b"Length: ", b"Length: 35\r\nContent-Length: "),
    "a length that is no end": claim().replace(b"Length: ", b"Length: " + b"0" * 7),
    "a body in chunks": claim().replace(b"Content-Length: 35", b"Transfer-Encoding: chunked"),
    "no JSON": claim(b'{"container":'),
    "a space": claim(b'{"container": "web"}'),
    "a name twice": claim(b'{"container":"web","container":"api"}'),
    "another type": claim(b'{"container":7}'),
    "a wrong name": claim(b'{"container":"../web"}'),
    "a long body": claim(b'{"container":"web"' + b" " * (1 << 17) + b"}"),
}


@pytest.mark.parametrize("said", OTHERS.values(), ids=OTHERS)
def test_everything_else_is_left_as_it_is(said: bytes) -> None:
    pool = Pool()
    assert answered(pool.path(), Peer(0), said) is None
    assert pool.claimed == [] and pool.counted == []


def test_what_is_not_done_at_once_is_left() -> None:
    pool = Pool(ready=False)
    assert answered(pool.path(), Peer(0), claim()) is None
    assert pool.counted == []


def test_what_is_refused_is_left_for_the_one_place_that_says_why() -> None:
    def refuse(asker: Asker, places: Places) -> Endpoint | None:
        raise Conflict("web: is attached otherwise")

    assert answered(FastPath(refuse, Authority(), lambda *_: None), Peer(0), claim()) is None


def test_who_may_not_claim_claims_nothing() -> None:
    pool = Pool()
    path = pool.path(Granted(1000, Grant("builders", frozenset({"attach"}), ("acme",))))
    assert path.read(Peer(7, frozenset({1001})), claim()) is None  # before it is read, as of any call
    assert answered(path, Peer(7, frozenset({1000})), claim(b'{"container":"web","tenant":"other"}')) is None
    assert pool.claimed == []
    assert answered(path, Peer(7, frozenset({1000})), claim()) is not None
    assert pool.claimed == [(7, "web")]
