"""What sandboxes tried, as it was recorded."""

from collections.abc import Callable
from typing import TypeVar

from cellwall.adapters.events.reading import latest
from cellwall.audit.events import Began, Event, Log
from cellwall.audit.selection import Selection
from cellwall.config import Paths
from cellwall.daemon.asker import Asker
from cellwall.daemon.turns.reader import Reader

R = TypeVar("R")

_OCTETS = 8 << 20
"""Of the event files, about, that one question may have read: from the latest on."""


class Tried:
    """The record of one node, which `historian` reads."""

    def __init__(self, paths: Paths, historian: Reader) -> None:
        self._paths = paths
        self._historian = historian

    async def latest(self, asker: Asker, selection: Selection, limit: int, render: Callable[[Log], R]) -> R:
        """The latest events that are asked for and that who asks may be told of, as `render` has them. Of what is
        nobody's they are told that recording began, and no more."""
        if selection.tenant:
            asker.authority.permit(asker.peer, "log", selection.tenant)

        def may_be_told(event: Event) -> bool:
            return isinstance(event, Began) or asker.authority.allows(asker.peer, "log", event.tenant)

        def read() -> R:
            place = self._paths.in_log()
            return render(latest(place, selection, limit=limit, permit=may_be_told, octets=_OCTETS))

        return await self._historian.do(read, whose=asker.whose)
