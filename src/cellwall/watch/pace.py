"""When to look at the wall: at once where it may be open, soon where something changed, and never all the time.

Pure: moments are seconds that the caller reads off one clock. Looks for changes that are no damage wait for `SETTLE`,
so that an attach in the middle of its steps is not looked at; and where they find nothing, as with the attaches of our
own, they take no more than a share of the time, after a purse for the first of them. Looks for damage that was none,
as others' rules in a table that holds ours, have a purse of their own, so that no change keeps damage waiting: after
each nothing is looked at for three times as long as it took, and with an empty purse for as long as the share asks, but
never longer than `LONGEST`, for the next one may be damage. Where others are at work, who are most likely what changed,
a look for changes waits for them, up to `COURTESY`; and what differs while something changes is looked at `AGAIN` times
more before it counts. Every flush is repaired at once, whatever was looked at before, as long as repairs take no more
than `BUSY` seconds of each `WINDOW`; beyond that, because somebody keeps flushing, each waits for as long as the one
before it took, but never longer than `LONGEST`. And every `PATROL` there is a look without any alarm, of a node that is
down every `DOWN`: whoever uninstalls removes the record after everything that makes an event.
"""

from collections import deque

from cellwall.adapters.news.alarms import Alarm

SETTLE, PATROL, DOWN = 0.05, 30.0, 1.0
SHARE, PURSE = 0.05, 1.0
COURTESY = 1.0
REST = 3
AGAIN = 2
WINDOW, BUSY, LONGEST = 10.0, 4.0, 5.0


class Pace:
    """`patrol`: seconds between looks without an alarm."""

    def __init__(self, now: float, *, patrol: float = PATROL) -> None:
        self.patrol = patrol
        self._last = now
        self._changed: float | None = None
        self._damaged = True  # whatever happened before anybody listened
        self._purse = self._false_alarms = PURSE
        self._counted = now
        self._about_damage = False
        self._echoes = False
        self._repairs: deque[tuple[float, float]] = deque()
        self._held = self._deferred = self._rested = now
        self._agains = 0

    def tell(self, alarm: Alarm, now: float) -> None:
        """Something was told."""
        if alarm is Alarm.DAMAGED:
            self._damaged = True
        elif alarm is Alarm.CHANGED and self._changed is None:
            self._changed = now

    def flushed(self) -> None:
        """The wall does not stand: no look that found nothing has this one wait."""
        self._damaged = True
        self._held = min(self._held, self._rested)

    def due(self) -> float:
        """The moment of the next look; it may be past."""
        if self._damaged:
            return self._held
        moment = self._last + self.patrol
        if self._changed is not None:
            owed = max(-self._purse, 0.0) / SHARE
            moment = min(moment, max(self._changed + SETTLE, self._counted + owed, self._deferred))
        return max(moment, self._held)

    def defer(self, now: float) -> bool:
        """Whether the look that is due may wait a moment for who is at work, and if so, it does. One for damage may
        not, nor one that has waited long enough since the first change."""
        if self._damaged or self._changed is None or now - self._changed >= COURTESY:
            return False
        self._deferred = now + SETTLE
        return True

    @property
    def damaged(self) -> bool:
        """The next look is about damage."""
        return self._damaged

    def calm(self, began: float, ended: float) -> None:
        """What was told as damage is none, as a first look at the node alone found: it is a change, to be looked at
        like any other."""
        self._damaged = False
        self._changed = ended if self._changed is None else self._changed
        self._held = max(self._held, ended + REST * (ended - began))

    def look(self) -> None:
        """A look begins: what is told from now on is about another one."""
        self._about_damage = self._damaged
        self._changed, self._damaged = None, False

    def put_off(self, now: float) -> None:
        """The look that began could not be, as somebody writes: it is due again in a moment, as the first one was."""
        self._agains = 0
        self._damaged = self._damaged or self._about_damage
        self._changed, self._held = now, now + SETTLE

    def again(self, now: float) -> bool:
        """The look that began found something, while something changed: whether to look once more before it is taken
        for a difference. It may so often in a row, and not where damage was seen."""
        if self._about_damage or self._damaged or self._agains >= AGAIN:
            return False
        before = self._agains
        self.put_off(now)
        self._agains = before + 1
        return True

    def looked(self, began: float, ended: float, *, repaired: bool) -> float:
        """It is over. Returns for how many seconds nothing will be repaired now, 0 nearly always."""
        self._agains = 0
        took = ended - began
        echo, self._echoes = self._echoes, repaired  # what a repair itself sets off is nobody's false alarm
        spent = 0.0 if repaired or echo else took
        earned = (ended - self._counted) * SHARE
        self._purse = min(self._purse + earned, PURSE) - (0.0 if self._about_damage else spent)
        false_alarms = min(self._false_alarms + earned, PURSE) - (spent if self._about_damage else 0.0)
        self._false_alarms = max(false_alarms, -LONGEST * SHARE)
        self._last = self._counted = ended
        if echo and not repaired:
            self._held = self._rested
            return 0.0
        if not repaired:
            owed = max(-self._false_alarms / SHARE, REST * took)
            self._held = ended + (owed if self._about_damage else 0.0)
            return 0.0
        hold = self._hold(ended, took)
        self._held = self._rested = ended + hold
        return hold

    def _hold(self, ended: float, took: float) -> float:
        """For how long nothing is repaired after a repair."""
        self._repairs.append((ended, took))
        while self._repairs[0][0] < ended - WINDOW:
            self._repairs.popleft()
        return min(took, LONGEST) if sum(took for _, took in self._repairs) > BUSY else 0.0
