"""How many flows an endpoint may have, and how many may begin in a second: of those that it opens, and again of those
to its published ports. And how many packets and bytes cross the node from it and to it. The same of all endpoints of a
tenant together, of both families.

Who has too many is told so: to wait would not help. Who opens them too fast is not: a TCP that hears nothing tries
again in a second and gets through, so that a burst is slowed down and nothing fails; and to answer a flood would cost
the node as much again.

An endpoint's own bound comes before its tenant's: what it has too many of takes no part in those of its neighbours.

Flows that have ended are no part of how many there may be: the kernel counts open ones. But every packet of one keeps
it for `TIME_WAIT` seconds more, whoever sends it. So their packets have a rate, and while a tenant's are beyond it no
TCP flow of its begins: what it keeps up is then all that it has.
"""

from collections.abc import Iterator
from typing import Literal

import msgspec

from cellwall.compile.predicates import (
    BeginsAgain,
    EndedFlow,
    Flow,
    FlowOverRate,
    LiveFlow,
    OverBytes,
    OverConnections,
    OverRate,
    Predicate,
    TenantFull,
    TenantOverBytes,
    TenantOverConnections,
    TenantOverRate,
    Translated,
    Transport,
    Via,
)
from cellwall.compile.wall import (
    Accept,
    Clause,
    Continue,
    Count,
    Drop,
    Layer,
    NoteBegunAgain,
    NoteFull,
    Outcome,
    Stage,
    Unstamp,
)
from cellwall.model.settings import Bound, Settings

End = Literal["source", "destination"]

_BURST_SECONDS = 2
"""What an endpoint that was quiet may open at once, as browsers and package managers do."""

_BURST_BYTES = 128 << 10
"""Beside a second's worth of bytes: a slow rate, too, must let a packet pass that the kernel merged of many, which may
have 64 KiB."""

UNNOTED = "begins again, and could not be noted"
"""What is counted of SYNs in flows that have ended where there are more than can be noted: an answer to one passes, and
what is open then no bound has counted."""

Way = Literal["sent", "got"]
_FWD: Layer = "FWD"
_WAYS: tuple[tuple[Way, tuple[Predicate, ...]], ...] = (
    ("sent", (Via("in", "bridge"),)),
    ("got", (Via("out", "bridge"), LiveFlow())),
)


class Bounds(msgspec.Struct, frozen=True):
    """`new_connections` and, in each direction, `packets` and `bytes`: a second. 0: as many as one likes. `watched`:
    bounds that are counted and not kept."""

    connections: int
    new_connections: int = 0
    packets: int = 0
    bytes: int = 0
    tenant_connections: int = 0
    tenant_new_connections: int = 0
    tenant_packets: int = 0
    tenant_bytes: int = 0
    watched: tuple[Bound, ...] = ()

    def too_many(self, *when: Predicate, then: Outcome, end: End = "source") -> tuple[Clause, ...]:
        """What becomes of a flow that is one too many."""
        return tuple(clause for bound in self._at_once(end) for clause in self._beyond(when, then, bound, said=True))

    def too_many_stamped(self, *when: Predicate) -> tuple[Clause, ...]:
        """The same of one that is stamped first, which goes on in a stage of `too_many_stages`."""
        bounds = self._at_once("source")
        return tuple(one for bound in bounds for one in self._beyond(when, Continue(bound.stage), bound, said=False))

    def too_many_stages(self) -> tuple[Stage, ...]:
        """Where a flow that was stamped ends as one too many."""
        kept = [bound for bound in self._at_once("source") if bound.name not in self.watched]
        unstamped = Clause((), Unstamp())
        return tuple(Stage(one.stage, (unstamped, Clause((), Continue("deny"), one.why, "FWD"))) for one in kept)

    def too_fast(self, *when: Predicate, end: End = "source") -> tuple[Clause, ...]:
        """What becomes of a flow that begins too soon; nothing where no bound is configured."""
        what: Literal["flows", "clients"] = "flows" if end == "source" else "clients"
        why = "too many new connections"
        clauses = []
        if rate := self.new_connections:
            over: Predicate = OverRate(what, rate, rate * _BURST_SECONDS)
            clauses.append(self._dropped("new_connections", (*when, over), why))
        if rate := self.tenant_new_connections:
            over = TenantOverRate(what, rate, rate * _BURST_SECONDS)
            clauses.append(self._dropped("tenant_new_connections", (*when, over), f"{why} of the tenant"))
        if self.tenant_connections:
            lingering = (*when, Transport(("tcp",)), TenantFull("ended" if end == "source" else "ended-clients"))
            clauses.append(self._dropped("tenant_connections", lingering, "too many ended connections of the tenant"))
        return tuple(clauses)

    def ended(self) -> tuple[Clause, ...]:
        """Where a packet of an ended flow is counted, before anything else may drop it: it has kept the flow. And where
        a SYN in it ends, whatever is configured: an endpoint's own bound would not count what begins there either."""
        known = (Flow(("established",)), EndedFlow())
        again = Clause((*known, BeginsAgain()), Continue("begun-again"))
        return (again, Clause(known, Continue("ended"))) if self.tenant_connections else (again,)

    def ended_stages(self) -> tuple[Stage, ...]:
        """What is noted of it; nothing is denied there but a SYN. A second may have as many as there may be open flows
        at once, and so may a moment: of ended ones, no more than six times as many are kept, and of reset ones three
        times. Of one flow a packet a second counts: more keep it no better, and whoever is at its other end may send
        as many as he likes."""
        why = "begins again within an ended connection"
        again = Stage("begun-again", (Clause((), NoteBegunAgain(UNNOTED)), Clause((), Drop(), why, "PRE")))
        if not (limit := self.tenant_connections):
            return (again,)
        often = Clause((FlowOverRate(1, 4),), Accept())
        opened, clients = TenantOverRate("ended", limit, limit), TenantOverRate("ended-clients", limit, limit)
        own = Clause((Translated(negate=True), opened), NoteFull("ended"))
        return again, Stage("ended", (often, own, Clause((Translated(), clients), NoteFull("ended-clients"))))

    def too_busy(self) -> Iterator[Clause]:
        """What becomes of a packet that an endpoint sends too soon, or gets too soon in a flow that was admitted; who
        begins one is counted by `arriving`."""
        for way, when in _WAYS:
            yield from self._too_busy(way, when)
        for way, when in _WAYS:
            yield from self._tenant_too_busy(way, when)

    def asking(self, *when: Predicate) -> Iterator[Clause]:
        """What becomes of a packet that an endpoint sends too soon to a service of the node, which is there for all: it
        counts like what crosses the node."""
        yield from self._too_busy("sent", when)
        yield from self._tenant_too_busy("sent", when)

    def arriving(self, *when: Predicate) -> tuple[Clause, ...]:
        """What becomes of a packet that an endpoint gets too soon from somebody who may send it some: what others send
        it arrives nowhere, and must not use up what these may."""
        return (*self._too_busy("got", when), *self._tenant_too_busy("got", when))

    def _too_busy(self, way: Way, when: tuple[Predicate, ...]) -> Iterator[Clause]:
        if rate := self.packets:
            yield self._dropped("packets", (*when, OverRate(way, rate, rate)), f"too many packets {way}")
        if rate := self.bytes:
            over = OverBytes(way, rate, _BURST_BYTES)
            yield self._dropped("bytes", (*when, over), f"too many bytes {way}")

    def _tenant_too_busy(self, way: Way, when: tuple[Predicate, ...]) -> Iterator[Clause]:
        if rate := self.tenant_packets:
            packets = TenantOverRate(way, rate, rate)
            yield self._dropped("tenant_packets", (*when, packets), f"too many packets {way} by the tenant")
        if rate := self.tenant_bytes:
            much = TenantOverBytes(way, rate, _BURST_BYTES)
            yield self._dropped("tenant_bytes", (*when, much), f"too many bytes {way} by the tenant")

    def _at_once(self, end: End) -> Iterator["_AtOnce"]:
        why = "too many connections"
        yield _AtOnce("connections", OverConnections(self.connections, end), "crowded", why)
        if limit := self.tenant_connections:
            over = TenantOverConnections(limit, end)
            yield _AtOnce("tenant_connections", over, "tenant-crowded", f"{why} of the tenant", full=end)

    def _beyond(
        self, when: tuple[Predicate, ...], then: Outcome, bound: "_AtOnce", *, said: bool
    ) -> tuple[Clause, ...]:
        why, layer = (bound.why, _FWD) if said else ("", None)
        if bound.name in self.watched:
            return (Clause((*when, bound.over), Count(), f"{bound.why}, which is only watched", "FWD"),)
        if bound.full is None:
            return (Clause((*when, bound.over), then, why, layer),)
        counted = Clause((*when, TenantFull(bound.full, negate=True), bound.over), NoteFull(bound.full))
        return counted, Clause((*when, TenantFull(bound.full)), then, why, layer)

    def _dropped(self, name: Bound, over: tuple[Predicate, ...], why: str) -> Clause:
        if name in self.watched:
            return Clause(over, Count(), f"{why}, which is only watched", "FWD")
        return Clause(over, Drop(), why, "FWD")


class _AtOnce(msgspec.Struct, frozen=True):
    """A bound of flows at once. `full`: of those at which end, where that they are too many is noted."""

    name: Bound
    over: Predicate
    stage: str
    why: str
    full: End | None = None


def bounds_of(settings: Settings) -> Bounds:
    """Those that are configured."""
    return Bounds(**{name: getattr(settings, name) for name in Bounds.__struct_fields__})
