"""As much of HTTP/1.1 as a caller of the daemon needs beside its requests: an answer from its pieces. Pure.

The library's own client brings the email package along, which takes longer to import than most calls take. The daemon
says the length of every answer; one that is in chunks, or goes on until the end, is another program's.
"""

from collections.abc import Callable

import msgspec

from cellwall.errors import CellwallError, Unavailable
from cellwall.wire.problems import Problem, error_of

_LONGEST_HEAD = 1 << 16

LARGEST = 1 << 28
"""Octets of an answer. A node that is full of endpoints with all that they may publish is listed in a fraction."""


class Answer(msgspec.Struct, frozen=True):
    """Status and body. `lasting`: the connection can be asked again."""

    status: int
    body: bytes
    lasting: bool


class Broken(Exception):
    """The connection ended before the answer did."""


def read_answer(receive: Callable[[], bytes]) -> Answer:
    """The next answer of a connection; `receive` gives what comes, b"" at its end. Broken, or Unavailable for what
    the daemon does not write."""
    head, body = _head(receive)
    first, *lines = head.split(b"\r\n")
    fields = {name.lower().strip(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    status, length = first.split(b" ")[1:2], fields.get(b"content-length", b"")
    if not first.startswith(b"HTTP/1.1 ") or not status[0].isdigit() or not length.isdigit():
        raise Unavailable("what answers at the daemon's socket is no daemon of this version")
    refuse_too_large(int(length))
    pieces, missing = [body], int(length) - len(body)
    while missing > 0:
        piece = receive()
        if not piece:
            raise Broken
        pieces.append(piece)
        missing -= len(piece)
    return Answer(int(status[0]), b"".join(pieces), lasting=fields.get(b"connection", b"").lower() != b"close")


def refuse_too_large(length: int) -> None:
    """Unavailable for an answer of so many octets that no daemon of ours gives it."""
    if length > LARGEST:
        raise Unavailable(f"what answers at the daemon's socket says that it has {length} bytes to say")


def refusal(answer_status: int, body: bytes) -> CellwallError:
    """The error that an answer without success tells of."""
    try:
        return error_of(msgspec.json.decode(body, type=Problem))
    except msgspec.MsgspecError:
        return Unavailable(f"the daemon answered with status {answer_status}")


def _head(receive: Callable[[], bytes]) -> tuple[bytes, bytes]:
    """Everything to the empty line, and what came of the body with it."""
    said = b""
    while b"\r\n\r\n" not in said:
        piece = receive()
        if not piece or len(said) > _LONGEST_HEAD:
            raise Broken
        said += piece
    head, _, body = said.partition(b"\r\n\r\n")
    return head, body
