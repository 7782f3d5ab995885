"""B06: flows of other kinds than one packet each from one port: to many ports, answered, and of SCTP, which connection
tracking has states for.

Who answers on the Internet is on the attacker's side. An answered flow stays for longer than one without an answer, and
an association that stands is given up for nobody, however full the table is.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, partial
from itertools import product
from typing import Literal

from cellwall.attack.frames import frame, ip, packet, scapy
from cellwall.attack.probe import Probe, Shot, layers
from cellwall.attack.rows.exhaustion import flows_allowed, forget
from cellwall.attack.rows.floods import numbered
from cellwall.attack.rows.routed import FAR, from_outside
from cellwall.attack.rows.shapes import FAMILIES, episode
from cellwall.attack.world import World

Kind = Literal["udp", "sctp"]

_PORT = 9076
_FIRST = 20000
_BEYOND = 60
_ROUND = 160
"""Flows that begin before they are answered."""

_INIT, _INIT_ACK, _COOKIE_ECHO, _COOKIE_ACK = 1, 2, 10, 11
"""Chunks of SCTP (RFC 9260), by which connection tracking goes from one state to the next."""
_UNKNOWN = 0xBFFF  # a parameter that whoever does not know it skips in silence
_SCTP = 132
_OURS, _THEIRS = 0x0A0A0A0A, 0x0B0B0B0B  # verification tags


class Flows:
    """Flows of the attacker's with a host of the Internet that plays along, by their ports."""

    def __init__(self, w: World, token: bytes, family: int, kind: Kind) -> None:
        self._w, self._token, self._family, self._kind = w, token, family, kind
        self._outside: dict[int, int] = {}  # the attacker's port → what it was translated to

    def begin(self, ports: Iterable[int]) -> Mapping[int, int]:
        """One packet each; those that arrived, by the port that each arrived from."""
        sight = self._w.fire(self._out(_INIT, 0, ports))
        found = dict(self._arrived(sight.seen["internet"]))
        self._outside |= found
        return found

    def answer(self, ports: Iterable[int]) -> None:
        """What whoever is at the other end says, and where that is asked for what is said to it."""
        known = [port for port in ports if port in self._outside]
        self._w.fire(self._into(_INIT_ACK, _OURS, known))
        if self._kind == "sctp":
            self._w.fire(self._out(_COOKIE_ECHO, _THEIRS, known))
            self._w.fire(self._into(_COOKIE_ACK, _OURS, known))

    def _out(self, chunk: int, tag: int, ports: Iterable[int]) -> Iterator[Shot]:
        ends = self._w.attacker.ip(self._family), FAR[self._family]
        for port in ports:
            body = self._packet(*ends, (port, _PORT), chunk, tag, port)
            yield Shot("attacker", frame(self._w.attacker.mac, self._w.gateway.mac, body))

    def _into(self, chunk: int, tag: int, ports: Iterable[int]) -> Iterable[Shot]:
        ends = FAR[self._family], self._w.uplink(self._family)
        bodies = [self._packet(*ends, (_PORT, self._outside[port]), chunk, tag, port) for port in ports]
        return from_outside("internet", lambda w, t: bodies)(self._w, self._token)

    def _packet(self, source: str, target: str, ports: tuple[int, int], chunk: int, tag: int, number: int) -> bytes:
        said = self._token + number.to_bytes(2, "big")
        if self._kind == "udp":
            return bytes(packet(source, target, "udp", said, sport=ports[0], dport=ports[1]))
        return bytes(ip(source, target, proto=_SCTP) / scapy().Raw(_segment(ports, chunk, tag, said)))

    def _arrived(self, seen: Iterable[bytes]) -> Iterator[tuple[int, int]]:
        at = 14 + (20 if self._family == 4 else 40)
        for one in seen:
            if self._token in one:
                behind = one.index(self._token) + len(self._token)
                yield int.from_bytes(one[behind : behind + 2], "big"), int.from_bytes(one[at : at + 2], "big")


def _segment(ports: tuple[int, int], chunk: int, tag: int, said: bytes) -> bytes:
    """One chunk of SCTP. What does not add up is no packet of a flow to connection tracking."""
    own = _OURS if chunk == _INIT else _THEIRS
    fixed = struct.pack("!IIHHI", own, 65536, 1, 1, 1) if chunk in (_INIT, _INIT_ACK) else b""
    padded = said.ljust(-(-len(said) // 4) * 4, b"\0")
    value = fixed + struct.pack("!HH", _UNKNOWN, 4 + len(padded)) + padded
    chunks = struct.pack("!BBH", chunk, 0, 4 + len(value)) + value
    ends = struct.pack("!HHI", *ports, tag)
    return ends + struct.pack("<I", _crc32c(ends + bytes(4) + chunks)) + chunks


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _table()[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


@cache
def _table() -> tuple[int, ...]:
    """Of Castagnoli's polynomial, reflected."""
    rows = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        rows.append(byte)
    return tuple(rows)


def _answered(w: World, token: bytes, *, family: int, kind: Kind) -> bool:
    """Whether more of them are there than a container may have, all of which were answered."""
    flows, arrived, most = Flows(w, token, family, kind), 0, flows_allowed(w) + _BEYOND
    w.fire(())  # the sentinel's own flow exists before there are too many
    try:
        for first in range(_FIRST, _FIRST + most, _ROUND):
            ports = range(first, min(first + _ROUND, _FIRST + most))
            arrived += len(flows.begin(ports))
            flows.answer(ports)
    finally:
        forget(w)
    return arrived > flows_allowed(w)


def _to_many_ports(w: World, token: bytes, *, family: int) -> bool:
    model = bytes(packet(w.attacker.ip(family), FAR[family], "udp", token + b"\xff\xff", sport=_PORT, dport=0))
    at = 22 if family == 4 else 42
    bodies = numbered(model, token, at, range(_FIRST, _FIRST + flows_allowed(w) + _BEYOND))
    w.fire(())
    sight = w.fire(Shot("attacker", frame(w.attacker.mac, w.gateway.mac, one)) for one in bodies)
    forget(w)
    return sum(token in data for data in sight.seen["internet"]) > flows_allowed(w)


def _unanswered(w: World, token: bytes, *, family: int) -> bool:
    flows = Flows(w, token, family, "sctp")
    w.fire(())
    arrived = flows.begin(range(_FIRST, _FIRST + flows_allowed(w) + _BEYOND))
    forget(w)
    return len(arrived) > flows_allowed(w)


def _probes() -> Iterator[Probe]:
    plays: dict[str, tuple[str, Callable[..., bool]]] = {
        "ports-udp": ("udp to as many ports of one host", _to_many_ports),
        "answered-udp": ("udp, each of them answered", partial(_answered, kind="udp")),
        "sctp": ("associations of SCTP, of which none is answered", _unanswered),
        "answered-sctp": ("associations of SCTP that stand", partial(_answered, kind="sctp")),
    }
    for (name, (what, play)), family in product(plays.items(), FAMILIES):
        # Of IPv6 no other protocol than those of the usual headers comes past the bridge, nor past what is before
        # connection tracking.
        stops = layers("PIN", "RAW", "FWD") if "sctp" in name and family == 6 else layers("FWD")
        yield episode(
            f"B06-{name}-v{family}",
            f"a container has more flows than it may, IPv{family}: {what}",
            stops,
            partial(play, family=family),
            family=family,
        )


PROBES: tuple[Probe, ...] = tuple(_probes())
