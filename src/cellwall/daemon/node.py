"""A node as the daemon's calls see it: one wall that writes, one that reads beside it, and who may ask for what.

What a caller may do is asked where it is done, on the writer's thread: the tenant of an endpoint cannot become another
one between the question and the deed. What belongs to somebody else is not there.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypedDict, TypeVar

import msgspec

from cellwall.adapters.events.reading import latest
from cellwall.api import Wall
from cellwall.audit.events import Began, Event, Log
from cellwall.audit.selection import Selection
from cellwall.daemon.asker import Asker
from cellwall.daemon.audit.thread import Auditor
from cellwall.daemon.bounds import Bounds
from cellwall.daemon.pool import Pool
from cellwall.daemon.quotas import admit, permit_port, permit_reservation, refuse_policies
from cellwall.daemon.turns.chores import Chore
from cellwall.daemon.turns.gathered import Attach, Attached, Detach, attach_gathered, detach_gathered
from cellwall.daemon.turns.lines import ROOT, Whose
from cellwall.daemon.turns.reader import Reader
from cellwall.daemon.turns.single import Single
from cellwall.daemon.turns.writer import Kind, Writer
from cellwall.engine.arguments import Subject
from cellwall.engine.requests import AttachRequest, Reconciled, Status, UpReport, validate_request
from cellwall.errors import CellwallError, InvalidSpec, NotFound
from cellwall.model.addresses import Address
from cellwall.model.endpoint import Endpoint, EndpointKey, PortBinding
from cellwall.model.figures import EndpointTraffic, TrafficReport
from cellwall.model.policy import PolicyRecord
from cellwall.model.pool import PoolSize, was_pooled
from cellwall.model.reserved import Reservation
from cellwall.wire.bodies import Places
from cellwall.wire.policies import PolicyBody, pointed, written

R = TypeVar("R")

_LOG_OCTETS = 8 << 20
"""Of the event files, about, that one question may have read: from the latest on."""

CniReply = tuple[int, bytes, bool]
"""The status and the body of a CNI call, and whether it waits until the links that were left behind are gone, which are
deleted together."""

_NO_POOL = PoolSize()


class Node:
    """`writing` is the wall of who holds the writer lock for its life; `reading` one beside it that only lists. Both
    are the caller's to close, after `end`. `coming`, `told`: as of the writer."""

    def __init__(
        self,
        writing: Wall,
        reading: Wall,
        bounds: Bounds,
        *,
        coming: Callable[[], None] = lambda: None,
        told: Callable[[Sequence[float], float], None] = lambda waits, took: None,
        size: PoolSize = _NO_POOL,
    ) -> None:
        self._wall = writing
        self._beside = reading
        self.pool = Pool(writing, size)
        self.writer = Writer(
            limit=bounds.writes,
            together=bounds.together,
            afterwards=writing.clear_up,
            chores=[Chore(self.pool.act, self.pool.pause)],
            coming=coming,
            told=told,
        )
        self.aside = Reader("cellwall-aside", limit=bounds.connections)
        """What no wall has a part in, and would keep the event loop from others for too long."""
        self._reader = Reader("cellwall-reader", limit=bounds.reads)
        self._inspector = Reader("cellwall-inspector", limit=bounds.reads)
        self._historian = Reader("cellwall-historian", limit=bounds.reads)
        attach_many = partial(attach_gathered, writing, writing.attach_many)
        self._attaching: Kind[Attach, Attached] = Kind(attach_many, lambda item: item.request.key)
        self._claiming: Kind[Attach, Attached] = Kind(self._claim_gathered, lambda item: item.request.key)
        self._detaching: Kind[Detach, bool] = Kind(partial(detach_gathered, writing), lambda item: item.key)
        self._clearing: Kind[object, None] = Kind(self._clear_waiting, id)
        self._one_look = Single()
        self._fresh = bounds.scrape_seconds
        self._traffic: TrafficReport | None = None
        self._status: asyncio.Task[Status] | None = None
        self.unread = ""
        """Why what is configured for the daemon is not in force, if it is not; for who reads it to set."""
        self.auditor: Auditor | None = None
        """What records what sandboxes try, if anything does; for who makes it to set."""

    def start(self) -> None:
        """Begin to work, in the network namespace of the node."""
        self.writer.start()

    def refuse(self) -> None:
        """Begin nothing more: what waits is answered with Unavailable."""
        self.writer.refuse()

    def end(self) -> None:
        """`refuse`, and wait for what has begun. Idempotent."""
        self.writer.end()
        self.aside.end()
        self._reader.end()
        self._inspector.end()
        self._historian.end()

    # ------------------------------------------------------------------ the node's own

    async def up(self) -> UpReport:
        return await self.writer.do(self._wall.up)

    async def down(self, *, force: bool) -> None:
        await self.writer.do(lambda: self._wall.down(force=force))

    async def reconcile(self) -> Reconciled:
        return await self.writer.do(self._wall.reconcile)

    async def dns(self, asker: Asker) -> tuple[Address, ...]:
        return await self._reader.do(self._beside.dns, whose=asker.whose)

    async def status(self) -> Status:
        """Live compared with desired. All who wait for it at once are told the same."""
        if self._status is None:
            self._status = asyncio.create_task(self._look(self._began_status))
            self._status.add_done_callback(_told_nobody)
        task = self._status
        try:
            return await asyncio.shield(task)
        finally:
            if task.done() and self._status is task:
                self._status = None

    def _began_status(self) -> Status:
        self._status = None  # who asks from now on is told what is so from now on
        status = self._wall.status()
        notes = self.auditor.notes(status.mechanism) if self.auditor is not None else ()
        unread = (self.unread,) if self.unread else ()
        return msgspec.structs.replace(status, notes=(*status.notes, *notes, *unread))

    async def cni(self, answer: Callable[[], CniReply]) -> tuple[int, bytes]:
        status, body, waits = await self.writer.do(answer)
        if waits:
            await self.writer.add(self._clearing, object())
        return status, body

    def _clear_waiting(self, waiting: Sequence[object]) -> Sequence[None]:
        self._wall.clear_up()
        return [None] * len(waiting)

    # ------------------------------------------------------------------ endpoints

    async def endpoints(self, asker: Asker, render: Callable[[Sequence[Endpoint]], R]) -> R:
        """All that are there for who asks, as `render` has them, on the reader's thread: a thousand take a while."""
        return await self._reader.do(
            lambda: render([one for one in self._beside.endpoints() if asker.sees("list", one)]),
            whose=asker.whose,
        )

    async def endpoint(self, asker: Asker, key: EndpointKey) -> Endpoint:
        return await self._reader.do(lambda: asker.find(self._beside, "list", key), whose=asker.whose)

    async def traffic(self, asker: Asker, render: Callable[[float, Sequence[EndpointTraffic]], R]) -> R:
        """The figures of those that are there for who asks. Whoever asks soon after another is told the same: to count
        flows takes a while."""

        def look() -> R:
            report = self._traffic
            if report is None or time.clock_gettime(time.CLOCK_BOOTTIME) - report.at >= self._fresh:
                report = self._traffic = self._beside.traffic()
            allows = asker.authority.allows
            seen = [one for one in report.endpoints if asker.peer.root or allows(asker.peer, "list", one.tenant)]
            return render(report.at, seen)

        return await self._reader.do(look, whose=asker.whose)

    async def findings(self, asker: Asker, key: EndpointKey) -> tuple[str, ...]:
        """What is wrong with one. The writer has no part in the look inside: whoever is root in there has a say in how
        long that takes. How the node is, is root's to know."""

        def look() -> tuple[Endpoint, tuple[str, ...]]:
            asker.find(self._wall, "check", key)
            return self._wall.verify_outside(key.container_id, ifname=key.ifname, alone=not asker.peer.root)

        endpoint, outside = await self._look(look, whose=asker.whose)
        inside = self._inspector.do(lambda: self._beside.verify_inside(endpoint), whose=asker.whose)
        return (*outside, *await inside)

    async def attach(self, asker: Asker, places: Places) -> Attached:
        """Those that wait in a row are attached in one transaction; where that is refused each is attached by itself,
        and has its own answer."""
        (request,) = asker.authority.admit(asker.peer, places.requests)
        return await self.writer.add(self._attaching, Attach(request, places, asker), whose=asker.whose)

    async def claim(self, asker: Asker, places: Places, *, alone: bool = False) -> Attached:
        """`attach`, to a sandbox that stands ready where there is one. `alone`: nobody else has asked for anything, so
        that nobody waits for what is done at once."""
        if alone and (endpoint := self.claim_at_once(asker, places)) is not None:
            return Attached(endpoint, before=False)
        (request,) = asker.authority.admit(asker.peer, places.requests)
        return await self.writer.add(self._claiming, Attach(request, places, asker), whose=asker.whose)

    def claim_at_once(self, asker: Asker, places: Places) -> Endpoint | None:
        """What `claim` gives for one that comes alone, by the thread of the event loop; None, and what was begun is
        undone, where it is the writer's to carry out."""
        (request,) = asker.authority.admit(asker.peer, places.requests)
        return self.writer.at_once(lambda: self._claimed_at_once(request))

    def resize_pool(self, size: PoolSize) -> None:
        """Have so many stand ready from now on."""
        self.pool.size = size
        self.writer.do(self.pool.look)

    def _claimed_at_once(self, request: AttachRequest) -> Endpoint | None:
        try:
            endpoint = self._wall.claim_at_once(request)
        except (CellwallError, OSError):  # it was taken back, and is asked for again in its turn, which tells of it
            return None
        if endpoint is not None:
            self.pool.claimed([True])
        return endpoint

    def _claim_gathered(self, items: Sequence[Attach]) -> list[Attached | Exception]:
        outcomes = attach_gathered(self._wall, self._wall.claim_many, items)
        made = [one.endpoint for one in outcomes if isinstance(one, Attached) and not one.before]
        self.pool.claimed([was_pooled(endpoint) for endpoint in made])
        return outcomes

    async def attach_many(self, asker: Asker, places: Places) -> tuple[Endpoint, ...]:
        """All or none. A refusal has the pointer of its entry."""
        asker.authority.admit(asker.peer, places.requests)

        def act() -> tuple[Endpoint, ...]:
            admitted = admit(asker, self._wall, places.requests)
            for number, request in enumerate(admitted):
                try:
                    validate_request(request, self._wall.settings)
                except InvalidSpec as error:  # whatever the others say, it is this very entry
                    raise places.of(error, number) from error
            try:
                return self._wall.attach_many(admitted)
            except InvalidSpec as error:
                raise places.of(error) from error

        return await self.writer.do(act, whose=asker.whose)

    async def detach(self, asker: Asker, key: EndpointKey) -> bool:
        """Those that wait in a row are closed in one transaction."""
        return await self.writer.add(self._detaching, Detach(key, asker), whose=asker.whose)

    async def detach_many(self, asker: Asker, keys: Sequence[EndpointKey]) -> int:
        def act() -> int:
            return self._wall.detach_many([key for key in keys if asker.may_close(self._wall, key)])

        return await self.writer.do(act, whose=asker.whose)

    async def expose(self, asker: Asker, key: EndpointKey, binding: PortBinding) -> Endpoint:
        def act() -> Endpoint:
            endpoint = asker.find(self._wall, "expose", key)
            permit_port(asker, self._wall, key, endpoint.tenant, binding)
            return self._wall.expose(key.container_id, binding, ifname=key.ifname, user=asker.user)

        return await self.writer.do(act, whose=asker.whose)

    async def unexpose(self, asker: Asker, key: EndpointKey, binding: PortBinding) -> Endpoint:
        def act() -> Endpoint:
            asker.find(self._wall, "expose", key)
            return self._wall.unexpose(key.container_id, binding, ifname=key.ifname)

        return await self.writer.do(act, whose=asker.whose)

    # ------------------------------------------------------------------ reserved ports

    async def reservations(self, asker: Asker) -> list[Reservation]:
        """What is kept for containers of tenants that who asks may be told of."""
        known = await self._reader.do(self._beside.reservations, whose=asker.whose)
        return [one for one in known if asker.sees_tenant("list", one.tenant)]

    async def reserve_ports(
        self, asker: Asker, container: str, count: int, tenant: str | None, seconds: float
    ) -> Reservation:
        """Who is not root names a tenant, as for an attach."""

        def act() -> Reservation:
            permit_reservation(asker, self._wall, container, tenant, count)
            return self._wall.reserve_ports(container, count, tenant=tenant, seconds=seconds, user=asker.user)

        return await self.writer.do(act, whose=asker.whose)

    async def release_ports(self, asker: Asker, container: str) -> int:
        def act() -> int:
            own = [one.tenant for one in self._wall.reservations() if one.container == container]
            seen = [tenant for tenant in own if asker.sees_tenant("expose", tenant)]
            return sum(self._wall.release_ports(container, tenant=tenant) for tenant in seen)

        return await self.writer.do(act, whose=asker.whose)

    # ------------------------------------------------------------------ policies

    async def policies(self, asker: Asker, render: Callable[[Mapping[str, PolicyRecord]], R]) -> R:
        """Those of tenants, of which who asks may be told, as `render` has them, on the reader's thread."""

        def look() -> R:
            known, allows = self._beside.policies(), asker.authority.allows
            return render({tenant: one for tenant, one in known.items() if allows(asker.peer, "policy", tenant)})

        return await self._reader.do(look, whose=asker.whose)

    async def policy(self, asker: Asker, subject: Subject) -> PolicyRecord:
        """A tenant's, or an endpoint's own; NotFound."""

        def read() -> PolicyRecord:
            if isinstance(subject, EndpointKey):  # in one look: by a second one it may be another tenant's
                return asker.find(self._beside, "policy", subject).own_policy
            asker.authority.permit(asker.peer, "policy", subject)
            record = self._beside.policy(tenant=subject)
            if record is None:
                raise NotFound(f"tenant: {subject}: has no policy")
            return record

        return await self._reader.do(read, whose=asker.whose)

    async def set_policy(self, asker: Asker, subject: Subject, body: PolicyBody, *, patch: bool) -> PolicyRecord:
        """Replaced whole, or changed by a merge patch. A refusal points into the body."""

        def act() -> PolicyRecord:
            self._may_rule(asker, subject)
            member = not asker.peer.root
            if member and not isinstance(subject, EndpointKey):
                refuse_policies(asker, subject, self._wall.policy_sizes())
            change = self._wall.patch_policy if patch else self._wall.set_policy
            try:
                return change(written(body), member=member, **_named(subject))
            except InvalidSpec as error:
                raise pointed(error) from error

        return await self.writer.do(act, whose=asker.whose)

    async def remove_policy(self, asker: Asker, subject: Subject) -> bool:
        def act() -> bool:
            self._may_rule(asker, subject)
            return self._wall.remove_policy(**_named(subject))

        return await self.writer.do(act, whose=asker.whose)

    def _may_rule(self, asker: Asker, subject: Subject) -> None:
        if isinstance(subject, EndpointKey):
            asker.find(self._wall, "policy", subject)
        else:
            asker.authority.permit(asker.peer, "policy", subject)

    # ------------------------------------------------------------------ what was tried

    async def log(self, asker: Asker, selection: Selection, limit: int, render: Callable[[Log], R]) -> R:
        """The latest events that are asked for and that who asks may be told of, as `render` has them. Of what is
        nobody's they are told that recording began, and no more."""
        if selection.tenant:
            asker.authority.permit(asker.peer, "log", selection.tenant)

        def may_be_told(event: Event) -> bool:
            return isinstance(event, Began) or asker.authority.allows(asker.peer, "log", event.tenant)

        def read() -> R:
            place = self._beside.paths.in_log()
            return render(latest(place, selection, limit=limit, permit=may_be_told, octets=_LOG_OCTETS))

        return await self._historian.do(read, whose=asker.whose)

    async def _look(self, act: Callable[[], R], *, whose: Whose = ROOT) -> R:
        """What compares the kernel with the record, in turn with the writes and one at a time: however many ask, a
        write waits for one, and who asks for one of each other group's."""
        async with self._one_look.turn(whose):
            return await self.writer.do(act, whose=whose, looks=True)


def _told_nobody(task: "asyncio.Task[Status]") -> None:
    """Whoever waited may have gone: an error that is nobody's then is none that asyncio would have to log."""
    if not task.cancelled():
        task.exception()


class _Named(TypedDict, total=False):
    tenant: str
    container: str
    ifname: str


def _named(subject: Subject) -> _Named:
    if isinstance(subject, EndpointKey):
        return {"container": subject.container_id, "ifname": subject.ifname}
    return {"tenant": subject}
