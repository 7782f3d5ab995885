"""Who is connected, and how often: so many connections a user, a group and in all, and some that are left for root.

A user is not one number: who has subordinate ids keeps its groups under each of them. What a group is granted it
shares, so its members share a bound as well, and whoever is granted nothing is in one group with all such.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable

import msgspec

from cellwall.daemon.authority import NO_GROUP, Peer
from cellwall.daemon.bounds import Bounds, but_for_root
from cellwall.daemon.seldom import Seldom

_log = logging.getLogger("cellwall.daemon")


class Counted(msgspec.Struct, frozen=True):
    """What one connection is counted as, until it leaves: groups may be granted other things meanwhile."""

    uid: int
    groups: frozenset[int] = frozenset()


class Census:
    """`groups`: those by which a peer is granted anything."""

    def __init__(
        self,
        bounds: Bounds,
        groups: Callable[[Peer], frozenset[int]] = lambda peer: peer.groups,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bounds = bounds
        self._groups = groups
        self._total = 0
        self._users: Counter[int] = Counter()
        self._members: Counter[int] = Counter()
        self._refusals = Seldom(_log, "refused", clock)

    def enter(self, peer: Peer) -> Counted | None:
        """Count one more; None, and it is not counted, where there are enough. Of all connections some are left for
        root, who ends the trouble."""
        counted = Counted(0) if peer.root else Counted(peer.uid, self._groups(peer) or frozenset({NO_GROUP}))
        if lacks := self._full(counted):
            self._refusals.warn(f"{peer} is refused: {lacks}")
            return None
        self._total += 1
        self._users[counted.uid] += 1
        self._members.update(counted.groups)
        return counted

    def leave(self, counted: Counted) -> None:
        """Count one less."""
        self._total -= 1
        self._users[counted.uid] -= 1
        if not self._users[counted.uid]:
            del self._users[counted.uid]
        self._members.subtract(counted.groups)
        for group in counted.groups:
            if not self._members[group]:
                del self._members[group]

    def _full(self, counted: Counted) -> str:
        bounds, root = self._bounds, counted.uid == 0
        most = bounds.connections if root else but_for_root(bounds.connections)
        if self._total >= most:
            return f"there are {self._total} connections"
        if root:
            return ""
        if self._users[counted.uid] >= bounds.connections_per_uid:
            return f"it has its {bounds.connections_per_uid} connections"
        full = [group for group in counted.groups if self._members[group] >= bounds.connections_per_group]
        return f"group {full[0]} has its {bounds.connections_per_group} connections" if full else ""
