"""A node as the daemon's calls see it: one wall that writes, one that reads beside it, their threads, and the calls by
what they are about.

Owns: the threads, and what is asked of the node as a whole. What is asked of its parts, and may be asked by others than
root, is `cellwall.daemon.verbs`'.
"""

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from cellwall.api import Wall
from cellwall.daemon.asker import Asker
from cellwall.daemon.audit.thread import Auditor
from cellwall.daemon.bounds import Bounds
from cellwall.daemon.pool import Pool
from cellwall.daemon.proxy.proxies import Proxies
from cellwall.daemon.turns.chores import Chore
from cellwall.daemon.turns.reader import Reader
from cellwall.daemon.turns.writer import Kind, Writer
from cellwall.daemon.verbs.attachments import Attachments
from cellwall.daemon.verbs.endpoints import Endpoints
from cellwall.daemon.verbs.policies import Policies
from cellwall.daemon.verbs.ports import Ports
from cellwall.daemon.verbs.tried import Tried
from cellwall.daemon.verbs.walls import Walls
from cellwall.engine.requests import Reconciled, Status, UpReport
from cellwall.model.addresses import Address
from cellwall.model.pool import PoolSize

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
        self._walls = Walls(writing, reading, self.writer, self._reader)
        self.attachments = Attachments(self._walls, self.pool)
        self.endpoints = Endpoints(self._walls, self._inspector, fresh=bounds.scrape_seconds)
        self.ports = Ports(self._walls)
        self.policies = Policies(self._walls)
        self.tried = Tried(reading.paths, self._historian)
        self._clearing: Kind[object, None] = Kind(self._clear_waiting, id)
        self._status: asyncio.Task[Status] | None = None
        self.unread = ""
        """Why what is configured for the daemon is not in force, if it is not; for who reads it to set."""
        self.auditor: Auditor | None = None
        """What records what sandboxes try, if anything does; for who makes it to set."""
        self.proxies: Proxies | None = None
        """What serves ports that are led between address families; for who makes it to set."""

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

    def resize_pool(self, size: PoolSize) -> None:
        """Have so many stand ready from now on."""
        self.pool.size = size
        self.writer.do(self.pool.look)

    async def up(self) -> UpReport:
        return await self.writer.do(self._wall.up)

    async def down(self, *, force: bool) -> None:
        await self.writer.do(lambda: self._wall.down(force=force))

    async def reconcile(self) -> Reconciled:
        return await self.writer.do(self._wall.reconcile)

    async def dns(self, asker: Asker) -> tuple[Address, ...]:
        return await self._reader.do(self._walls.beside.dns, whose=asker.whose)

    async def status(self) -> Status:
        """Live compared with desired. All who wait for it at once are told the same."""
        if self._status is None:
            self._status = asyncio.create_task(self._walls.look(self._began_status))
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
        unserved = self.proxies.notes() if self.proxies is not None else ()
        unread = (self.unread,) if self.unread else ()
        return msgspec.structs.replace(status, notes=(*status.notes, *notes, *unserved, *unread))

    async def cni(self, answer: Callable[[], CniReply]) -> tuple[int, bytes]:
        status, body, waits = await self.writer.do(answer)
        if waits:
            await self.writer.add(self._clearing, object())
        return status, body

    def _clear_waiting(self, waiting: Sequence[object]) -> Sequence[None]:
        self._wall.clear_up()
        return [None] * len(waiting)


def _told_nobody(task: "asyncio.Task[Status]") -> None:
    """Whoever waited may have gone: an error that is nobody's then is none that asyncio would have to log."""
    if not task.cancelled():
        task.exception()
