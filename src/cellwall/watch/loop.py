"""The loop of a process that watches: wait for the kernel, look, repair, say so.

Owns: the order. It listens before it looks, so that no change falls between the two; it repairs under the writer lock,
so that a transaction of another process of ours is over before it is judged; and what its own repair set off is looked
at as well, once, and found to be right. What is open is closed at once meanwhile, by a thread beside it (`closing`).

Refuses: to bring up what is down. A node that somebody took down stays down.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from socket import if_nametoindex
from typing import Protocol

from cellwall.adapters.news.alarms import IPTABLES, OWN_TABLES, Alarm, Alarms
from cellwall.adapters.record.lock import Held
from cellwall.api import Wall
from cellwall.errors import CellwallError, Dismissed
from cellwall.watch.attention import Attention
from cellwall.watch.closing import Closer
from cellwall.watch.pace import DOWN, PATROL, Pace
from cellwall.watch.silence import Silence

_log = logging.getLogger("cellwall.watch")
_SHOWN = 6
_ALL_TABLES, _BETWEEN = 0.05, 0.01
"""Seconds for which tables of iptables are waited for that somebody empties one after the other, and that may lie
between two of them: a look that began with the first would miss the rest."""
_GATHERING = 0.003
"""Seconds in which what others at work do is told before it is read: an attach tells of itself 27 times, and to wake
for each takes more than to read them all."""
_PATIENCE = 0.1
"""Seconds that anything waits for another writer before it is put off."""


class Counts(Protocol):
    """Who counts what the watch does."""

    def looked(self, repaired: int, *, failed: bool) -> None:
        """It looked, and repaired so many differences, or could not."""

    def closed(self) -> None:
        """It closed the node until a repair, as what judges was taken away."""


class _Nobody:
    def looked(self, repaired: int, *, failed: bool) -> None:
        pass

    def closed(self) -> None:
        pass


NOBODY = _Nobody()


def watch(
    wall: Wall,
    stop: int,
    *,
    closer: Wall,
    beside: Wall | None = None,
    counts: Counts = NOBODY,
    at_work: Callable[[], bool] = lambda: False,
    attention: Attention | None = None,
) -> None:
    """Watch the node of the calling thread until the descriptor `stop` is readable. `closer`: a wall of the same node
    that nobody else uses, to close by, whatever becomes of the others; `beside`: one to compare with, where others
    write by the first; `counts`: who counts what is done, from more than one thread; `at_work`: whether
    others wait for the wall, who are not kept waiting by a look for changes, most likely theirs; `attention`: what
    others may have rest. Raises Dismissed where cellwall was uninstalled meanwhile, or another version laid the wall;
    any other failure is said, and tried again."""
    with Closer(closer, counts) as closes, ExitStack() as opened:
        alarms = opened.enter_context(Alarms(veth_prefix=wall.settings.network.veth_prefix))
        silent = Silence(opened)
        told = attention or opened.enter_context(closing(Attention()))
        opened.enter_context(told.to(stop, closes.fileno(), *alarms.descriptors()))
        watching = _Watching(wall, beside or wall, counts, closes, alarms, silent, told)
        pace = watching.pace
        _log.info("watching")
        while not told.wait(max(min(pace.due(), silent.due()) - time.monotonic(), 0.0), stop):
            alarm = watching.hear()
            if pace.due() <= time.monotonic() and not (at_work() and pace.defer(time.monotonic())):
                watching.take_turn()
            elif alarm is Alarm.CHANGED and at_work():
                time.sleep(_GATHERING)


class _Watching:
    """What one watch hears by, and what it knows from one turn to the next."""

    def __init__(
        self,
        wall: Wall,
        looking: Wall,
        counts: Counts,
        closes: Closer,
        alarms: Alarms,
        silent: Silence,
        told: Attention,
    ) -> None:
        self.pace = Pace(time.monotonic())
        self._wall, self._looking, self._counts = wall, looking, counts
        self._closes, self._alarms, self._silent, self._told = closes, alarms, silent, told
        self._own = True  # damage may be what was just repaired: seen first

    def hear(self) -> Alarm:
        """The worst of what was told since. Damage is closed, and waited for, until all of it is told."""
        self._closes.check()
        alarm = max(self._alarms.read(), self._silent.read())
        self.pace.tell(alarm, time.monotonic())
        if alarm is Alarm.DAMAGED:
            self._closes.let_it_close()
            if self._alarms.tables is IPTABLES:
                self._await_rest()
            if not self._looking.stands():
                self.pace.flushed()
        return alarm

    def take_turn(self) -> None:
        """Look, and repair what differs; from then on what is listened to is the wall as it stands."""
        began = time.monotonic()
        holder = self._wall.holder
        self._closes.attend(holder)
        alone = holder is not None and holder.backend == "nftables"  # its tables are nobody else's
        unseen = self.pace.damaged and alone and not self._own
        if unseen and self._looking.node_holds():  # we laid rules, or there were more elements than can be told of
            self.pace.calm(began, time.monotonic())
            return
        self._own = self._look(unseen=unseen)
        self._alarms.bridge, self._alarms.tables = _bridge_of(self._wall), OWN_TABLES if alone else IPTABLES
        holder = self._wall.holder
        self._silent.attend(holder, took=time.monotonic() - began)
        self._closes.attend(holder)
        self.pace.patrol = DOWN if holder is None else PATROL

    def _await_rest(self) -> None:
        until = time.monotonic() + _ALL_TABLES
        while time.monotonic() < until:
            self._told.wait(_BETWEEN)
            if max(self._alarms.read(), self._silent.read()) is not Alarm.DAMAGED:
                break

    def _look(self, *, unseen: bool) -> bool:
        """Look and repair; whether there was anything to repair. What changed while it was compared beside writers is
        most likely what differs: to compare it once more under the lock has them wait for all of it."""
        pace = self.pace
        began, patient = time.monotonic(), not pace.damaged
        pace.look()
        repaired: Sequence[str] = ()
        failed = False
        try:
            if not (patient and self._looking.holds()):
                if patient and self._changed_meanwhile() and pace.again(time.monotonic()):
                    return False
                repaired = self._wall.repair(unseen=unseen, patience=_PATIENCE)
        except Dismissed:
            raise
        except Held:  # nobody waits for it: what is told meanwhile would not be heard
            pace.put_off(time.monotonic())
            return True
        except (CellwallError, ExceptionGroup, OSError) as error:
            failed = True
            _log.error("not repaired: %s", error)
            if not patient:
                pace.tell(Alarm.DAMAGED, time.monotonic())
        ended = time.monotonic()
        hold = pace.looked(began, ended, repaired=failed or bool(repaired))
        self._counts.looked(len(repaired), failed=failed)
        if repaired:
            _say(repaired, ended - began)
        elif not failed:
            _log.debug("looked: nothing to repair")
        if hold:
            _log.warning("repaired again and again: somebody keeps changing it; the next repair waits %.1f s", hold)
        return failed or bool(repaired)

    def _changed_meanwhile(self) -> bool:
        told = self._alarms.read()
        self.pace.tell(told, time.monotonic())
        return told is Alarm.CHANGED


def _say(repaired: Sequence[str], took: float) -> None:
    more = f", and {len(repaired) - _SHOWN} more" if len(repaired) > _SHOWN else ""
    _log.warning("repaired in %.0f ms: %s%s", took * 1000, "; ".join(repaired[:_SHOWN]), more)
    for line in repaired[_SHOWN:]:  # whose endpoint was taken away is looked for in here
        _log.info("repaired: %s", line)


def _bridge_of(wall: Wall) -> int:
    with suppress(OSError):
        return if_nametoindex(wall.settings.network.bridge)
    return 0
