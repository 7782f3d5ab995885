"""What one at a time may be at, in turn: for coroutines of one event loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cellwall.daemon.turns.lines import Lines, Whose


class Single:
    """Nobody is at it at first."""

    def __init__(self) -> None:
        self._waiting: Lines[asyncio.Future[None]] = Lines()
        self._taken = False

    @asynccontextmanager
    async def turn(self, whose: Whose) -> AsyncIterator[None]:
        """That user's turn, for as long as the block lasts. Who goes while it waits leaves its place."""
        if self._taken:
            await self._wait(whose)
        self._taken = True
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, whose: Whose) -> None:
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(whose, called)
        try:
            await called
        except asyncio.CancelledError:
            self._waiting.remove(whose, called)
            if called.done() and not called.cancelled():  # it was called, and goes all the same
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        """To the next who waits. It stays taken meanwhile: whoever comes before that one wakes waits behind it."""
        following = self._waiting.take()
        while following and following[0].done():  # it goes, and its coroutine has yet to hear of that
            following = self._waiting.take()
        self._taken = bool(following)
        for called in following:
            called.set_result(None)
