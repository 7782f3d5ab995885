"""While a daemon ends no other begins, so nobody but who waits for an answer keeps it from that."""

import contextlib
import socket
import time

import pytest

from cellwall.daemon.bounds import Bounds
from cellwall.wire.octets import request_text
from served import connected, open_served

pytestmark = pytest.mark.root

PATIENT = Bounds(header_seconds=60, body_seconds=60, answer_seconds=60, ending_seconds=60)
ASKED = request_text("GET", "/v1/version", b"")
SAID = {
    "nothing": b"",
    "all, and has its answer": ASKED,
    "half a head": ASKED[:9],
    "half a body": request_text("PUT", "/v1/policies/acme", b'{"mode":"block"}')[:-1],
    "more than it takes": request_text("GET", "/openapi.json", b"") * 99,
}


def say(sock: socket.socket, said: bytes) -> None:
    """As much of it as is taken within a moment."""
    sock.settimeout(0.2)
    with contextlib.suppress(TimeoutError):
        sock.sendall(said)


@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
def test_who_waits_for_no_answer_or_takes_none_keeps_no_daemon_from_ending(said: bytes) -> None:
    with contextlib.ExitStack() as callers:
        with open_served(bounds=PATIENT, up=False) as served:
            say(callers.enter_context(connected(served.path)), said)
            time.sleep(0.1)  # it has come
            began = time.monotonic()
        assert time.monotonic() - began < 30
