"""What of each turn of the proxy's loop is a tenant's, so that others have theirs as soon, whatever it sends.

A connection that always has something to read, and whose other side always takes it, never waits for the loop by
itself: asyncio reads and writes at once what can be. It would go on alone, and nobody else be served, nor the daemon
obeyed.
"""

import asyncio
from collections import Counter, deque

PIECES = 8
"""Of a tenant, in one turn: what was read at once is one, and so is a client who comes."""


class Shares:
    """What tenants, by their numbers, have had of this turn, and who waits for one of the next."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._had: Counter[int] = Counter()
        self._waiting: dict[int, deque[asyncio.Future[None]]] = {}

    def take(self, tenant: int) -> bool:
        """Whether there is a piece left of this turn, which is the caller's then."""
        if not self._had:
            self._loop.call_soon(self._next)
        if self._had[tenant] >= PIECES:
            return False
        self._had[tenant] += 1
        return True

    async def wait(self, tenant: int) -> None:
        """Take the next piece that there is, behind those of this tenant who wait already."""
        turn = self._loop.create_future()
        self._waiting.setdefault(tenant, deque()).append(turn)
        await turn

    def _next(self) -> None:
        """A turn begins: its first pieces are for who waits."""
        self._had.clear()
        for tenant, waiting in list(self._waiting.items()):
            while waiting and self._had[tenant] < PIECES:
                turn = waiting.popleft()
                if not turn.done():  # its connection was cut meanwhile
                    turn.set_result(None)
                    self._had[tenant] += 1
            if not waiting:
                del self._waiting[tenant]
        if self._had:
            self._loop.call_soon(self._next)
