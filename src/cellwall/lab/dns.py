"""The name server of the lab's Internet.

Owns: answers over UDP and TCP on the resolvers' addresses: every name below `.test` has one IPv4 and one
IPv6 address, every other name does not exist. Packed by hand, because the queries come from code under test
and from hostile tenants, and this much needs no library. Refuses everything but a query with one question.
"""

import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from cellwall.lab.addresses import NAMED4, NAMED6, ZONE
from cellwall.lab.loop import Loop

_A, _AAAA, _IN = 1, 28, 1
_RESPONSE, _AUTHORITATIVE, _RECURSION_AVAILABLE = 0x8000, 0x0400, 0x0080
_KEPT = 0x7900  # opcode and "recursion desired" are returned as they came
_FORMAT_ERROR, _NO_SUCH_NAME, _NOT_IMPLEMENTED = 1, 3, 4
_RECORDS = {_A: socket.inet_pton(socket.AF_INET, NAMED4), _AAAA: socket.inet_pton(socket.AF_INET6, NAMED6)}


def question(name: str, kind: int = _A, *, ident: int = 0x1234) -> bytes:
    """The query for one name, as over UDP; `kind` is 1 for an IPv4 address, 28 for an IPv6 one (RFC 1035, RFC 3596)."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!HHHHHH", ident, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, _IN)


def framed(message: bytes) -> bytes:
    """A DNS message as over TCP (RFC 1035, 4.2.2)."""
    return struct.pack("!H", len(message)) + message


def answer(query: bytes) -> bytes | None:
    """The response to one DNS message; None where it is not a query."""
    if len(query) < 12:
        return None
    ident, flags, questions = struct.unpack_from("!HHH", query)
    if flags & _RESPONSE:
        return None
    reply_flags = _RESPONSE | _AUTHORITATIVE | _RECURSION_AVAILABLE | (flags & _KEPT)
    asked = _question(query) if questions == 1 else None
    if flags & 0x7800 or asked is None:
        code = _NOT_IMPLEMENTED if flags & 0x7800 else _FORMAT_ERROR
        return struct.pack("!HHHHHH", ident, reply_flags | code, 0, 0, 0, 0)
    labels, kind, end = asked
    known = labels[-1:] == [ZONE.encode()]
    record = _RECORDS.get(kind) if known else None
    code = 0 if known else _NO_SUCH_NAME
    reply = struct.pack("!HHHHHH", ident, reply_flags | code, 1, 1 if record else 0, 0, 0) + query[12:end]
    if record:
        # 0xC00C points at the name of the question, which always begins at byte 12.
        reply += struct.pack("!HHHIH", 0xC00C, kind, _IN, 60, len(record)) + record
    return reply


def _question(query: bytes) -> tuple[list[bytes], int, int] | None:
    labels: list[bytes] = []
    at = 12
    while at < len(query) and query[at]:
        length = query[at]
        if length > 63:  # a compression pointer has nothing to point at in a first question
            return None
        labels.append(query[at + 1 : at + 1 + length].lower())
        at += 1 + length
    if at + 5 > len(query):
        return None
    kind, _ = struct.unpack_from("!HH", query, at + 1)
    return labels, kind, at + 5


class NameServer:
    """Serves `answer` on some addresses of one host."""

    def __init__(self, loop: Loop, create: Callable[[int, int], socket.socket], addresses: Sequence[str]) -> None:
        self._loop = loop
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            datagrams = self._bind(create(family, socket.SOCK_DGRAM), address)
            loop.watch(datagrams, partial(self._datagram, datagrams))
            listener = self._bind(create(family, socket.SOCK_STREAM), address)
            listener.listen(64)
            loop.watch(listener, partial(self._accept, listener))

    def _bind(self, sock: socket.socket, address: str) -> socket.socket:
        # REUSEPORT lets a test serve port 53 on every other address of the same host.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((address, 53))
        return sock

    def _datagram(self, sock: socket.socket, events: int) -> None:
        with suppress(OSError):  # no route back to the asker
            query, peer = sock.recvfrom(4096)
            reply = answer(query)
            if reply is not None:
                sock.sendto(reply, peer)

    def _accept(self, listener: socket.socket, events: int) -> None:
        with suppress(OSError):
            sock, _ = listener.accept()
            waiting = bytearray()
            self._loop.add(sock, partial(self._stream, sock, waiting))

    def _stream(self, sock: socket.socket, waiting: bytearray, events: int) -> None:
        try:
            data = sock.recv(4096)
            waiting += data
            while len(waiting) >= 2 and len(waiting) >= 2 + (length := int.from_bytes(waiting[:2], "big")):
                reply = answer(bytes(waiting[2 : 2 + length]))
                del waiting[: 2 + length]
                if reply is not None:
                    sock.send(framed(reply))
        except OSError:
            data = b""
        if not data:
            self._loop.drop([sock])
