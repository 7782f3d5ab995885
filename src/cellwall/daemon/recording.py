"""From what the kernel logged to events on record: one step of it, and what it keeps from step to step.

Whose a packet was is decided after everything was heard that the writer told of by then: a change is told before the
first packet can pass by it, so what is read now is about no change that is not known yet. Nobody waits for this: the
writer leaves word in a queue, a full disk costs events, and a packet is denied whether or not anybody reads of it. What
is not recorded is counted, and said by an event of its own.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from cellwall.adapters.event_files import Appended
from cellwall.adapters.nflog import Heard
from cellwall.audit.events import Attempt, Began, Cause, Event, Unrecorded
from cellwall.audit.holders import Holders, Moment
from cellwall.audit.tally import Tally
from cellwall.audit.telling import attempt_of, time_text
from cellwall.model.endpoint import Endpoint

_log = logging.getLogger("cellwall.daemon")

_BEHIND = 2.0
"""Seconds after which a packet that was logged has been read, where reading found the queue empty: the kernel gathers
packets for 0.05 s before it hands them over (`cellwall.adapters.nflog`)."""

_ONCE = 1.0
"""Seconds between two events about what was not recorded, of one tenant and cause."""

_MOST_NEWS = 1 << 16
"""Changes that wait to be heard. A disk that hangs holds up who hears them."""

Attachment = tuple[str, str, str]
"""Tenant, container and interface; empty where they are not known."""

_NOBODY: Attachment = ("", "", "")


_AT_ONCE = 0.001
"""Seconds between a look at one clock and at the other: a busy machine may come between, which is no clock that was set."""


def now() -> Moment:
    """This moment, by both clocks at once as nearly as a few looks give it."""
    for _ in range(4):
        steady, wall = time.monotonic(), time.time()
        if time.monotonic() - steady < _AT_ONCE:
            break
    return Moment(wall, steady)


class Feed:
    """What the writer tells of endpoints, until somebody hears it: an `engine.contracts.Audience`. Told by the writer
    and the watch in turns, heard by one thread."""

    def __init__(self) -> None:
        self._news: deque[tuple[Moment, Sequence[Endpoint] | None, Sequence[Endpoint]]] = deque()
        self._missed = False

    def change(self, before: Sequence[Endpoint], after: Sequence[Endpoint]) -> None:
        """See `Audience.change`."""
        self._tell(before, after)

    def fill(self, endpoints: Sequence[Endpoint]) -> None:
        """See `Audience.fill`."""
        self._tell(None, endpoints)

    def _tell(self, before: Sequence[Endpoint] | None, after: Sequence[Endpoint]) -> None:
        if len(self._news) >= _MOST_NEWS:
            self._missed = True
            return
        self._news.append((now(), before, after))

    def hear(self, holders: Holders, refill: Callable[[], Iterable[Endpoint]]) -> None:
        """Pass on what was told. `refill`: all endpoints there are, where too much was to be kept."""
        while self._news:
            at, before, after = self._news.popleft()
            if before is None:
                holders.fill(at, after)
            else:
                holders.change(at, before, after)
        if self._missed:
            self._missed = False
            holders.fill(now(), refill())


class Keeper(Protocol):
    """Where events are kept."""

    def append(self, events: Sequence[Event]) -> Appended:
        """Keep these, as many as go."""


class Recorder:
    """For one thread; `tally` may be read by any. `refill`: all endpoints there are."""

    def __init__(self, feed: Feed, keeper: Keeper, refill: Callable[[], Iterable[Endpoint]]) -> None:
        self.tally = Tally()
        self.trouble = ""
        self._feed = feed
        self._keeper = keeper
        self._refill = refill
        self._holders = Holders()
        self._empty: deque[Moment] = deque()
        self._missing: Counter[tuple[Attachment, Cause]] = Counter()
        self._said = float("-inf")

    def begin(self, program: str) -> None:
        """Say that events are recorded from now on."""
        self._holders.fill(now(), self._refill())
        self._keep([Began(time_text(time.time()), program)])

    def step(self, heard: Heard, *, drained: bool, last: bool = False) -> None:
        """Record what was heard. `drained`: no more was there to be read; `last`: nothing comes after this."""
        at = now()
        self._feed.hear(self._holders, self._refill)
        self._holders.notice(at)
        events: list[Event] = []
        for packet in heard.packets:
            attempt = attempt_of(packet, self._holders, at.wall)
            if attempt is not None:
                events.append(attempt)
        self.tally.ignore(len(heard.packets) - len(events))
        if heard.lost:
            self.miss(heard.lost, "queue")
        if self._missing and (last or at.steady >= self._said + _ONCE):
            events += self._missed(at)
        if events:
            self._keep(events)
        if drained:
            self._settle(at)

    def miss(self, count: int, cause: Cause, attachment: Attachment = _NOBODY) -> None:
        """So many attempts are not recorded one by one."""
        self._missing[attachment, cause] += count
        self.tally.miss(count, cause, attachment[0])

    def _missed(self, at: Moment) -> list[Event]:
        missing, self._missing, self._said = self._missing, Counter(), at.steady
        when = time_text(at.wall)
        return [Unrecorded(when, count, cause, *whose) for (whose, cause), count in missing.items()]

    def _keep(self, events: Sequence[Event]) -> None:
        appended = self._keeper.append(events)
        self._say_trouble(appended.error)
        for event in events[: appended.written]:
            if isinstance(event, Attempt):
                self.tally.record(event)
        for event in events[appended.written :]:
            if isinstance(event, Attempt):
                self.miss(1, "disk", (event.tenant, event.container, event.interface))
            elif isinstance(event, Unrecorded):  # counted already, and still to be said
                self._missing[(event.tenant, event.container, event.interface), event.cause] += event.count

    def _say_trouble(self, error: str) -> None:
        if error and not self.trouble:
            _log.error("events are not recorded: %s", error)
        elif self.trouble and not error:
            _log.warning("events are recorded again")
        self.trouble = error

    def _settle(self, at: Moment) -> None:
        """What was logged before an empty queue was found has been read by now, but for what the kernel gathered."""
        self._empty.append(at)
        settled = None
        while self._empty and self._empty[0].steady <= at.steady - _BEHIND:
            settled = self._empty.popleft()
        if settled is not None:
            self._holders.settle(settled)
