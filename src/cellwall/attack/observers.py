"""What everybody sees: captures on links, and sockets of the node behind its last hook.

A raw IP socket gets a copy of every packet of its protocol that passed the node's input path, and a packet socket of
one link-layer protocol, unlike a capture, gets only what the bridge let go up: they stand for daemons.
"""

import socket
from collections.abc import Mapping

import msgspec

from cellwall.attack.probe import Place
from cellwall.lab import Capture, Host

_PROTOCOLS4 = (1, 2, 4, 6, 17, 41, 47, 50, 51, 89, 103, 112, 132, 136)
_PROTOCOLS6 = (4, 6, 17, 41, 47, 50, 51, 58, 89, 103, 112, 132, 136)
_LINK_PROTOCOLS = (0x888E, 0x88CC, 0x8809, 0x0004)
_SO_RCVBUFFORCE = 33


class View(msgspec.Struct, frozen=True):
    """A link that is watched. `outgoing`: what the host sends there counts too: there is no receiver to look at."""

    host: Host
    ifname: str
    outgoing: bool = False


class Sight(msgspec.Struct, frozen=True):
    """Everything that was seen, by place."""

    seen: Mapping[Place, bytes]

    def saw(self, token: bytes, *places: Place) -> bool:
        """Whether the token was seen at one of the places."""
        return any(token in self.seen.get(place, b"") for place in places)


class Observers:
    """Open from creation to `close`."""

    def __init__(self, node: Host, views: Mapping[Place, View]) -> None:
        # Promiscuous where frames are received: a live node's own interface is left in the mode it is in.
        self._captures: dict[Place, Capture] = {
            place: view.host.capture(view.ifname, promiscuous=not view.outgoing, outgoing=view.outgoing)
            for place, view in views.items()
        }
        self._node = [_raw(node, socket.AF_INET, number) for number in _PROTOCOLS4]
        if node.ipv6:
            self._node += [_raw(node, socket.AF_INET6, number) for number in _PROTOCOLS6]
        self._daemons = [_packet(node, number) for number in _LINK_PROTOCOLS]

    def discard(self) -> None:
        """Forget what was seen so far."""
        for capture in self._captures.values():
            capture.drain()
        for sock in (*self._node, *self._daemons):
            _drain(sock)

    def look(self, sentinel: bytes, *, at: Place) -> Sight:
        """What was seen until the sentinel arrived at `at`."""
        seen: dict[Place, bytes] = {at: b"\0".join(self._captures[at].read_until(sentinel))}
        for place, capture in self._captures.items():
            if place != at:
                seen[place] = b"\0".join(capture.drain())
        seen["node"] = b"\0".join(data for sock in self._node for data in _drain(sock))
        seen["daemon"] = b"\0".join(data for sock in self._daemons for data in _drain(sock))
        return Sight(seen)

    def close(self) -> None:
        """Close every socket."""
        for capture in self._captures.values():
            capture.close()
        for sock in (*self._node, *self._daemons):
            sock.close()


def _raw(host: Host, family: socket.AddressFamily, protocol: int) -> socket.socket:
    return _ready(host.socket(family, socket.SOCK_RAW, protocol))


def _packet(host: Host, protocol: int) -> socket.socket:
    return _ready(host.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol)))


def _ready(sock: socket.socket) -> socket.socket:
    sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 16 << 20)
    sock.setblocking(False)
    return sock


def _drain(sock: socket.socket) -> list[bytes]:
    found = []
    while True:
        try:
            found.append(sock.recv(1 << 16))
        except BlockingIOError:
            return found
