"""B09 and B10: floods of others, and of the path that the neighbours share. Nothing tells a packet of a flood from one
that is meant: what counts is how much arrives, against what may in the time that it took.

A flood goes on until more was sent than may arrive, however slow the machine is: what takes long may bring more.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain, count, islice, repeat
from time import monotonic, sleep
from typing import Any

import msgspec

from cellwall.attack.frames import frame, packet
from cellwall.attack.probe import Place, Probe, layers
from cellwall.attack.rows.routed import OUTSIDE, PUBLIC, by_gateway, from_outside
from cellwall.attack.rows.shapes import FAMILIES, Shots, episode
from cellwall.attack.stage import PUBLISHED, SETTINGS
from cellwall.attack.world import World
from cellwall.errors import TooBusy
from cellwall.model.settings import Settings

_AT_ONCE = 1000
_LATE = 0.5
"""Seconds by which a packet may be judged later than it was sent, and a bound be looser than it says."""
_MORE = 1.2
"""How much more than may arrive is sent: not for a few does anybody try."""
_PATIENCE = 20.0
_REFILL = 0.1
"""Seconds in which the bucket has room again for what the attacker sends last, by which all before it has arrived."""
_FOREMOST = -15  # of niceness
_FULL = 1400  # bytes of what a datagram carries


class Allowed(msgspec.Struct, frozen=True):
    """How many may arrive: at once, and in a second. `size`: what one of them counts for."""

    at_once: float
    a_second: float
    size: int = 1

    def within(self, seconds: float) -> float:
        """In so many seconds."""
        return (self.at_once + self.a_second * seconds) / self.size


def _settings(w: World) -> Settings:
    return w.wall.settings if w.wall else SETTINGS


def _new_flows(w: World) -> Allowed:
    rate = _settings(w).new_connections
    return Allowed(2 * rate, rate)


def _packets(w: World) -> Allowed:
    rate = _settings(w).packets
    return Allowed(rate, rate)


def _bytes(w: World) -> Allowed:
    rate = _settings(w).bytes
    return Allowed(rate + (128 << 10), rate, _FULL)


@contextmanager
def _first() -> Iterator[None]:
    """This thread before others of the machine: an attacker has a processor to flood from, however busy it is."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, _FOREMOST)
    try:
        yield
    finally:
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, before)


@_first()
def _flooded(w: World, frames: Iterator[bytes], origin: Place, where: Place, allowed: Allowed) -> bool:
    """Whether more arrived than may."""
    view, sent, begun = w.ground.views[where], 0, monotonic()
    before, elapsed = _received(w, where), 0.0
    while sent <= _MORE * allowed.within(elapsed + _LATE):
        if elapsed > _PATIENCE:
            raise TooBusy(f"nothing can be flooded at {view.host.name}")
        w.inject(origin, list(islice(frames, _AT_ONCE)))
        sent, elapsed = sent + _AT_ONCE, monotonic() - begun
        w.observers.discard()  # more than they have room for
    sleep(_REFILL)
    w.observers.discard()
    w.settle()
    return _received(w, where) - before > allowed.within(elapsed + _LATE)


def _received(w: World, where: Place) -> int:
    """Packets, whatever they are: a capture of so many would lose some."""
    view = w.ground.views[where]
    shown = view.host.run(["ip", "-json", "-statistics", "link", "show", "dev", view.ifname]).stdout
    (link,) = msgspec.json.decode(shown, type=list[dict[str, Any]])
    return int(link["stats64"]["rx"]["packets"])


def numbered(model: bytes, token: bytes, place: int, numbers: Iterable[int]) -> Iterator[bytes]:
    """The packet with each of the numbers at that place; two bytes behind the token make up for the difference in the
    checksum, because one made by scapy takes half a millisecond."""
    behind = model.index(token) + len(token)
    for number in numbers:
        one = bytearray(model)
        one[place : place + 2] = number.to_bytes(2, "big")
        one[behind : behind + 2] = (0xFFFF - number).to_bytes(2, "big")
        yield bytes(one)


def _segments(w: World, token: bytes, *, family: int, field: int, ports: tuple[int, int]) -> bool:
    """SYNs to a host that refuses each, so that none of the connections stays: to one port, or to many."""
    model = bytes(packet(w.attacker.ip(family), PUBLIC[family], "tcp", token + b"\xff\xff", sport=0, dport=0))
    sport, dport = ports
    at = 20 if family == 4 else 40
    fixed = bytearray(model)
    for offset, port in ((0, sport), (2, dport)):
        if offset != field:
            fixed[at + offset : at + offset + 2] = port.to_bytes(2, "big")
            checksum = int.from_bytes(fixed[at + 16 : at + 18], "big") - port
            fixed[at + 16 : at + 18] = (checksum % 0xFFFF).to_bytes(2, "big")
    numbers = chain.from_iterable(repeat(range(1024, 65000)))
    flood = (frame(w.attacker.mac, w.gateway.mac, one) for one in numbered(bytes(fixed), token, at + field, numbers))
    return _flooded(w, map(bytes, flood), "attacker", "internet", _new_flows(w))


def _datagrams(w: World, token: bytes, *, family: int, size: int) -> bool:
    """Of one flow."""
    body = token.ljust(size, b".")
    shots = by_gateway(lambda w, t: packet(w.attacker.ip(family), PUBLIC[family], "udp", body, dport=9100))
    return _repeated(w, token, shots, "internet", _bytes(w) if size > len(token) else _packets(w))


def _into(w: World, token: bytes, *, family: int, size: int) -> bool:
    """The same to a published port, of which the one behind it can choose who asks and how fast."""
    body = token.ljust(size, b".")
    source = OUTSIDE["internet"][family]
    shots = from_outside(
        "internet", lambda w, t: packet(source, w.uplink(family), "udp", body, sport=9101, dport=PUBLISHED)
    )
    return _repeated(w, token, shots, "victim", _bytes(w) if size > len(token) else _packets(w))


def _repeated(w: World, token: bytes, shots: Shots, where: Place, allowed: Allowed) -> bool:
    (shot,) = shots(w, token)
    return _flooded(w, (shot.frame for _ in count()), shot.origin, where, allowed)


def _probes() -> Iterator[Probe]:
    for family in FAMILIES:
        scan = partial(_segments, family=family, field=2, ports=(40109, 0))
        syns = partial(_segments, family=family, field=0, ports=(0, 9109))
        rows = (
            ("B09-syn-flood", "floods a host of the Internet with connections that come to nothing", syns),
            ("B09-scan", "asks one port of a host after the other", scan),
            ("B10-packets-out", "sends as many packets as it can", partial(_datagrams, family=family, size=0)),
            ("B10-bytes-out", "sends as many bytes as it can", partial(_datagrams, family=family, size=_FULL)),
            ("B10-packets-in", "has as many packets sent to it as it can", partial(_into, family=family, size=0)),
            ("B10-bytes-in", "has as many bytes sent to it as it can", partial(_into, family=family, size=_FULL)),
        )
        for name, what, play in rows:
            yield episode(f"{name}-v{family}", f"a container {what}, IPv{family}", layers("FWD"), play, family=family)


PROBES: tuple[Probe, ...] = tuple(_probes())
