"""How much the daemon holds of what a group says, and of what it is told: long bodies and answers, in octets.

A connection has a bound for each, but connections are many: those of one group could have the daemon hold a gibibyte,
on a node on which others are killed first where memory is short.
"""

from collections import Counter
from collections.abc import Callable

from cellwall.daemon.turns.lines import ROOT, Whose
from cellwall.errors import Unavailable

FEW = 16384
"""Octets that are not counted: as many connections as there may be have little in this size."""


class Room:
    """`most`: octets for each group, of whoever is granted nothing together. Root has no bound."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: Counter[int | None] = Counter()

    def take(self, whose: Whose, octets: int, *, refuse: bool = True) -> Callable[[], None]:
        """Count so many octets more for the caller's group, until what this gives is called, once. Unavailable where
        the group would have more than `most`, unless it has nothing yet: one body or answer by itself is never too
        much. Without `refuse` they are counted all the same, and what comes after them is refused."""
        if whose == ROOT or octets <= FEW:
            return _nothing
        group = whose.group
        if refuse and self._held[group] and self._held[group] + octets > self._most:
            raise Unavailable(f"{self._held[group]} bytes are held for callers of this group; ask again")
        self._held[group] += octets

        def leave() -> None:
            self._held[group] -= octets

        return leave


def _nothing() -> None:
    pass
