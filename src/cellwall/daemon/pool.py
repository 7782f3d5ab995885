"""The pool of a node whose daemon writes: filled while nobody waits, and counted. On the writer's thread, but for what
is told of claims.

Owns: when, and how many at once. What a ready sandbox is, and how much room it may take, is the engine's.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock

from cellwall.api import Wall
from cellwall.errors import CellwallError
from cellwall.model.pool import PoolFigures, PoolSize

_log = logging.getLogger("cellwall.daemon")

LATELY = 10.0
"""Seconds for which a claim counts towards the burst."""
SOON, LATER = 0.002, 0.05
"""Seconds without a write before more are made, where less than half stand ready and where more do. Whoever claims one
after the other asks again within a fraction of a millisecond, and must not wait for what is made meanwhile."""
TOGETHER = 2
"""How many are made at once: the next call waits for these."""
_AGAIN = 5.0


class Pool:
    """`size` may be another one at any time."""

    def __init__(self, wall: Wall, size: PoolSize, clock: Callable[[], float] = time.monotonic) -> None:
        self.size = size
        self._wall = wall
        self._clock = clock
        self._lately: deque[float] = deque()
        self._figures = PoolFigures()
        self._refusal = ""
        self._state = Lock()

    @property
    def figures(self) -> PoolFigures:
        """As of the last claim, or the last that was made."""
        return self._figures

    def claimed(self, hits: Sequence[bool]) -> None:
        """Containers claimed: whether each found a ready one. From any thread."""
        found = sum(hits)
        with self._state:
            self._lately.extend([self._clock()] * len(hits))
            before = self._figures
            self._figures = PoolFigures(
                max(before.ready - found, 0), before.claimed + found, before.missed + len(hits) - found
            )

    def look(self) -> None:
        """See how many stand ready."""
        self._note(self._wall.ready)

    def pause(self) -> float:
        """See `Chore`."""
        return SOON if 2 * self._figures.ready < self._target() else LATER

    def act(self) -> float | None:
        """Bring it a little nearer to its size; when to go on."""
        try:
            return self._act()
        except CellwallError as error:
            if str(error) != self._refusal:
                _log.warning("the pool is not filled: %s", error)
            self._refusal = str(error)
            return _AGAIN

    def _act(self) -> float | None:
        target, ready = self._target(), self._wall.ready
        if ready < target:
            made = self._wall.fill_pool(min(TOGETHER, target - ready))
            self._note(ready + made)
            self._refusal = ""
            return 0.0 if made else None
        if ready > target:
            self._note(self._wall.empty_pool(min(TOGETHER, ready - target)))
            return 0.0
        self._note(ready)
        with self._state:
            return self._lately[-1] + LATELY - self._clock() if self._lately else None  # none of them counts then

    def _note(self, ready: int) -> None:
        with self._state:
            self._figures = PoolFigures(ready, self._figures.claimed, self._figures.missed)

    def _target(self) -> int:
        since = self._clock() - LATELY
        with self._state:
            while self._lately and self._lately[0] <= since:
                self._lately.popleft()
            return self.size.target(len(self._lately))
