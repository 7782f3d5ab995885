"""Where events of a test are kept, for who waits for one."""

from collections.abc import Callable, Sequence
from threading import Condition

from cellwall.adapters.events.files import Appended
from cellwall.audit.events import Attempt, Began, Event

PATIENCE = 30.0


class Recorded:
    """A `recorder.EventLog`."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._more = Condition()

    def append(self, events: Sequence[Event]) -> Appended:
        with self._more:
            self.events += events
            self._more.notify_all()
        return Appended(len(events))

    def found(self, wanted: Callable[[Attempt], bool], least: int = 1) -> list[Attempt]:
        """Those attempts that are, once there are so many."""

        def those() -> list[Attempt]:
            return [event for event in self.events if isinstance(event, Attempt) and wanted(event)]

        with self._more:
            assert self._more.wait_for(lambda: len(those()) >= least, PATIENCE), self.events
            return those()

    def wait_for_beginning(self) -> None:
        with self._more:
            assert self._more.wait_for(lambda: any(isinstance(event, Began) for event in self.events), PATIENCE)
