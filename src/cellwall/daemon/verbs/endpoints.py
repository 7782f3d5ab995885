"""What is told of endpoints: which there are, what each has sent and received, and what is wrong with one."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from cellwall.daemon.asker import Asker
from cellwall.daemon.turns.reader import Reader
from cellwall.daemon.verbs.walls import Walls
from cellwall.model.endpoint import Endpoint, EndpointKey
from cellwall.model.figures import EndpointTraffic, TrafficReport

R = TypeVar("R")


class Endpoints:
    """Those of one node. `inspector` looks inside sandboxes; figures are told again for `fresh` seconds."""

    def __init__(self, walls: Walls, inspector: Reader, *, fresh: float) -> None:
        self._walls = walls
        self._reader = walls.reader
        self._inspector = inspector
        self._fresh = fresh
        self._traffic: TrafficReport | None = None

    async def all(self, asker: Asker, render: Callable[[Sequence[Endpoint]], R]) -> R:
        """All that are there for who asks, as `render` has them, on the reader's thread: a thousand take a while."""
        beside = self._walls.beside
        return await self._reader.do(
            lambda: render([one for one in beside.endpoints() if asker.sees("list", one)]),
            whose=asker.whose,
        )

    async def one(self, asker: Asker, key: EndpointKey) -> Endpoint:
        """NotFound."""
        return await self._reader.do(lambda: asker.find(self._walls.beside, "list", key), whose=asker.whose)

    async def traffic(self, asker: Asker, render: Callable[[float, Sequence[EndpointTraffic]], R]) -> R:
        """The figures of those that are there for who asks. Whoever asks soon after another is told the same: to count
        flows takes a while."""

        def look() -> R:
            report = self._traffic
            if report is None or time.clock_gettime(time.CLOCK_BOOTTIME) - report.at >= self._fresh:
                report = self._traffic = self._walls.beside.traffic()
            allows = asker.authority.allows
            seen = [one for one in report.endpoints if asker.peer.root or allows(asker.peer, "list", one.tenant)]
            return render(report.at, seen)

        return await self._reader.do(look, whose=asker.whose)

    async def findings(self, asker: Asker, key: EndpointKey) -> tuple[str, ...]:
        """What is wrong with one. The writer has no part in the look inside: whoever is root in there has a say in how
        long that takes. How the node is, is root's to know."""
        writing, beside = self._walls.writing, self._walls.beside

        def look() -> tuple[Endpoint, tuple[str, ...]]:
            asker.find(writing, "check", key)
            return writing.verify_outside(key.container_id, ifname=key.ifname, alone=not asker.peer.root)

        endpoint, outside = await self._walls.look(look, whose=asker.whose)
        inside = self._inspector.do(lambda: beside.verify_inside(endpoint), whose=asker.whose)
        return (*outside, *await inside)
