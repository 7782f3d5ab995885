"""Lines of the log that others than root bring about: so many in a time, however often they do."""

import logging
import time
from collections.abc import Callable

A_LINE_EACH = 60.0
"""Seconds between two lines about one thing."""


class Seldom:
    """Tells of one thing at most every so many seconds, and how often there was something to tell."""

    def __init__(self, log: logging.Logger, said: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._said = said
        self._clock = clock
        self._count = 0
        self._told: float | None = None

    def warn(self, line: str) -> None:
        """Count this, and tell it where nothing was told for long enough."""
        self._count += 1
        now = self._clock()
        if self._told is None or now >= self._told + A_LINE_EACH:
            self._log.warning("%s (%s by now: %d)", line, self._said, self._count)
            self._told = now
