"""What the writer does while nobody waits for it: each chore some time after the last write, one at a time.

A chore does a little at a time, for whoever asks meanwhile waits for the rest of it.
"""

import logging
import time
from collections.abc import Callable, Sequence
from operator import itemgetter

_log = logging.getLogger("cellwall.daemon")


class Chore:
    """`pause`: for how many seconds nothing must have been written before it is done. `act` does it, and says after how
    many seconds it wants to be asked again; None: not before the next write."""

    def __init__(self, act: Callable[[], float | None], pause: Callable[[], float]) -> None:
        self.act = act
        self.pause = pause
        self.due: float | None = None


class Chores:
    """All that can wait."""

    def __init__(self, chores: Sequence[Chore]) -> None:
        self._chores = chores

    def wrote(self) -> None:
        """Something was written just now: each waits for its pause again."""
        now = time.monotonic()
        for chore in self._chores:
            chore.due = now + chore.pause()

    def wait(self) -> float | None:
        """In how many seconds the next is due; None: none is. For any thread: each is read once, as the one that acts
        takes it away."""
        due = [due for chore in self._chores if (due := chore.due) is not None]
        return max(min(due) - time.monotonic(), 0.0) if due else None

    def act(self) -> None:
        """Do the one that is due, if one is by now. What it cannot do it is asked for again after the next write."""
        waiting = [(chore.due, chore) for chore in self._chores if chore.due is not None]
        due, chore = min(waiting, key=itemgetter(0))
        if due > time.monotonic():  # something was written meanwhile
            return
        chore.due = None
        try:
            again = chore.act()
        except Exception:
            _log.exception("what was left for later could not be done")
            return
        if chore.due is None and again is not None:  # else it waits for its pause again
            chore.due = time.monotonic() + again
