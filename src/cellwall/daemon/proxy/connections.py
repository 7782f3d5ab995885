"""The connections that a proxy carries, and whose they are: how many an endpoint and a tenant have, and who gives way
where all together are as many as there may be.

Places are a tenant's for as long as nobody with fewer asks for one: where none is left, whoever has at least two less
than the tenant with the most is let in for the connection of that one which said nothing for the longest time. So
tenants that fill the proxy together, or are one program's, keep nobody out, and each has its even share.
"""

import asyncio
import socket
import time
from collections import Counter

from cellwall.model.proxied import MAX_CARRIED, ProxyRule

OF_TENANT, OF_ONE = 4, 8
"""A tenant has at most this part of all connections, and those that lead to one endpoint are at most this one, however
many its limits allow."""
IDLE, HALF_CLOSED = 900.0, 60.0
"""Seconds without an octet of either side, and where one has said its last."""
_LEAVING = 16
"""Of those that gave way, how many may still have their descriptors."""


class Connection:
    """A client and its server."""

    def __init__(self, client: socket.socket, address: str, rule: ProxyRule) -> None:
        self.client = client
        self.address = address
        self.target = rule.target
        self.tenant = rule.tenant
        self.server: socket.socket | None = None
        self.task: asyncio.Task[None] | None = None
        self.last = time.monotonic()
        self.ended = 0
        self.whole = False

    def overdue(self, now: float) -> bool:
        """Nothing came for too long."""
        return now - self.last > (HALF_CLOSED if self.ended else IDLE)

    def cut(self) -> None:
        """End it for both sides, at once."""
        if self.task is not None:
            self.task.cancel()


class Held:
    """Those that there are, `most` at once."""

    def __init__(self, most: int = MAX_CARRIED) -> None:
        self.most = most
        self.count = 0
        """How many have a place."""
        self._of_tenants: dict[int, set[Connection]] = {}
        self._of_targets: Counter[str] = Counter()
        self._leaving: set[Connection] = set()

    def within_bounds(self, rule: ProxyRule) -> bool:
        """Whether the endpoint and the tenant of this rule may have one more."""
        of_tenant, of_one = self.most // OF_TENANT, self.most // OF_ONE
        return self._of_tenant(rule) < of_tenant and self._of_targets[rule.target] < min(rule.connections, of_one)

    def make_room(self, rule: ProxyRule) -> bool:
        """Whether there is a place for one more by this rule, which is `within_bounds`; also one that another tenant's
        connection gives up for it."""
        if self.count < self.most:
            return True
        largest = max(self._of_tenants.values(), key=len)
        if len(largest) < self._of_tenant(rule) + 2 or len(self._leaving) >= _LEAVING:
            return False
        idlest = min(largest, key=lambda connection: connection.last)
        self._drop(idlest)
        self._leaving.add(idlest)
        idlest.cut()
        return True

    def take(self, connection: Connection) -> None:
        """One more, of its endpoint and tenant."""
        self.count += 1
        self._of_tenants.setdefault(connection.tenant, set()).add(connection)
        self._of_targets[connection.target] += 1

    def give_back(self, connection: Connection) -> None:
        """One that was taken is over, and its descriptors are closed."""
        if connection in self._leaving:
            self._leaving.remove(connection)
        else:
            self._drop(connection)

    def _of_tenant(self, rule: ProxyRule) -> int:
        return len(self._of_tenants.get(rule.tenant, ()))

    def _drop(self, connection: Connection) -> None:
        self.count -= 1
        own = self._of_tenants[connection.tenant]
        own.remove(connection)
        if not own:
            del self._of_tenants[connection.tenant]
        self._of_targets[connection.target] -= 1
        if not self._of_targets[connection.target]:
            del self._of_targets[connection.target]
