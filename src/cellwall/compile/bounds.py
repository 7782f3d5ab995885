"""How many flows an endpoint may have, and how many may begin in a second: of those that it opens, and again of those
to its published ports. And how many packets cross the node from it and to it.

Who has too many is told so: to wait would not help. Who opens them too fast is not: a TCP that hears nothing tries
again in a second and gets through, so that a burst is slowed down and nothing fails; and to answer a flood would cost
the node as much again.
"""

from collections.abc import Iterator
from typing import Literal, cast

import msgspec

from cellwall.compile.wall import Clause, Count, Drop, Outcome, OverConnections, OverRate, Predicate
from cellwall.model.settings import Bound, Settings

End = Literal["source", "destination"]

_BURST_SECONDS = 2
"""What an endpoint that was quiet may open at once, as browsers and package managers do."""


class Bounds(msgspec.Struct, frozen=True):
    """`new_connections` and, in each direction, `packets`: a second, 0: as many as one likes. `watched`: bounds that
    are counted and not kept."""

    connections: int
    new_connections: int = 0
    packets: int = 0
    watched: tuple[Bound, ...] = ()

    @property
    def watches_many(self) -> bool:
        """Whether flows that are too many pass."""
        return "connections" in self.watched

    def too_many(self, *when: Predicate, then: Outcome, why: str = "", end: End = "source") -> Clause:
        """What becomes of a flow that is one too many."""
        over = (*when, OverConnections(self.connections, end))
        if self.watches_many:
            return Clause(over, Count(), "too many connections, which is only watched", "FWD")
        return Clause(over, then, why, "FWD" if why else None)

    def too_fast(self, *when: Predicate, end: End = "source") -> tuple[Clause, ...]:
        """What becomes of a flow that begins too soon; nothing where no bound is configured."""
        rate, why = self.new_connections, "too many new connections"
        if not rate:
            return ()
        over = (*when, OverRate("flows" if end == "source" else "clients", rate, rate * _BURST_SECONDS))
        return (self._dropped("new_connections", over, why),)

    def too_busy(self, from_it: Predicate, to_it: Predicate) -> Iterator[Clause]:
        """What becomes of a packet of a flow in whatever state that an endpoint sends or gets too soon."""
        if self.packets:
            for when, what in ((from_it, "sent"), (to_it, "got")):
                over = (when, OverRate(cast(Literal["sent", "got"], what), self.packets, self.packets))
                yield self._dropped("packets", over, f"too many packets {what}")

    def _dropped(self, name: Bound, over: tuple[Predicate, ...], why: str) -> Clause:
        if name in self.watched:
            return Clause(over, Count(), f"{why}, which is only watched", "FWD")
        return Clause(over, Drop(), why, "FWD")


def bounds_of(settings: Settings) -> Bounds:
    """Those that are configured."""
    return Bounds(settings.connections, settings.new_connections, settings.packets, settings.watched)
