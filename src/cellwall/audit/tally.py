"""How much was recorded and how much was not, since the daemon began: for metrics, and for who asks whether to trust
the record. One thread counts; any may look."""

from collections import Counter

import msgspec

from cellwall.audit.events import Attempt, Cause

_TENANTS = 4096
"""That are told apart; what is beyond is counted without a name."""


class Tallied(msgspec.Struct, frozen=True):
    """`recorded`: attempts by (tenant, layer, reason, judgement); `unrecorded`: by (tenant, cause). An empty tenant is
    nobody's, or one of too many. `foreign`: packets that another program's rules logged to our group."""

    recorded: dict[tuple[str, str, str, str], int]
    unrecorded: dict[tuple[str, Cause], int]
    foreign: int

    def lost(self, cause: Cause) -> int:
        """All that were not recorded for this cause."""
        return sum(count for (_, why), count in self.unrecorded.items() if why == cause)


class Tally:
    """The counters. They never go back."""

    def __init__(self) -> None:
        self._recorded: Counter[tuple[str, str, str, str]] = Counter()
        self._unrecorded: Counter[tuple[str, Cause]] = Counter()
        self._tenants: set[str] = {""}
        self._foreign = 0

    def record(self, attempt: Attempt) -> None:
        key = (self._named(attempt.tenant), attempt.layer, attempt.reason, attempt.judgement)
        self._recorded[key] += 1

    def miss(self, count: int, cause: Cause, tenant: str = "") -> None:
        self._unrecorded[self._named(tenant), cause] += count

    def ignore(self, count: int) -> None:
        self._foreign += count

    def tallied(self) -> Tallied:
        """As of now."""
        return Tallied(dict(self._recorded), dict(self._unrecorded), self._foreign)

    def _named(self, tenant: str) -> str:
        if tenant not in self._tenants:
            if len(self._tenants) > _TENANTS:
                return ""
            self._tenants.add(tenant)
        return tenant
