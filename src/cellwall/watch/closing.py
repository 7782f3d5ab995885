"""A thread beside the watch that does one thing: it closes, at once, what somebody left open.

A look takes as long as it takes, and a repair longer; what judges may be taken away amid either, also of what the
repair has just laid. Owns: a wall of its own, so that it waits for nobody, neither for the writer lock nor for the
thread that looks. It listens to what is told of rules and chains; of iptables-legacy, which tells nothing, it asks.

Refuses: to repair. Whoever looks is told of what was closed as of any other change, also of a bridge that was shut by a
closing that failed then: it stays shut until it is closed, or that look opens it.

A defect ends the thread, and with it the watch: nobody else would notice that nothing is closed any more.
"""

import logging
import os
import select
import time
from contextlib import suppress
from threading import Thread, get_native_id
from typing import TYPE_CHECKING, Protocol, Self

from cellwall.adapters.news.alarms import IPTABLES, OWN_TABLES
from cellwall.adapters.news.rule_news import RuleNews
from cellwall.errors import CellwallError

if TYPE_CHECKING:
    from cellwall.adapters.iptables.legacy_tables import LegacyTables
    from cellwall.engine.backend import Holder

_log = logging.getLogger("cellwall.watch")
_ASKS = 0.02
"""Seconds between two questions to legacy tables, which take a tenth of a millisecond together."""
_NICE = -10
"""It runs for a millisecond now and then, and what is open meanwhile is open to everybody."""
_MOMENT, _PATIENCE = 0.001, 0.05
_AGAIN = 0.2
"""Seconds until what could not be closed is tried again."""


class Closable(Protocol):
    """The wall that is kept closed: `api.Wall`."""

    def close_unjudged(self) -> bool: ...


class Counts(Protocol):
    """Who counts what is closed, told by this thread."""

    def closed(self) -> None: ...


class Closer:
    """Closes from its beginning to its end, in the network namespace of the thread that makes it. Nobody else uses
    `wall` meanwhile."""

    def __init__(self, wall: Closable, counts: Counts) -> None:
        self._wall, self._counts = wall, counts
        self._legacy: LegacyTables | None = None
        self._news = RuleNews()
        self._told = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._ended = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._defect: Exception | None = None
        self._over = self._again = self._at_work = False
        self._holder: Holder | None = None
        self._close()  # before anything is looked at, and with all that this imports
        self._thread = Thread(target=self._run, name="cellwall-closing")
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._over = True
        os.eventfd_write(self._told, 1)
        self._thread.join()
        os.close(self._told)
        os.close(self._ended)
        self._news.close()
        if self._legacy is not None:
            self._legacy.close()

    def fileno(self) -> int:
        """Readable when a defect has ended the thread."""
        return self._ended

    def check(self) -> None:
        """Raise the defect that ended the thread, if one did."""
        if self._defect is not None:
            raise self._defect

    def attend(self, holder: "Holder | None") -> None:
        """What holds the wall, if anything does: whose tables what is told is about, and whether to ask. For the thread
        that made this one, which imports at another holder's first look what closing needs: two threads that import
        each other's modules may wait for each other."""
        if holder == self._holder:
            return
        self._holder = holder
        shared = holder is None or holder.backend == "iptables"
        self._news.tables = IPTABLES if shared else OWN_TABLES
        if self._legacy is None and holder is not None and holder.variant == "legacy":
            from cellwall.adapters.iptables.legacy_tables import LegacyTables

            self._legacy = LegacyTables()
        self._close()
        os.eventfd_write(self._told, 1)

    def let_it_close(self) -> None:
        """Return when it is done with what it was told by now, or does not get on: for who wakes of the same alarm and
        looks next, which takes a processor from it, and the interpreter."""
        until = time.monotonic() + _PATIENCE
        while self._defect is None and time.monotonic() < until:
            if not (self._at_work or select.select([self._news], [], [], 0)[0]):
                break
            time.sleep(_MOMENT)

    def _run(self) -> None:
        try:
            self._keep_closed()
        except Exception as error:
            _log.error("closes nothing any more: %r", error)  # at once: who watches may be amid a repair
            self._defect = error
            os.eventfd_write(self._ended, 1)

    def _keep_closed(self) -> None:
        with suppress(OSError):  # of this thread alone
            os.setpriority(os.PRIO_PROCESS, get_native_id(), _NICE)
        waiting = select.poll()
        for descriptor in (self._news.fileno(), self._told):
            waiting.register(descriptor, select.POLLIN)
        while not self._over:
            pause = _AGAIN if self._again else _ASKS if self._legacy is not None else None
            woken = [descriptor for descriptor, _ in waiting.poll(None if pause is None else pause * 1000)]
            if self._told in woken:
                os.eventfd_read(self._told)
            self._at_work = True  # before what was told is read: it is one or the other
            if self._anything() or self._again:
                self._close()
            self._at_work = False

    def _anything(self) -> bool:
        """Whether anything may have been taken away; both are asked, whatever the first one answers."""
        told = self._news.read()
        return (self._legacy is not None and self._legacy.changed()) or told

    def _close(self) -> None:
        """Close what is open, or have it tried again."""
        try:
            closed = self._wall.close_unjudged()
        except (CellwallError, OSError) as error:
            _log.error("not closed: %s", error)
            self._again = True
            return
        self._again = False
        if closed:
            self._counts.closed()
            _log.warning("closed: what judges was taken away, until it is repaired")
