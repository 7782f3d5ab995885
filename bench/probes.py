"""Denied packets without a pause, each with the moment at which it was sent: how long a way was open, if it was.

Sandboxes send to what no tenant may reach, of the world and of the node, and to each other; a neighbour of the node
sends straight to a sandbox. Every receiver listens, and a datagram that arrives says when it left.
"""

import select
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

import msgspec

from cellwall.lab import Host, Lab
from cellwall.lab.addresses import INFRA4, INFRA6, LAN4, LAN6, METADATA4, METADATA6, NODE4, NODE6
from cellwall.model.endpoint import Endpoint

_PORT, _PAUSE = 9000, 0.0002
_DENIED = ((METADATA4["all clouds"], METADATA6["AWS"]), (LAN4, LAN6), (NODE4, NODE6), (INFRA4, INFRA6))


class Opening(msgspec.Struct, frozen=True):
    """What came through: how many of how many, and the seconds between the first and the last of one way."""

    sent: int
    through: int
    seconds: float


class Probes:
    """The traffic of a block; `result` is right once it ended."""

    def __init__(self, lab: Lab, tenant: tuple[Host, Endpoint], victim: tuple[Host, Endpoint]) -> None:
        self._ways = [
            *((tenant[0], address) for pair in (*_DENIED, _own(victim[1])) for address in pair),
            *((lab.lan, address) for address in _own(victim[1])),
        ]
        self._hosts = (lab.internet, lab.lan, lab.node, lab.infra, victim[0])
        self._ended = threading.Event()
        self._sent = 0
        self._arrived: dict[int, list[float]] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Until the end of the block; what was on its way then has arrived when this returns."""
        with ExitStack() as stack:
            heard = [stack.enter_context(_listener(host, family)) for host in self._hosts for family in _FAMILIES]
            sockets = [stack.enter_context(_sender(host, address)) for host, address in self._ways]
            sender = threading.Thread(target=self._send, args=(sockets,))
            sender.start()
            try:
                yield
            finally:
                self._ended.set()
                sender.join()
                self._collect(heard)

    def result(self) -> Opening:
        """All ways together; the longest opening of any of them."""
        longest = max((max(moments) - min(moments) for moments in self._arrived.values()), default=0.0)
        return Opening(self._sent, sum(map(len, self._arrived.values())), longest)

    def _send(self, sockets: Sequence[socket.socket]) -> None:
        while not self._ended.wait(_PAUSE):
            for way, sock in enumerate(sockets):
                with suppress(OSError):  # what an earlier one was told
                    sock.send(b"%d %.6f" % (way, time.monotonic()))
                    self._sent += 1

    def _collect(self, heard: Sequence[socket.socket]) -> None:
        while readable := select.select(heard, [], [], 0.05)[0]:
            for sock in readable:
                with suppress(BlockingIOError):
                    while True:
                        way, moment = sock.recv(64).split()
                        self._arrived.setdefault(int(way), []).append(float(moment))


_FAMILIES = (socket.AF_INET, socket.AF_INET6)


def _own(endpoint: Endpoint) -> tuple[str, str]:
    return str(endpoint.address4), str(endpoint.address6)


def _listener(host: Host, family: socket.AddressFamily) -> socket.socket:
    sock = host.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUFFORCE if hasattr(socket, "SO_RCVBUFFORCE") else 33, 64 << 20)
    sock.setblocking(False)
    sock.bind(("", _PORT))
    return sock


def _sender(host: Host, address: str) -> socket.socket:
    sock = host.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.connect((address, _PORT))
    return sock
