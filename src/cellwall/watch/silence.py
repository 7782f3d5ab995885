"""What makes no event: the rules of iptables-legacy, and ipsets. Asked about as often as it costs next to nothing.

Legacy rules (`adapters.iptables.legacy_tables`) and sets (`adapters.iptables.set_sizes`): twenty times a second, by
their size, which takes a quarter of a millisecond. What was exchanged for as much: every two seconds, or less often
where a comparison takes long, everything counts as changed.
"""

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from cellwall.adapters.news.alarms import Alarm

if TYPE_CHECKING:
    from cellwall.adapters.iptables.legacy_tables import LegacyTables
    from cellwall.adapters.iptables.set_sizes import SetSizes
    from cellwall.engine.backend import Holder

SIZES, CONTENTS, SHARE = 0.05, 2.0, 0.04


class Silence:
    """Nothing to ask about until `attend` says what holds the wall."""

    def __init__(self, opened: ExitStack) -> None:
        self._opened = opened
        self._tables: LegacyTables | None = None
        self._sets: SetSizes | None = None
        self._legacy = self._attended = False
        self._contents, self._every = time.monotonic(), CONTENTS

    def attend(self, holder: "Holder | None", *, took: float) -> None:
        """What holds the wall, if anything does, and how many seconds it took to look at it."""
        self._attended = holder is not None and holder.backend == "iptables"
        self._legacy = holder is not None and holder.variant == "legacy"
        if self._attended and self._sets is None:
            from cellwall.adapters.iptables.set_sizes import SetSizes

            self._sets = self._opened.enter_context(SetSizes())
        if self._legacy and self._tables is None:
            from cellwall.adapters.iptables.legacy_tables import LegacyTables

            self._tables = LegacyTables()
            self._opened.callback(self._tables.close)
        self._contents, self._every = time.monotonic(), max(CONTENTS, took / SHARE)
        self._by_size()  # by what was repaired; whoever changed it as well meets the comparison of contents

    def due(self) -> float:
        """The moment of the next question."""
        return time.monotonic() + SIZES if self._attended else float("inf")

    def read(self) -> Alarm:
        """What may have changed without a word."""
        if not self._attended:
            return Alarm.NOTHING
        alarm = self._by_size()
        if time.monotonic() >= self._contents + self._every:
            self._contents = time.monotonic()
            return max(alarm, Alarm.CHANGED)
        return alarm

    def _by_size(self) -> Alarm:
        """Both are asked, whatever the first one answers."""
        sets = self._sets.changed() if self._sets is not None and self._attended else Alarm.NOTHING
        tables = self._tables is not None and self._legacy and self._tables.changed()
        return Alarm.DAMAGED if tables else sets
