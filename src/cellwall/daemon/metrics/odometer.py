"""Totals that never go back, out of meters that come, go and begin anew. Pure.

A meter is a link or a rule: it counts up, and is gone one day with all that it counted. What it has counted more since
it was last read belongs to whoever is its owner now, so a total is a sum of such differences, and no meter's end takes
anything away. Who sees a meter end tells (`part`); what it counted since the last reading is otherwise lost.

A meter that is not listed is not gone: while an endpoint is being closed it is on record as something else, and its
meter shows up again for the last time.

What a meter has counted before it had an owner is nobody's: who reads it meanwhile says so (`disregard`), and its first
owner's figures begin there. What it counted between that and its owner's time is his.

One thread reads and another tells of ends, so a reading that began before a meter's end is older than that: of a meter
that has ended nothing is counted any more.
"""

from collections.abc import Callable, Container, Mapping
from threading import Lock
from typing import Any

import msgspec

Figures = tuple[int, ...]

_REMEMBERED = 3 * 4096
"""Meters that ended lately, or are not listed: more than there are between the telling of an end and that of the
record, of 4,096 endpoints with three each."""


class Reading(msgspec.Struct, frozen=True, gc=False):
    """What a meter shows, and whose it is."""

    owner: str
    figures: Figures


class Memory(msgspec.Struct, frozen=True):
    """What an odometer knows, for the next one: what each meter showed last, and the totals by label."""

    shown: dict[str, Figures] = {}
    totals: dict[str, Figures] = {}


class Odometer:
    """Totals by label. `label` says under which one an owner's figures are added, by now; `memory` is that of an
    odometer before this one, whose totals go on."""

    def __init__(self, label: Callable[[str], str] = str, memory: Memory | None = None) -> None:
        self._label = label
        self._lock = Lock()
        self._shown: dict[str, Figures] = dict(memory.shown) if memory else {}
        self._totals: dict[str, Figures] = dict(memory.totals) if memory else {}
        self._away: dict[str, Figures] = {}
        self._idle: Mapping[str, Figures] = {}
        self._round = 0
        self._latest = 0
        self._parted: dict[str, int] = {}

    def begin(self) -> int:
        """A number for the reading that begins now."""
        with self._lock:
            self._round += 1
            return self._round

    def read(self, number: int, meters: Mapping[str, Reading]) -> None:
        """All meters that there are, as they were read since `begin` gave that number. Of two readings at once the one
        that began later is what counts."""
        with self._lock:
            if number < self._latest:
                return
            self._latest = number
            for name, reading in meters.items():
                if self._shown.get(name) != reading.figures and name not in self._parted:
                    self._count(name, reading)
            for name in [name for name in self._shown if name not in meters]:
                self._away[name] = self._shown.pop(name)
            _shorten(self._away)
            for name in [name for name, parted in self._parted.items() if parted < number and name not in meters]:
                del self._parted[name]

    def disregard(self, meters: Mapping[str, Figures], there: Container[str]) -> None:
        """All meters that have no owner yet, with what they show, of those that are `there`. One that got its owner
        amid a reading is in neither: what it showed before that is to be taken off at the next one."""
        with self._lock:
            kept = {name: figures for name, figures in self._idle.items() if name in there and name not in self._shown}
            self._idle = kept | dict(meters)

    def part(self, meters: Mapping[str, Reading]) -> None:
        """These show what they show for the last time."""
        with self._lock:
            for name, reading in meters.items():
                if name not in self._parted:
                    self._count(name, reading)
                self._shown.pop(name, None)
                self._parted[name] = self._round
            _shorten(self._parted)

    def restart(self) -> None:
        """All meters have begun anew, whatever their names: what was read before that is of others."""
        with self._lock:
            self._shown.clear()
            self._away.clear()
            self._idle = {}
            self._round += 1
            self._latest = self._round

    def drop(self, label: str) -> None:
        """Forget the total of a label. It begins with nothing where it is asked for again."""
        with self._lock:
            self._totals.pop(label, None)

    def memory(self) -> Memory:
        """The totals, and what the next odometer goes on with."""
        with self._lock:
            return Memory(self._away | self._shown, dict(self._totals))

    def _count(self, name: str, reading: Reading) -> None:
        before = self._shown.get(name)
        if before == reading.figures:
            return
        if before is None:
            before = self._away.pop(name, None) or self._idle.get(name)
        if before is None or any(now < then for now, then in zip(reading.figures, before, strict=True)):
            before = (0,) * len(reading.figures)  # new, or another one of that name
        label = self._label(reading.owner)
        total = self._totals.get(label) or (0,) * len(reading.figures)
        parts = zip(total, reading.figures, before, strict=True)
        self._totals[label] = tuple(sum_ + now - then for sum_, now, then in parts)
        self._shown[name] = reading.figures


def _shorten(remembered: dict[str, Any]) -> None:
    while len(remembered) > _REMEMBERED:
        del remembered[next(iter(remembered))]
