"""Events read back from their files: the latest that are asked for, or what comes from now on."""

import os
from collections import deque
from collections.abc import Callable, Iterator

from cellwall.adapters.events.files import Following, event_files, whole_lines
from cellwall.audit.events import Event, Log, event_of
from cellwall.audit.selection import Selection, hinting
from cellwall.audit.telling import time_text

Permit = Callable[[Event], bool]
"""Whether an event may be told to who asks."""


class _Lines:
    """Lines to events, counting what is none."""

    def __init__(self, selection: Selection, permit: Permit) -> None:
        self.unreadable = 0
        self._selection = selection
        self._permit = permit
        self._may = hinting(selection)

    def of(self, path: str, most: int | None) -> tuple[deque[Event], int]:
        """The latest of a file, and how long it is."""
        events, size = deque[Event](maxlen=most), 0
        for size, line in whole_lines(path):  # noqa: B007
            event = self.read(line)
            if event is not None:
                events.append(event)
        return events, size

    def read(self, line: bytes) -> Event | None:
        if not line or not self._may(line):
            return None
        try:
            event = event_of(line)
        except ValueError:
            self.unreadable += 1
            return None
        return event if self._selection.wants(event) and self._permit(event) else None


def latest(
    directory: str,
    selection: Selection,
    *,
    limit: int | None,
    permit: Permit = lambda event: True,
    octets: int | None = None,
) -> Log:
    """The latest events that are asked for. `limit`: so many at most, None: all; `octets`: about how much is read, of
    what is the newest."""
    lines = _Lines(selection, permit)
    found: deque[Event] = deque()
    left = octets
    paths, reached = event_files(directory), ""
    while paths and (limit is None or len(found) < limit) and (left is None or left > 0):
        path = paths.pop()
        if selection.since and _written(path) < selection.since:
            return Log(tuple(found), False, lines.unreadable)
        begun = _begun(path)
        if selection.until and begun >= selection.until:
            continue
        room = None if limit is None else limit - len(found)
        there, size = lines.of(path, None if room is None else room + 1)
        if room is not None and len(there) > room:
            there.popleft()
            events = (*there, *found)
            return Log(events, True, lines.unreadable, events[0].time)
        found.extendleft(reversed(there))
        reached = begun
        left = None if left is None else left - size
    return Log(tuple(found), bool(paths), lines.unreadable, reached if paths else "")


def every(directory: str, selection: Selection) -> Iterator[Event]:
    """All that are asked for, the oldest first, however many there are."""
    lines = _Lines(selection, lambda event: True)
    for path in event_files(directory):
        if not selection.since or _written(path) >= selection.since:
            for _, line in whole_lines(path):
                event = lines.read(line)
                if event is not None:
                    yield event


def following(directory: str, selection: Selection, *, from_start: bool = False) -> Callable[[], Iterator[Event]]:
    """What gives, each time that it is called, the events that came since."""
    files, lines = Following(directory, from_start=from_start), _Lines(selection, lambda event: True)

    def read() -> Iterator[Event]:
        for line in files.read():
            event = lines.read(line)
            if event is not None:
                yield event

    return read


def _begun(path: str) -> str:
    """The time of a file's first event, "" where it has none."""
    for _, line in whole_lines(path):
        try:
            return event_of(line).time
        except ValueError:
            continue
    return ""


def _written(path: str) -> str:
    """When a file was last written to, and so the time of its last event, or later."""
    try:
        return time_text(os.path.getmtime(path))
    except FileNotFoundError:
        return ""
