"""How many denials of each container were not recorded one by one: what the rules counted less what is on record.

The two are never looked at in one moment. So counters are read, and reckoned once everything has been read from the log
that was stamped until then; and since a packet may be stamped before and counted after, what is missing is what two
reckonings in a row found missing. Pure.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Literal

Attachment = tuple[str, str, str]
"""Tenant, container and interface; empty where they are not known."""

Key = tuple[Literal["port", "sent", "received"], int] | tuple[Literal["address"], str]
"""What rules count by: the index of a link, or the stem of policy versions and which way a packet went; or, where they
know neither, an address."""

_MOST = 8192


class Reckoning:
    """Of one run; what was counted before its first reading is not its own. `most`: attachments that are kept in mind
    of which nothing is missing."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._counters: dict[Key, int] | None = None
        self._denied: Counter[Attachment] = Counter()
        self._recorded: Counter[Attachment] = Counter()
        self._later: Counter[Attachment] = Counter()
        self._missing: dict[Attachment, int] = {}
        self._said: Counter[Attachment] = Counter()
        self._until: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether counters were read that are not reckoned yet."""
        return self._until is not None

    def record(self, whose: Attachment, stamp: float) -> None:
        """One denial of theirs is on record, or is said to be missing for another cause."""
        (self._recorded if self._until is None or stamp <= self._until else self._later)[whose] += 1

    def read(self, counters: Mapping[Key, int], whose: Callable[[Key], Attachment | None], wall: float) -> None:
        """What all counters say at that time; one that is not reckoned yet is overtaken."""
        self._recorded += self._later
        self._later.clear()
        before = self._counters
        self._counters = dict(counters)
        if before is not None:
            for key, count in counters.items():
                last = before.get(key, 0)
                more = count - last if count >= last else count  # it began anew
                holder = whose(key) if more else None
                if holder is not None:
                    self._denied[holder] += more
        else:
            self._recorded.clear()
        self._until = wall

    def reckon(self, *, last: bool = False) -> list[tuple[Attachment, int]]:
        """What was not recorded and not said yet; everything is on record that will be and was stamped until the
        reading. `last`: there is no other reckoning to be sure by."""
        found: list[tuple[Attachment, int]] = []
        missing = {one: count - self._recorded[one] for one, count in self._denied.items()}
        for one, count in missing.items():
            sure = count if last else min(count, self._missing.get(one, 0))
            if sure > self._said[one]:
                found.append((one, sure - self._said[one]))
                self._said[one] = sure
        self._missing, self._until = missing, None
        self._recorded += self._later
        self._later.clear()
        if len(self._denied) > self._most:
            self._forget()
        return found

    def _forget(self) -> None:
        for one in [one for one, count in self._missing.items() if count == self._said[one]]:
            for kept in (self._denied, self._recorded, self._said, self._missing):
                kept.pop(one, None)
