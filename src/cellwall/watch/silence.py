"""What makes no event: the rules of iptables-legacy, and ipsets. Asked about as often as it costs next to nothing.

Legacy rules: ten times a second, by their size (`adapters.legacy_tables`), which takes some microseconds. ipsets, and
legacy rules of the same size: every two seconds, or less often where a comparison takes long, they count as changed.
"""

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from cellwall.adapters.alarms import Alarm

if TYPE_CHECKING:
    from cellwall.adapters.legacy_tables import LegacyTables
    from cellwall.engine.backend import Holder

SIZES, CONTENTS, SHARE = 0.1, 2.0, 0.04


class Silence:
    """Nothing to ask about until `attend` says what holds the wall."""

    def __init__(self, opened: ExitStack) -> None:
        self._opened = opened
        self._tables: LegacyTables | None = None
        self._legacy = self._attended = False
        self._contents, self._every = time.monotonic(), CONTENTS

    def attend(self, holder: "Holder | None", *, took: float) -> None:
        """What holds the wall, if anything does, and how many seconds it took to look at it."""
        self._attended = holder is not None and holder.backend == "iptables"
        self._legacy = holder is not None and holder.variant == "legacy"
        if self._legacy and self._tables is None:
            from cellwall.adapters.legacy_tables import LegacyTables

            self._tables = LegacyTables()
            self._opened.callback(self._tables.close)
        self._contents, self._every = time.monotonic(), max(CONTENTS, took / SHARE)
        if self._tables is not None:
            self._tables.changed()  # by what was repaired; whoever changed it as well meets the comparison of contents

    def due(self) -> float:
        """The moment of the next question."""
        if self._legacy:
            return time.monotonic() + SIZES
        return self._contents + self._every if self._attended else float("inf")

    def read(self) -> Alarm:
        """What may have changed without a word."""
        if self._legacy and self._tables is not None and self._tables.changed():
            return Alarm.DAMAGED
        if self._attended and time.monotonic() >= self._contents + self._every:
            self._contents = time.monotonic()
            return Alarm.CHANGED
        return Alarm.NOTHING
