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

from cellwall.adapters.events.files import Appended
from cellwall.adapters.events.nflog import Heard
from cellwall.audit.events import Attempt, Began, Cause, Event, Unrecorded
from cellwall.audit.holders import Holders, Moment
from cellwall.audit.reckoning import Attachment, Key, Reckoning
from cellwall.audit.tally import Tally
from cellwall.audit.telling import attempt_of, time_text
from cellwall.model.endpoint import Endpoint
from cellwall.model.figures import Denied

_log = logging.getLogger("cellwall.daemon")

_BEHIND = 2.0
"""Seconds after which a packet that was logged has been read, where reading found the queue empty: the kernel gathers
packets for 0.05 s before it hands them over (`cellwall.adapters.events.nflog`)."""

_ONCE = 1.0
"""Seconds between two events about what was not recorded, of one tenant and cause."""

_RECKONED = 5.0
"""Seconds from one look at what rules counted to the next, also in a silence: what they forget then, and count anew,
would pass for what goes on."""

_NOBODY: Attachment = ("", "", "")

_UNCOUNTED = ("PIN",)
"""Layers that are no part of what is counted by address."""

_AT_ONCE = 0.001
"""Seconds between a look at one clock and at the other: a busy machine may come between, and sets no clock."""


def now() -> Moment:
    """This moment, by both clocks at once as nearly as a few looks give it."""
    for _ in range(4):
        steady, wall = time.monotonic(), time.time()
        if time.monotonic() - steady < _AT_ONCE:
            break
    return Moment(wall, steady)


class Feed:
    """What the writer tells of endpoints, until somebody hears it: an `engine.record.Audience`. Told by the writer
    and the watch in turns, heard by one thread. `most`: changes that wait to be heard; a disk that hangs holds up who
    hears them, and then all endpoints are asked for."""

    def __init__(self, most: int = 1 << 16) -> None:
        self._most = most
        self._news: deque[tuple[Moment, Sequence[Endpoint] | None, Sequence[Endpoint]]] = deque()
        self._missed = False

    def change(self, before: Sequence[Endpoint], after: Sequence[Endpoint]) -> None:
        """See `Audience.change`."""
        self._tell(before, after)

    def fill(self, endpoints: Sequence[Endpoint]) -> None:
        """See `Audience.fill`."""
        self._tell(None, endpoints)

    def _tell(self, before: Sequence[Endpoint] | None, after: Sequence[Endpoint]) -> None:
        if len(self._news) >= self._most:
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


class EventLog(Protocol):
    """Where events are kept."""

    def append(self, events: Sequence[Event]) -> Appended:
        """Keep these, as many as go."""


class Recorder:
    """For one thread; `tally` may be read by any. `refill`: all endpoints there are; `denied`: what rules counted of
    each by now, where they do."""

    def __init__(
        self,
        feed: Feed,
        log: EventLog,
        refill: Callable[[], Iterable[Endpoint]],
        denied: Callable[[], Denied | None] = lambda: None,
        clock: Callable[[], Moment] = now,
    ) -> None:
        self.tally = Tally()
        self.trouble = ""
        self._feed = feed
        self._event_log = log
        self._refill = refill
        self._holders = Holders()
        self._empty: deque[Moment] = deque()
        self._missing: Counter[tuple[Attachment, Cause]] = Counter()
        self._said = float("-inf")
        self._begun: tuple[Began, ...] = ()
        self._denied = denied
        self._now = clock
        self._reckoning = Reckoning()
        self._looked = self._asked = float("-inf")
        self._by_address = False

    def begin(self, program: str) -> None:
        """Say that events are recorded from now on, as somebody listens. May be said again, after nobody did."""
        self._feed.hear(self._holders, self._refill)
        at = self._now()
        self._holders.fill(at, self._refill())
        self._keep([Began(time_text(at.wall), program)])
        self._reckoning = Reckoning()
        self._look(at)
        self._reckoning.reckon()

    def step(self, heard: Heard, *, drained: bool, last: bool = False) -> None:
        """Record what was heard. `drained`: no more was there to be read; `last`: nothing comes after this."""
        at = self._now()
        self._feed.hear(self._holders, self._refill)
        self._holders.notice(at)
        events: list[Event] = []
        for packet in heard.packets:
            attempt = attempt_of(packet, self._holders, at.wall)
            if attempt is not None:
                events.append(attempt)
                if attempt.judgement == "deny" and not (self._by_address and attempt.layer in _UNCOUNTED):
                    self._reckoning.record(_whose(attempt), packet.time or at.wall)
        self.tally.ignore(len(heard.packets) - len(events))
        if heard.lost:
            self.miss(heard.lost, "queue")
        self._reckon(at, drained=drained, last=last)
        due = bool(self._missing or self._begun) and (last or at.steady >= self._said + _ONCE)
        if due:
            events += self._missed(at)
        if events or due:
            self._keep(events)
        if drained:
            self._settle(at)

    def miss(self, count: int, cause: Cause, attachment: Attachment = _NOBODY) -> None:
        """So many attempts are not recorded one by one."""
        self._missing[attachment, cause] += count
        self.tally.miss(count, cause, attachment[0])

    def _reckon(self, at: Moment, *, drained: bool, last: bool) -> None:
        """What was counted and is not on record, once all is read that was told of until the counters were."""
        if last:
            self._look(at)
        if self._reckoning.is_open:
            if last or (drained and at.steady >= self._looked + _BEHIND):
                for whose, count in self._reckoning.reckon(last=last):
                    self.miss(count, "rate", whose)
        elif at.steady >= self._asked + _RECKONED:
            self._look(at)

    def _look(self, at: Moment) -> None:
        self._asked = at.steady
        denied = self._denied()
        if denied is None:
            return
        counters: dict[Key, int] = {("port", key): count for key, count in denied.ports.items()}
        counters |= {("sent", key): count for key, count in denied.sent.items()}
        counters |= {("received", key): count for key, count in denied.received.items()}
        counters |= {("address", key): count for key, count in (denied.addresses or {}).items()}
        self._by_address = denied.addresses is not None
        self._reckoning.read(counters, self._holding, at.wall)
        self._looked = at.steady

    def _holding(self, key: Key) -> Attachment | None:
        holders = self._holders
        if key[0] == "address":  # whoever had it all the time since the last look; of two it is nobody's
            holder = holders.of_address(key[1], 0.0)
        else:
            holder = holders.of_port(key[1], 0.0) if key[0] == "port" else holders.of_version(key[1], 0.0)
        return None if holder is None else (holder.tenant, holder.container, holder.interface)

    def _missed(self, at: Moment) -> list[Event]:
        missing, self._missing, self._said = self._missing, Counter(), at.steady
        when = time_text(at.wall)
        return [Unrecorded(when, count, cause, *whose) for (whose, cause), count in missing.items()]

    def _keep(self, events: Sequence[Event]) -> None:
        events, self._begun = (*self._begun, *events), ()
        appended = self._event_log.append(events)
        self._say_trouble(appended.error)
        for event in events[: appended.written]:
            if isinstance(event, Attempt):
                self.tally.record(event)
        for event in events[appended.written :]:
            if isinstance(event, Attempt):
                self.miss(1, "disk", _whose(event))
            elif isinstance(event, Unrecorded):  # counted already, and still to be said
                self._missing[_whose(event), event.cause] += event.count
            else:
                self._begun = (event,)

    def _say_trouble(self, error: str) -> None:
        if error and not self.trouble:
            _log.error("events are not recorded: %s", error)
        elif self.trouble and not error:
            _log.warning("events are recorded again")
        self.trouble = error

    def _settle(self, at: Moment) -> None:
        """What was logged before an empty queue was found has been read by now, but for what the kernel gathered."""
        self._empty.append(at)
        settled, until = None, at.steady - _BEHIND
        if self._by_address:  # whoever had one since the last look may be asked for at the next
            until = min(until, self._looked)
        while self._empty and self._empty[0].steady <= until:
            settled = self._empty.popleft()
        if settled is not None:
            self._holders.settle(settled)


def _whose(event: Attempt | Unrecorded) -> Attachment:
    return (event.tenant, event.container, event.interface)
