"""B06: connections that have ended, which nf_conncount passes over, and which every packet keeps for some seconds more;
and those that begin again within them.

Opened, ended and kept up, round after round, until the attacker has tried for more than it may keep. Who answers on the
Internet is on its side: without an answer a connection would count for as long as it is known.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import product
from time import monotonic
from typing import Literal, get_args

import msgspec

from cellwall.attack.frames import frame, packet
from cellwall.attack.probe import Probe, layers
from cellwall.attack.rows.exhaustion import forget
from cellwall.attack.rows.floods import numbered
from cellwall.attack.rows.routed import FAR, from_outside
from cellwall.attack.rows.shapes import FAMILIES, episode
from cellwall.attack.stage import SETTINGS
from cellwall.attack.world import World
from cellwall.errors import TooBusy

Way = Literal["reset", "finished"]

_PORT = 9074
_FIRST = 20000
ROUND = 240
"""Connections that are open at once, which is less than an endpoint may have."""
_KEPT = 1.0  # seconds after which they are forgotten at the soonest, less than a reset connection's two
_PATIENCE = 20.0
_LATE = 0.5  # as with floods
_MORE = 1.2


class Kept:
    """Connections of the attacker's with a host of the Internet that plays along; segments of which nobody knows but
    connection tracking. All carry as many bytes, so their numbers are the same in all."""

    def __init__(self, w: World, token: bytes, family: int) -> None:
        self._w, self._token, self.family = w, token, family
        self._size = len(token) + 2  # of what a segment carries
        self._outside: dict[int, int] = {}  # the attacker's port → what it was translated to
        self.opened = 0

    def open(self, count: int) -> list[int]:
        """So many more, as far as the wall lets them; which there are."""
        numbers = range(_FIRST + self.opened, _FIRST + self.opened + count)
        self.opened += count
        self._w.observers.discard()
        self._w.inject("attacker", list(self._out("S", 0, 0, numbers)))
        found = dict(self._arrived(self._w.settle().seen["internet"]))  # what was lost on the way is not open
        self._outside |= found
        self._w.inject("internet", list(self._into("SA", 0, 1, found)))
        return list(found)

    def end(self, way: Way, numbers: Sequence[int]) -> None:
        """These: by a reset of the attacker's, or by a FIN of each."""
        if way == "finished":
            self._w.inject("internet", list(self._into("FA", 1, 1, numbers)))
        self._w.settle()
        self._w.inject("attacker", list(self._out("RA" if way == "reset" else "FA", 1, 1, numbers)))
        if way == "finished":
            self._w.settle()
            self._w.inject("internet", list(self._into("A", 2, 2, numbers)))

    def keep(self, way: Way) -> None:
        """One packet in each of them, of the attacker's or, to it, of who plays along."""
        if way == "reset":
            self._w.inject("attacker", list(self._out("A", 1, 1, self._outside)))
        else:
            self._w.inject("internet", list(self._into("A", 2, 2, self._outside)))

    def refuse(self, numbers: Sequence[int]) -> None:
        """Who plays along resets these."""
        self._w.inject("internet", list(self._into("RA", 1, 1, numbers)))
        self._w.settle()

    def begin_again(self, numbers: Sequence[int]) -> None:
        """These, from the same ports: the answer and what comes behind it are sent whether or not the SYN arrived."""
        self._w.inject("attacker", list(self._out("S", 0, 0, numbers)))
        self._w.settle()
        self._w.inject("internet", list(self._into("SA", 0, 1, numbers)))
        self._w.settle()
        self._w.inject("attacker", list(self._out("A", 1, 1, numbers)))
        self._w.settle()

    def remembered(self, state: str = "") -> int:
        """How many the node knows, or knows to be in that state."""
        query = ["-f", f"ipv{self.family}", "-p", "tcp", "--orig-src", self._w.attacker.ip(self.family)]
        known = self._w.node.run(["conntrack", "-L", *query]).text.splitlines()
        return sum(state in line for line in known)

    def _arrived(self, seen: Iterable[bytes]) -> Iterator[tuple[int, int]]:
        at = 14 + (20 if self.family == 4 else 40)
        for one in seen:
            if self._token in one:
                behind = one.index(self._token) + len(self._token)
                number = 0xFFFF - int.from_bytes(one[behind : behind + 2], "big")
                yield number, int.from_bytes(one[at : at + 2], "big")

    def _out(self, flags: str, sent: int, got: int, numbers: Iterable[int]) -> Iterator[bytes]:
        """Segments of the attacker's that come after `sent` of its own and `got` of the others'."""
        model = self._segment(self._w.attacker.ip(self.family), FAR[self.family], flags, sent, got)
        at = 20 if self.family == 4 else 40
        for one in numbered(model, self._token, at, numbers):
            yield frame(self._w.attacker.mac, self._w.gateway.mac, one)

    def _into(self, flags: str, sent: int, got: int, numbers: Iterable[int]) -> Iterator[bytes]:
        model = self._segment(FAR[self.family], self._w.uplink(self.family), flags, sent, got)
        at = 22 if self.family == 4 else 42
        outside = [self._outside[number] for number in numbers]
        bodies = list(numbered(model, self._token, at, outside))
        return (shot.frame for shot in from_outside("internet", lambda w, t: bodies)(self._w, self._token))

    def _segment(self, source: str, target: str, flags: str, sent: int, got: int) -> bytes:
        one = packet(source, target, "tcp", self._token + b"\xff\xff", sport=0, dport=0)
        segment = one["TCP"]
        inward = source == FAR[self.family]
        segment.sport, segment.dport = (_PORT, 0) if inward else (0, _PORT)
        ours, theirs = (5000, 1000) if inward else (1000, 5000)
        segment.flags = flags
        segment.seq = ours + self._after(sent)
        segment.ack = theirs + self._after(got) if "A" in flags else 0
        return bytes(one)

    def _after(self, segments: int) -> int:
        """Behind so many segments, of which the first has a SYN and the second a FIN, or none behind it."""
        return segments * (self._size + 1)


_HUSHED = f"""
table inet hushed {{
	chain hushed {{ type filter hook prerouting priority -300; tcp sport {_PORT} drop; }}
}}
"""


@contextmanager
def _hushed(w: World) -> Iterator[None]:
    """The attacker's own kernel does not reset what it knows nothing of."""
    w.attacker.host.run(["nft", "-f", "-"], input=_HUSHED.encode())
    try:
        yield
    finally:
        w.attacker.host.run(["nft", "delete", "table", "inet", "hushed"])


class Held(msgspec.Struct, frozen=True):
    """What an attacker kept up of what it opened, and for how many seconds it opened."""

    opened: int
    kept: int
    seconds: float


def hold(w: World, token: bytes, family: int, way: Way, count: int, *, beyond: float = 0, growing: float = 0) -> Held:
    """Open, end and keep up `count` connections, or more than `beyond` and so many a second allow."""
    kept, begun, elapsed, last = Kept(w, token, family), monotonic(), 0.0, 0.0
    with _hushed(w):
        w.settle()  # the sentinel's own flow exists before there are too many
        while kept.opened < max(count, _MORE * (beyond + growing * (elapsed + _LATE))):
            if elapsed > _PATIENCE:
                raise TooBusy("connections end faster than they are opened")
            kept.end(way, kept.open(ROUND))
            if elapsed - last > _KEPT:
                kept.keep(way)
                last = elapsed
            w.observers.discard()
            elapsed = monotonic() - begun
        kept.keep(way)
        w.settle()
        return Held(kept.opened, kept.remembered(), elapsed)  # while they are counted none is added


def reopen(w: World, token: bytes, family: int, count: int, *, rounds: int = 3) -> int:
    """Have so many connections reset, and begin them again when the next have been opened, by whose SYNs the kernel
    takes those that have ended off its count; how many are open in the end."""
    kept, last = Kept(w, token, family), list[int]()
    with _hushed(w):
        w.settle()
        for _ in range(rounds):
            opened = kept.open(count)
            w.settle()
            kept.begin_again(last)
            kept.refuse(opened)
            w.observers.discard()
            last = opened
        return kept.remembered("ESTABLISHED")


def _begins_again(w: World, token: bytes, *, family: int) -> bool:
    """Whether more are open than an endpoint may have."""
    limit = (w.wall.settings if w.wall else SETTINGS).connections
    try:
        return reopen(w, token, family, ROUND, rounds=2 + limit // ROUND) > limit
    finally:
        forget(w)


def _lingers(w: World, token: bytes, *, family: int, way: Way) -> bool:
    """Whether more are kept than the bound of a tenant at once, as many a second, and those that are open meanwhile."""
    settings = w.wall.settings if w.wall else SETTINGS
    beyond, growing = settings.tenant_connections + ROUND, settings.tenant_connections
    try:
        held = hold(w, token, family, way, 0, beyond=beyond, growing=growing)
    finally:
        forget(w)
    return held.kept > beyond + growing * (held.seconds + _LATE)


def _probes() -> Iterator[Probe]:
    how = {"reset": "that it resets and goes on sending in", "finished": "that both ends finished, and the other keeps"}
    for way, family in product(get_args(Way), FAMILIES):
        yield episode(
            f"B06-ended-{way}-v{family}",
            f"a tenant piles up connections {how[way]}, IPv{family}",
            layers("FWD"),
            partial(_lingers, family=family, way=way),
            family=family,
        )
    for family in FAMILIES:
        yield episode(
            f"B06-begun-again-v{family}",
            f"a container begins connections again that its peer has reset, IPv{family}",
            layers("RAW"),
            partial(_begins_again, family=family),
            family=family,
        )


PROBES: tuple[Probe, ...] = tuple(_probes())
