"""Which tenants are told apart: at most so many, the rest are one. Pure.

Who is first has a label of its own, and keeps it for as long as it has endpoints and a while beyond, so that no series
comes and goes with who sends most. Labels that are no tenant's begin with an underscore, which no tenant's name does.
"""

from collections.abc import Iterable
from threading import Lock

OTHERS = "_others"
"""All tenants that have no label of their own."""
NOBODY = "_none"
"""Containers that are of no tenant."""


_UNSEEN = float("-inf")


class Shares:
    """`most` tenants have labels; `linger` seconds without an endpoint end one."""

    def __init__(self, most: int, linger: float) -> None:
        self._most = most
        self._linger = linger
        self._seen: dict[str, float] = {}
        self._lock = Lock()

    def label(self, tenant: str) -> str:
        """Under which label a tenant's figures are. A new one has the next that is free."""
        if not tenant:
            return NOBODY
        with self._lock:
            if tenant not in self._seen:
                if len(self._seen) >= self._most:
                    return OTHERS
                self._seen[tenant] = _UNSEEN
            return tenant

    def attend(self, tenants: Iterable[str], now: float) -> list[str]:
        """These have endpoints now. Labels that ended with it: of who has had none for too long."""
        labels = {self.label(tenant) for tenant in tenants}
        with self._lock:
            for tenant, seen in self._seen.items():
                if tenant in labels or seen == _UNSEEN:  # which came and went between two looks
                    self._seen[tenant] = now
            ended = [tenant for tenant, seen in self._seen.items() if now - seen > self._linger]
            for tenant in ended:
                del self._seen[tenant]
        return ended

    def keep(self, labels: Iterable[str]) -> list[str]:
        """These are labels already, of a run before this one; those for which there is no room any more."""
        return [label for label in labels if label not in (OTHERS, NOBODY) and self.label(label) != label]
