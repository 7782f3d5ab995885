"""Load through a node, bounded in count: connections, and small datagrams of one flow.

Every packet of a sample travels in the sender's own system call, from the sandbox through the node into the server's
socket, so the rate is what the path costs one processor and no second process has to be scheduled for it. What counts
is what arrived: connections that the server's kernel completed, datagrams that reached its socket.
"""

import ctypes
import os
import socket
import struct
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress

from cellwall.errors import LabError
from cellwall.lab import Host, Lab
from cellwall.lab.addresses import PUBLIC4, PUBLIC6

CONNECTIONS = 500
"""A sample; each listening socket keeps 4,096 of them until somebody accepts."""
DATAGRAMS = 8_000
_PAYLOAD = b"cellwall bench 18b"
_PORTS = range(8000, 8008)  # a port that closed a moment ago is not free for the same destination yet
_BATCH = 50
_FILLING = 600  # more small datagrams than a socket's default buffer holds
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: no TIME_WAIT is left behind

_libc = ctypes.CDLL(None, use_errno=True)


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_char_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """struct msghdr of a connected socket: name and control stay empty."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint),
        ("vector", ctypes.POINTER(_Vector)),
        ("vectors", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class Message(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = (("header", _Header), ("sent", ctypes.c_uint))


class Load:
    """One family's load from a sandbox to a server on the lab's Internet."""

    def __init__(self, lab: Lab, sandbox: Host, family: socket.AddressFamily) -> None:
        self._sandbox, self._server = sandbox, lab.internet
        self._family = family
        self._address = (PUBLIC6 if family == socket.AF_INET6 else PUBLIC4)[2]
        with ExitStack() as opened:
            self._listeners = [opened.enter_context(self._listen(port)) for port in _PORTS]
            self._sink = opened.enter_context(self._server.socket(family, socket.SOCK_DGRAM))
            self._sink.bind((self._address, _PORTS[0]))
            self._source = opened.enter_context(sandbox.socket(family, socket.SOCK_DGRAM))
            self._source.connect((self._address, _PORTS[0]))
            self._opened = opened.pop_all()
        self._establish()

    def connections(self) -> float:
        """Connections a second that the server completed, of CONNECTIONS asked for."""
        target = [(self._address, port) for port in _PORTS]
        with self._sandbox.enter():
            began = time.perf_counter()
            for number in range(CONNECTIONS):
                sock = socket.socket(self._family, socket.SOCK_STREAM)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                sock.connect(target[number % len(target)])
                sock.close()
            seconds = time.perf_counter() - began
        # One in ten thousand is reset before its last acknowledgement has arrived, on a machine that is busy otherwise.
        if (completed := self._accept_all()) < CONNECTIONS * 0.99:
            raise LabError(f"{self._sandbox.name}: {completed} of {CONNECTIONS} connections reached the server")
        return completed / seconds

    def datagrams(self) -> float:
        """Datagrams a second that arrived at the server's socket, of DATAGRAMS sent."""
        batch = _messages(_BATCH)
        before = self._arrived()
        began = time.perf_counter()
        for _ in range(DATAGRAMS // _BATCH):
            if (taken := _libc.sendmmsg(self._source.fileno(), batch, _BATCH, 0)) != _BATCH:
                reason = os.strerror(ctypes.get_errno()) if taken < 0 else f"{taken} of {_BATCH} taken"
                raise LabError(f"{self._sandbox.name}: sendmmsg: {reason}")
        seconds = time.perf_counter() - began
        arrived = self._arrived() - before
        if arrived < DATAGRAMS * 0.9:
            raise LabError(f"{self._sandbox.name}: {arrived} of {DATAGRAMS} datagrams arrived")
        return arrived / seconds

    def close(self) -> None:
        self._opened.close()

    def _listen(self, port: int) -> socket.socket:
        listener = self._server.socket(self._family, socket.SOCK_STREAM)
        listener.bind((self._address, port))
        listener.listen(4096)
        listener.setblocking(False)
        return listener

    def _accept_all(self) -> int:
        completed = 0
        for listener in self._listeners:
            with suppress(BlockingIOError):
                while True:
                    listener.accept()[0].close()
                    completed += 1
        return completed

    def _establish(self) -> None:
        """One datagram each way: a flow without an answer stays new, and is decided anew for every packet."""
        self._source.settimeout(2)
        self._sink.settimeout(2)
        self._source.send(_PAYLOAD)
        self._sink.sendto(*self._sink.recvfrom(64))
        self._source.recv(64)
        # a time-out makes the descriptor non-blocking, and a batch would be cut short
        self._source.setblocking(True)
        for _ in range(_FILLING):
            self._source.send(_PAYLOAD)

    def _arrived(self) -> int:
        """Datagrams that reached the server's socket and found it full: nobody reads it, so that the receiver costs
        everybody the same, and only what finds no room is counted before it is read."""
        with self._server.enter():
            if self._family == socket.AF_INET6:
                with open("/proc/thread-self/net/snmp6") as lines:
                    counters = dict(line.split() for line in lines)
                return int(counters["Udp6RcvbufErrors"])
            with open("/proc/thread-self/net/snmp") as lines:
                names, values = (line.split() for line in lines if line.startswith("Udp:"))
        counters = dict(zip(names, values, strict=True))
        return int(counters["RcvbufErrors"])


def _messages(count: int) -> "ctypes.Array[Message]":
    return message_batch([_PAYLOAD] * count)


def message_batch(bodies: Sequence[bytes]) -> "ctypes.Array[Message]":
    """What sendmmsg takes to send each of these, as long as they live."""
    batch = (Message * len(bodies))()
    for message, body in zip(batch, bodies, strict=True):
        vector = _Vector(body, len(body))
        message.header.vector, message.header.vectors = ctypes.pointer(vector), 1
    return batch
