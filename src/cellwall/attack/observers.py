"""What everybody sees: captures on links, and sockets of the node behind its last hook.

A raw IP socket gets a copy of every packet of its protocol that passed the node's input path, and a packet socket of
one link-layer protocol, unlike a capture, gets only what the bridge let go up: they stand for daemons.
"""

import socket
import struct
from collections.abc import Mapping

import msgspec

from cellwall.attack.frames import summary
from cellwall.attack.probe import Place
from cellwall.errors import TooBusy
from cellwall.lab import Capture, Host

_PROTOCOLS4 = (1, 2, 4, 6, 17, 41, 47, 50, 51, 89, 103, 112, 132, 136)
_PROTOCOLS6 = (4, 6, 17, 41, 47, 50, 51, 58, 89, 103, 112, 132, 136, 139, 140, 253)
_LINK_PROTOCOLS = (0x888E, 0x88CC, 0x8809, 0x0004)
_SO_RCVBUFFORCE, _SO_MEMINFO = 33, 55
_LARGEST = 1 << 18  # more than the kernel accounts for one packet


class View(msgspec.Struct, frozen=True):
    """A link that is watched. `outgoing`: what the host sends there counts too: there is no receiver to look at."""

    host: Host
    ifname: str
    outgoing: bool = False


class Sight(msgspec.Struct, frozen=True):
    """Everything that was seen, by place: frames on links, packets at the node's sockets."""

    seen: Mapping[Place, tuple[bytes, ...]]

    def joined(self, later: "Sight") -> "Sight":
        """This and what was seen later."""
        places = {*self.seen, *later.seen}
        return Sight({place: (*self.seen.get(place, ()), *later.seen.get(place, ())) for place in places})

    def saw(self, token: bytes, *places: Place) -> bool:
        """Whether the token was seen at one of the places."""
        return bool(self.told(token, *places))

    def told(self, token: bytes, *places: Place) -> str:
        """Where the token was seen, and in what, for people; empty: nowhere."""
        found = ((place, data) for place in places for data in self.seen.get(place, ()) if token in data)
        place, data = next(found, (None, b""))
        if place in ("node", "daemon"):
            return f"a socket of the node received {len(data)} bytes"
        return "" if place is None else f"on the link of {place}: {summary(data)}"


class Observers:
    """Open from creation to `close`. `node_link`: the node's sockets get only what comes from that link."""

    def __init__(self, node: Host, views: Mapping[Place, View], *, node_link: str = "") -> None:
        # Promiscuous where frames are received: a live node's own interface is left in the mode it is in.
        self._captures: dict[Place, Capture] = {
            place: view.host.capture(view.ifname, promiscuous=not view.outgoing, outgoing=view.outgoing)
            for place, view in views.items()
        }
        self._node = [_raw(node, socket.AF_INET, number, node_link) for number in _PROTOCOLS4]
        if node.ipv6:
            self._node += [_raw(node, socket.AF_INET6, number, node_link) for number in _PROTOCOLS6]
        self._daemons = [_packet(node, number, node_link) for number in _LINK_PROTOCOLS]

    def discard(self) -> None:
        """Forget what was seen so far."""
        for capture in self._captures.values():
            capture.discard()
        for sock in (*self._node, *self._daemons):
            _drain(sock)

    def look(self, sentinels: Mapping[Place, bytes]) -> Sight:
        """What was seen until every sentinel arrived where it is awaited; LabError where one does not, TooBusy
        where any was lost."""
        seen: dict[Place, tuple[bytes, ...]] = {}
        for place, sentinel in sentinels.items():
            seen[place] = tuple(self._captures[place].read_until(sentinel))
        for place, capture in self._captures.items():
            seen[place] = (*seen.get(place, ()), *capture.drain())
        seen["node"] = tuple(data for sock in self._node for data in _drain(sock))
        seen["daemon"] = tuple(data for sock in self._daemons for data in _drain(sock))
        return Sight(seen)

    def close(self) -> None:
        """Close every socket."""
        for capture in self._captures.values():
            capture.close()
        for sock in (*self._node, *self._daemons):
            sock.close()


def _raw(host: Host, family: socket.AddressFamily, protocol: int, link: str) -> socket.socket:
    sock = _ready(host.socket(family, socket.SOCK_RAW, protocol))
    if link:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.encode())
    return sock


def _packet(host: Host, protocol: int, link: str) -> socket.socket:
    sock = _ready(host.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol)))
    if link:
        with host.enter():
            sock.bind((link, protocol))
    return sock


def _ready(sock: socket.socket) -> socket.socket:
    sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 16 << 20)
    sock.setblocking(False)
    return sock


def _drain(sock: socket.socket) -> list[bytes]:
    # linux/sock_diag.h, SK_MEMINFO_RMEM_ALLOC and _RCVBUF. Not the count of drops, which a wrong checksum raises too:
    # what waits only grows until it is read here, so a buffer that is not full has never been.
    waiting, room, *_ = struct.unpack("=9I", sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 36))
    if waiting + _LARGEST > room:
        raise TooBusy("the buffer of a socket of the node ran full: what it did not see cannot be said")
    found = []
    while True:
        try:
            found.append(sock.recv(1 << 16))
        except BlockingIOError:
            return found
