"""How long the watch rests for who has something written in the same process."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import cast

import pytest

from cellwall.daemon.watched import resting
from cellwall.watch.attention import LONGEST, REST, Attention

PATIENCE = 10.0


class Rests:
    """An attention of a watch that has heard everything whenever it is to rest: when each began, and ended."""

    def __init__(self) -> None:
        self.began: list[float] = []
        self.ended: list[float] = []

    def rest(self) -> bool:
        if len(self.began) > len(self.ended):
            return False
        self.began.append(time.monotonic())
        return True

    def go_on(self) -> None:
        self.ended.append(time.monotonic())


Story = Callable[[Rests, Callable[[], None]], Awaitable[None]]


def told(story: Story) -> Rests:
    rests = Rests()

    async def run() -> None:
        await asyncio.wait_for(story(rests, resting(cast("Attention", rests))), PATIENCE)

    asyncio.run(run())
    return rests


@pytest.mark.parametrize("writes", [1, 4])
def test_it_rests_until_a_moment_after_the_last_write(writes: int) -> None:
    wrote: list[float] = []

    async def story(rests: Rests, rest: Callable[[], None]) -> None:
        for _ in range(writes):
            wrote.append(time.monotonic())
            rest()
            await asyncio.sleep(REST / 2)
        while not rests.ended:
            await asyncio.sleep(REST)

    ended = told(story).ended[0]
    last = max(moment for moment in wrote if moment < ended)
    assert ended >= min(last + REST, wrote[0] + LONGEST)


def test_writes_without_an_end_have_it_rest_for_no_longer_than_that() -> None:
    async def story(rests: Rests, rest: Callable[[], None]) -> None:
        while len(rests.ended) < 3:
            rest()
            await asyncio.sleep(0)

    rests = told(story)
    assert all(ended - began >= LONGEST for began, ended in zip(rests.began, rests.ended, strict=False))
