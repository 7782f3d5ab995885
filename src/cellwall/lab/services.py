"""Echo servers on every address of a host, which remember what reached them.

Owns: one listener per family, protocol and port, bound to the wildcard, so that an address added later is
served too. An answer is the host's name, a space and the data, and leaves from the address that was asked
(IP_PKTINFO): a wildcard UDP socket would otherwise answer from the address of the route back, and a
connected client not see it. Remembers what arrived whether or not the answer finds a way back: that is how
a probe without an answer is judged. Refuses to remember more than the first 64 KiB of a TCP connection;
those that follow are echoed only.
"""

import selectors
import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from cellwall.errors import LabError
from cellwall.lab.loop import Loop
from cellwall.model.addresses import Protocol as Transport

OpenSocket = Callable[[int, int], socket.socket]
Peer = tuple[str, int]

_REMEMBERED = 1 << 16
_CHUNK = 1 << 16
_SO_RCVBUFFORCE, _BUFFER = 33, 4 << 20  # asm-generic/socket.h; bytes
_IP_PKTINFO = 8  # linux/in.h; socket.IP_PKTINFO exists from Python 3.14 on


class Seen(bytes):
    """A payload that arrived, with the (address, port) it came from and the one it was sent to."""

    transport: Transport
    peer: Peer
    local: Peer

    @classmethod
    def of(cls, data: bytes, transport: Transport, peer: Peer, local: Peer) -> "Seen":
        """`data` as it came from `peer` to `local`."""
        seen = cls(data)
        seen.transport, seen.peer, seen.local = transport, peer, local
        return seen


class Services:
    """The echo servers of one `Host.serve`."""

    def __init__(self, name: str, loop: Loop) -> None:
        self._greeting = f"{name} ".encode()
        self._loop = loop
        self.ports: frozenset[tuple[Transport, int]] = frozenset()
        """What is served until `close`: (transport, port)."""
        self._sockets: set[socket.socket] = set()
        self._seen: list[Seen] = []
        self._accepted: list[tuple[Peer, Peer]] = []

    def open(self, create: OpenSocket, *, tcp: Sequence[int], udp: Sequence[int], families: Sequence[int]) -> None:
        """Bind and serve these ports; `create` makes a socket in the host's namespace."""
        self.ports = frozenset([("tcp", port) for port in tcp] + [("udp", port) for port in udp])
        try:
            for family in families:
                for port in tcp:
                    sock = self._bind(create(family, socket.SOCK_STREAM), port)
                    sock.listen(1024)
                    self._loop.watch(sock, partial(self._accept, sock))
                for port in udp:
                    sock = self._bind(create(family, socket.SOCK_DGRAM), port)
                    self._loop.watch(sock, partial(self._answer, sock))
        except BaseException:
            self.close()
            raise

    @property
    def seen(self) -> list[Seen]:
        """Every payload that had arrived when this was asked, in the order of arrival."""
        self._settle()
        return list(self._seen)

    @property
    def accepted(self) -> list[tuple[Peer, Peer]]:
        """(peer, local) of every TCP connection, also of those that never sent anything."""
        self._settle()
        return list(self._accepted)

    def saw(self, token: bytes) -> bool:
        """Whether a payload with `token` had arrived when this was asked."""
        return any(payload.find(token) >= 0 for payload in self.seen)

    def wait_for(self, token: bytes, timeout: float = 10.0) -> bool:
        """Whether a payload with `token` arrives within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while not self.saw(token):
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.005)
        return True

    def close(self) -> None:
        """Close all listeners and connections; what was seen stays readable."""
        # Suppressed: a lab that closed first has closed them all.
        with suppress(LabError):
            self._loop.drop(self._sockets)
        self._sockets.clear()
        self.ports = frozenset()

    def __enter__(self) -> "Services":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _settle(self) -> None:
        if self._sockets:
            with suppress(LabError):
                self._loop.settle()

    def _bind(self, sock: socket.socket, port: int) -> socket.socket:
        self._sockets.add(sock)
        # REUSEPORT: a name server bound to a single address of the host keeps its port 53.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if sock.type == socket.SOCK_DGRAM:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)  # what arrived while nobody read counts too
            ask_for_destination(sock)
        try:
            sock.bind(("", port))
        except OSError as error:
            raise LabError(f"port {port}: {error.strerror}") from error
        return sock

    def _accept(self, listener: socket.socket, events: int) -> None:
        with suppress(OSError):
            sock, address = listener.accept()
            # Not getpeername: the peer may have reset the connection while it waited here.
            local, peer = sock.getsockname()[:2], address[:2]
            self._accepted.append((peer, local))
            self._sockets.add(sock)
            self._loop.add(sock, _Connection(self, sock, peer, local).ready)

    def _answer(self, sock: socket.socket, events: int) -> None:
        with suppress(OSError):  # no route back, or an ICMP error about an earlier answer
            data, ancillary, _, peer = sock.recvmsg(_CHUNK, 256)
            asked, answer_from = destination(sock.family, ancillary)
            self._seen.append(Seen.of(data, "udp", peer[:2], (asked, sock.getsockname()[1])))
            # A datagram larger than the rest of the limit is cut, not refused: 65,507 is IPv4's maximum.
            sock.sendmsg([(self._greeting + data)[:65507]], answer_from, 0, peer)


class _Connection:
    """One TCP connection: what could not be sent yet is kept, and nothing is read meanwhile."""

    def __init__(self, services: Services, sock: socket.socket, peer: Peer, local: Peer) -> None:
        self._services = services
        self._sock = sock
        self._peer, self._local = peer, local
        self._pending = bytearray()
        self._remembered = 0

    def ready(self, events: int) -> None:
        try:
            alive = self._read() if events & selectors.EVENT_READ else True
            self._write()
        except OSError:
            alive = False
        if not alive:
            self._services._loop.drop([self._sock])
            self._services._sockets.discard(self._sock)

    def _read(self) -> bool:
        data = self._sock.recv(_CHUNK)
        if data and self._remembered < _REMEMBERED:
            self._remembered += len(data)
            self._services._seen.append(Seen.of(data, "tcp", self._peer, self._local))
        if data:
            self._pending += self._services._greeting + data
        return bool(data)

    def _write(self) -> None:
        with suppress(BlockingIOError):
            while self._pending:
                del self._pending[: self._sock.send(self._pending)]
        self._services._loop.want(self._sock, write=bool(self._pending))


def ask_for_destination(sock: socket.socket) -> None:
    """Have `recvmsg` on a UDP socket tell the address each datagram was sent to."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)


def destination(family: int, ancillary: list[tuple[int, int, bytes]]) -> tuple[str, list[tuple[int, int, bytes]]]:
    """The address a datagram was sent to, and the ancillary data that makes its answer leave from there.

    The kernel names a unicast address to answer from also for a broadcast (ipi_spec_dst); for an IPv6
    multicast it has none, and the answer is left to the routing table. The interface is kept for link-local
    addresses only: a fixed interface would bypass the routes that an answer has to take.
    """
    for level, kind, data in ancillary:
        if family == socket.AF_INET and (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            _, source, asked = struct.unpack_from("=i4s4s", data)
            answer = struct.pack("=i4s4s", 0, source, bytes(4))
            return socket.inet_ntop(family, asked), [(level, kind, answer)]
        if family == socket.AF_INET6 and (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            asked, index = struct.unpack_from("=16si", data)
            if asked[0] == 0xFF:
                return socket.inet_ntop(family, asked), []
            link_local = asked[0] == 0xFE and asked[1] & 0xC0 == 0x80
            answer = struct.pack("=16si", asked, index if link_local else 0)
            return socket.inet_ntop(family, asked), [(level, kind, answer)]
    return "", []
