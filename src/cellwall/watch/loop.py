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

from cellwall.adapters.alarms import IPTABLES, OWN_TABLES, Alarm, Alarms
from cellwall.adapters.lock import Held
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
    looking = beside or wall
    with Closer(closer, counts) as closes, ExitStack() as opened:
        alarms = opened.enter_context(Alarms(veth_prefix=wall.settings.network.veth_prefix))
        silent = Silence(opened)
        told = attention or opened.enter_context(closing(Attention()))
        opened.enter_context(told.to(stop, *alarms.descriptors()))
        pace = Pace(time.monotonic())
        own = True  # damage may be what was just repaired: seen first
        _log.info("watching")
        while not told.wait(max(min(pace.due(), silent.due()) - time.monotonic(), 0.0), stop):
            alarm = max(alarms.read(), silent.read())
            pace.tell(alarm, time.monotonic())
            if alarm is Alarm.DAMAGED:
                closes.let_it_close()
                if alarms.tables is IPTABLES:
                    _await_rest(told, alarms, silent)
                if not looking.stands():
                    pace.flushed()
            if pace.due() <= time.monotonic() and not (at_work() and pace.defer(time.monotonic())):
                began = time.monotonic()
                holder = wall.holder
                closes.attend(holder)
                alone = holder is not None and holder.backend == "nftables"  # its tables are nobody else's
                unseen = pace.damaged and alone and not own
                if unseen and looking.node_holds():  # we laid rules, or there were more elements than can be told of
                    pace.calm(began, time.monotonic())
                    continue
                own = _look(wall, looking, alarms, pace, counts, unseen=unseen)
                alarms.bridge, alarms.tables = _bridge_of(wall), OWN_TABLES if alone else IPTABLES
                holder = wall.holder
                silent.attend(holder, took=time.monotonic() - began)
                closes.attend(holder)
                pace.patrol = DOWN if holder is None else PATROL
            elif alarm is Alarm.CHANGED and at_work():
                time.sleep(_GATHERING)


def _await_rest(told: Attention, alarms: Alarms, silent: Silence) -> None:
    until = time.monotonic() + _ALL_TABLES
    while time.monotonic() < until:
        told.wait(_BETWEEN)
        if max(alarms.read(), silent.read()) is not Alarm.DAMAGED:
            break


def _look(wall: Wall, looking: Wall, alarms: Alarms, pace: Pace, counts: Counts, *, unseen: bool) -> bool:
    """Look and repair; whether there was anything to repair. What changed while it was compared beside writers is most
    likely what differs: to compare it once more under the lock has them wait for all of it."""
    began, patient = time.monotonic(), not pace.damaged
    pace.look()
    repaired: Sequence[str] = ()
    failed = False
    try:
        if not (patient and looking.holds()):
            if patient and _changed_meanwhile(alarms, pace) and pace.again(time.monotonic()):
                return False
            repaired = wall.repair(unseen=unseen, patience=_PATIENCE)
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
    counts.looked(len(repaired), failed=failed)
    if repaired:
        _say(repaired, ended - began)
    elif not failed:
        _log.debug("looked: nothing to repair")
    if hold:
        _log.warning("repaired again and again: somebody keeps changing it; the next repair waits %.1f s", hold)
    return failed or bool(repaired)


def _changed_meanwhile(alarms: Alarms, pace: Pace) -> bool:
    told = alarms.read()
    pace.tell(told, time.monotonic())
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
