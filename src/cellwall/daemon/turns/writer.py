"""One thread that carries out everything that changes the node: of each caller in the order in which it was asked for,
of several in turn.

Owns: the queue and its bound, what is taken together, what is dropped, and the way of an outcome back to the event loop
that waits for it. Knows nothing of walls.

A write that has begun is carried out whatever becomes of who asked. One that has not is dropped with its asker. What is
short may be carried out by who asks, where nobody waits: `at_once`.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Hashable, Sequence
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, Generic, TypeVar

from cellwall.daemon.bounds import but_for_root
from cellwall.daemon.turns.chores import Chore, Chores
from cellwall.daemon.turns.lines import ROOT, Lines, Whose
from cellwall.errors import Unavailable

T = TypeVar("T")
R = TypeVar("R")

_log = logging.getLogger("cellwall.daemon")

ENDING = "the daemon is ending; ask again"
PAUSE = 1.0
"""Seconds without a write after which what can wait is done. To delete links keeps the kernel's one lock over them for
tens of milliseconds: after 0.05 s, two of three attaches that followed a detach as fast as a runtime deletes a sandbox
in between ran into it."""
LULL = 0.2
"""Seconds after a write's beginning in which others expect one more. Whoever claims sandboxes one after the other does
so every millisecond, and a comparison of the whole wall beside that, in the same interpreter, has each take several."""


LONG, REST = 0.01, 10
"""Seconds after which what was to be short was not, as the kernel's lock over links was taken, or the processor; and
for how many times as long nothing is taken for short then: the event loop waits for no more than a tenth."""


class Kind(Generic[T, R]):
    """Writes that are carried out together where several wait in a row: `act` gives an outcome for each. Two with the
    same `mark` are not."""

    def __init__(self, act: Callable[[Sequence[T]], Sequence[R | Exception]], mark: Callable[[T], Hashable]) -> None:
        self.act = act
        self.mark = mark


class _Job:
    __slots__ = ("act", "future", "item", "kind", "looks", "since")

    def __init__(
        self, future: "asyncio.Future[Any]", act: Callable[[], Any] | None, kind: Any, item: Any, looks: bool = False
    ) -> None:
        self.future = future
        self.looks = looks
        self.act = act
        self.kind: Kind[Any, Any] | None = kind
        self.item = item
        self.since = time.monotonic()


class Writer:
    """The thread and its queue. `limit` writes may wait; `together` are taken at once; `afterwards` is what can wait
    until nothing else does, and is called once after writes; `chores` are more of that kind. `coming` is called, by who
    asks, before a write is carried out. `told` hears of each turn what those had waited whose it was, and how long it
    took, in seconds: from the thread, and from who has something done `at_once`, maybe in the same moment.

    Started in the network namespace of the node: a thread has that of who starts it.
    """

    def __init__(
        self,
        *,
        limit: int,
        together: int,
        afterwards: Callable[[], None],
        chores: Sequence[Chore] = (),
        coming: Callable[[], None] = lambda: None,
        told: Callable[[Sequence[float], float], None] = lambda waits, took: None,
    ) -> None:
        self._limit = limit
        self._coming = coming
        self._told = told
        self._together = together
        self._chores = Chores([Chore(afterwards, lambda: PAUSE), *chores])
        self._waiting: Lines[_Job] = Lines()
        self._state = Lock()
        self._bell: SimpleQueue[bool] = SimpleQueue()
        self._ending = False
        self._begun: float | None = None
        self._wrote = self._not_before = float("-inf")
        self._until = float("-inf")
        self._thread = Thread(target=self._work, name="cellwall-writer", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """The thread works, or waits for work."""
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """How many writes wait."""
        with self._state:
            return len(self._waiting)

    @property
    def at_work(self) -> bool:
        """Writes wait or go on, or the last one was a moment ago, so that the next is likely to come at once."""
        return bool(self.waiting) or self._begun is not None or time.monotonic() < self._wrote + LULL

    def busy_for(self) -> float:
        """For how many seconds it has been at the same writes; 0 where it is at none."""
        begun = self._begun
        return 0.0 if begun is None else time.monotonic() - begun

    def do(self, act: Callable[[], R], *, whose: Whose = ROOT, looks: bool = False) -> "asyncio.Future[R]":
        """Carry this out in the turn of that user; the outcome is the running loop's to wait for. Unavailable where too
        many wait, which for others than root is earlier. What only `looks` puts no chore off: whoever asks for the
        status over and over would keep the pool from being filled."""
        return self._queue(_Job(asyncio.get_running_loop().create_future(), act, None, None, looks), whose)

    def add(self, kind: Kind[T, R], item: T, *, whose: Whose = ROOT) -> "asyncio.Future[R]":
        """Carry out one of a kind, like `do`."""
        return self._queue(_Job(asyncio.get_running_loop().create_future(), None, kind, item), whose)

    def at_once(self, act: Callable[[], R | None], then: Callable[[], object] = lambda: None) -> R | None:
        """What `act` gives, carried out by who asks and not by the thread, where nobody waits and nothing goes on: the
        way there and back takes two threads' waking, each a tenth of a millisecond and more where a processor sleeps.
        For what is short and waits for nobody; what took long all the same has others go to the thread for a while.
        None where it does, or where `act` gives that: what it began is undone then, and the caller has the thread do
        it. In the thread of an event loop, which calls `then` in its next turn where it was done."""
        begun = time.monotonic()
        with self._state:
            if self._ending or self._begun is not None or self._waiting or begun < self._not_before:
                return None
        self._coming()
        self._wrote = begun
        outcome = act()
        took = time.monotonic() - begun
        if took > LONG:
            self._not_before = begun + (1 + REST) * took
        if outcome is not None:  # in the loop's next turn, before which it sends the answer
            asyncio.get_running_loop().call_soon(self._carried_out_at_once, took, then)
        return outcome

    def _carried_out_at_once(self, took: float, then: Callable[[], object]) -> None:
        then()
        self._told([0.0], took)
        with self._state:
            self._chores.wrote()
            early = self._until <= time.monotonic() + (self._chores.wait() or 0.0)
        if not early:
            self._bell.put(True)

    def refuse(self) -> None:
        """Take no more: what waits is answered with Unavailable, what has begun is finished. Idempotent."""
        with self._state:
            self._ending = True
            left = self._waiting.clear()
        _deliver(left, [Unavailable(ENDING)] * len(left))
        self._bell.put(True)

    def end(self) -> None:
        """`refuse`, and wait for what has begun."""
        self.refuse()
        if self._thread.is_alive():
            self._thread.join()

    def _queue(self, job: _Job, whose: Whose) -> "asyncio.Future[Any]":
        limit = self._limit if whose == ROOT else but_for_root(self._limit)
        with self._state:
            if self._ending:
                raise Unavailable(ENDING)
            if len(self._waiting) >= limit:
                raise Unavailable(f"{limit} writes are waiting already; ask again")
            self._waiting.append(whose, job)
        job.future.add_done_callback(lambda future: self._drop(whose, job) if future.cancelled() else None)
        self._coming()
        self._bell.put(True)
        return job.future

    def _drop(self, whose: Whose, job: _Job) -> None:
        with self._state:
            self._waiting.remove(whose, job)

    def _work(self) -> None:
        while not self._ending:
            with self._state:
                wait = self._chores.wait()
                self._until = float("inf") if wait is None else time.monotonic() + wait
            try:
                self._bell.get(timeout=wait)
            except Empty:
                self._begun = time.monotonic()
                self._chores.act()
                self._begun = None
                continue
            if jobs := self._next():
                writes = not all(job.looks for job in jobs)
                self._begun = begun = time.monotonic()
                if writes:
                    self._wrote = begun
                outcomes = _carried_out(jobs)
                self._begun = None
                _deliver(jobs, outcomes)
                self._told([begun - job.since for job in jobs], time.monotonic() - begun)
                if writes:
                    self._chores.wrote()

    def _next(self) -> list[_Job]:
        with self._state:
            return self._waiting.take(self._together_with)

    def _together_with(self, taken: Sequence[_Job], job: _Job) -> bool:
        kind = taken[0].kind
        if kind is None or job.kind is not kind or len(taken) >= self._together:
            return False
        return kind.mark(job.item) not in {kind.mark(one.item) for one in taken}


def _carried_out(jobs: Sequence[_Job]) -> Sequence[Any]:
    try:
        first = jobs[0]
        if first.act is not None:
            return [first.act()]
        assert first.kind is not None
        return first.kind.act([job.item for job in jobs])
    except Exception as error:
        return [error] * len(jobs)


def _deliver(jobs: Sequence[_Job], outcomes: Sequence[Any]) -> None:
    """To the loops that wait, each woken once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for job, outcome in zip(jobs, outcomes, strict=True):
        by_loop.setdefault(job.future.get_loop(), []).append((job.future, outcome))
    for loop, results in by_loop.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_settle, results)


def _settle(results: Sequence[tuple["asyncio.Future[Any]", Any]]) -> None:
    for future, outcome in results:
        if future.done():  # who asked has gone
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
