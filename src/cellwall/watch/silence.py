"""What makes no event: the rules of iptables-legacy, and ipsets. Asked about as often as it costs next to nothing.

Legacy rules: ten times a second, by their size (`adapters.legacy_tables`), which takes some microseconds. ipsets, and
legacy rules of the same size: every two seconds they count as changed, and the wall is compared.
"""

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from cellwall.adapters.alarms import Alarm

if TYPE_CHECKING:
    from cellwall.adapters.legacy_tables import LegacyTables

SIZES, CONTENTS = 0.1, 2.0


class Silence:
    """Nothing to ask about until `attend` says what holds the wall."""

    def __init__(self, opened: ExitStack) -> None:
        self._opened = opened
        self._tables: LegacyTables | None = None
        self._legacy = self._attended = False
        self._contents = time.monotonic()

    def attend(self, mechanism: str) -> None:
        """What holds the wall, as `Wall.mechanism` says it."""
        self._attended = "iptables" in mechanism
        self._legacy = "legacy" in mechanism
        if self._legacy and self._tables is None:
            from cellwall.adapters.legacy_tables import LegacyTables

            self._tables = LegacyTables()
            self._opened.callback(self._tables.close)
        self._contents = time.monotonic()
        if self._tables is not None:
            self._tables.changed()  # by what was repaired; whoever changed it as well meets the comparison of contents

    def due(self) -> float:
        """The moment of the next question."""
        if self._legacy:
            return time.monotonic() + SIZES
        return self._contents + CONTENTS if self._attended else float("inf")

    def read(self) -> Alarm:
        """What may have changed without a word."""
        changed = self._legacy and self._tables is not None and self._tables.changed()
        if self._attended and time.monotonic() >= self._contents + CONTENTS:
            self._contents, changed = time.monotonic(), True
        return Alarm.CHANGED if changed else Alarm.NOTHING
