"""Both ends of connections that end and begin again: sockets that keep to one port, and clients that are played by
segments, with whoever answers them."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from cellwall.attack.frames import frame, packet
from cellwall.attack.rows.floods import numbered
from cellwall.attack.rows.routed import FAR, from_outside
from cellwall.attack.world import World
from cellwall.lab import Host
from world import public

PORT, SERVED = 30001, 80
FIRST, EXPOSED = 20000, 8443  # of clients' ports; of the attacker's published port
TOKEN = b"<connections that end>"  # of an even length, as checksums add up words
KINDS = {4: socket.AF_INET, 6: socket.AF_INET6}

QUIET = f"""
table inet quiet {{
	chain quiet {{ type filter hook prerouting priority -300; tcp dport {EXPOSED} drop; }}
}}
"""
"""The attacker's own kernel does not reset what it knows nothing of."""


class Clients:
    """A client of the attacker's published port, and the attacker, who answers it: segments of which nobody knows but
    connection tracking. All carry as many bytes."""

    def __init__(self, world: World, family: int) -> None:
        self._world, self._family = world, family
        self._opened = 0

    def open(self, count: int) -> range:
        """So many more; whether or not the wall let them in, both go on as if it had."""
        ports = range(FIRST + self._opened, FIRST + self._opened + count)
        self._opened += count
        self.begin(ports)
        return ports

    def begin(self, ports: range) -> None:
        for answers, flags, sent, got in ((False, "S", 0, 0), (True, "SA", 0, 1), (False, "A", 1, 1)):
            self._send(flags, sent, got, ports, answers=answers)

    def refuse(self, ports: range) -> None:
        """The attacker resets these."""
        self._send("RA", 1, 1, ports, answers=True)

    def remembered(self, state: str = "ESTABLISHED") -> int:
        """How many the node knows to be in that state."""
        query = ["-f", f"ipv{self._family}", "-p", "tcp", "--orig-src", FAR[self._family]]
        known = self._world.node.run(["conntrack", "-L", *query]).text.splitlines()
        return sum(state in line for line in known)

    def _send(self, flags: str, sent: int, got: int, ports: range, *, answers: bool) -> None:
        world, family = self._world, self._family
        ends = (world.attacker.ip(family), FAR[family]) if answers else (FAR[family], world.uplink(family))
        one = packet(*ends, "tcp", TOKEN + b"\xff\xff", sport=0, dport=0)
        segment, size = one["TCP"], len(TOKEN) + 3  # a SYN, or a FIN, is one more
        segment.sport, segment.dport = (EXPOSED, 0) if answers else (0, EXPOSED)
        ours, theirs = (5000, 1000) if answers else (1000, 5000)
        segment.flags, segment.seq, segment.ack = (
            flags,
            ours + size * sent,
            (theirs + size * got) if "A" in flags else 0,
        )
        at = (20 if family == 4 else 40) + (2 if answers else 0)
        bodies = list(numbered(bytes(one), TOKEN, at, ports))
        if answers:
            world.inject("attacker", [bytes(frame(world.attacker.mac, world.gateway.mac, body)) for body in bodies])
        else:
            shots = from_outside("internet", lambda w, t: bodies)(world, TOKEN)
            world.inject("internet", [shot.frame for shot in shots])
        world.settle()
        world.observers.discard()


@contextmanager
def listening(host: Host, family: int, address: str = "") -> Iterator[socket.socket]:
    """A server, at the host's public address if at no other."""
    with host.socket(KINDS[family], socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address or public(family), SERVED))
        sock.listen(8)
        sock.settimeout(20)
        yield sock


@contextmanager
def from_port(client: Host, family: int, port: int = PORT, *, timeout: float = 20) -> Iterator[socket.socket]:
    """A client's socket that has its port already; 0: any."""
    with client.socket(KINDS[family], socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind(("", port))
        sock.settimeout(timeout)
        yield sock


def reset(sock: socket.socket) -> None:
    """Close with a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
