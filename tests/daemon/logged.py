"""Packets as rules log them, of two endpoints of which one has the other's addresses later, and where what becomes of
them is kept for a test."""

from collections.abc import Sequence

import msgspec

from cellwall.adapters.events.files import Appended
from cellwall.adapters.events.nflog import Logged
from cellwall.audit.events import Attempt, Event, Unrecorded, event_of, line_of
from cellwall.audit.packets import IPV4
from cellwall.model.endpoint import Endpoint
from scene import endpoint
from unit.audit.octets import ipv4

WEB = msgspec.structs.replace(endpoint("web", 2), tenant="acme")
NEXT = msgspec.structs.replace(endpoint("next", 2), host_index=300)


class Recorded:
    """Files that take so many events more, and then none."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.events: list[Event] = []
        self.room = room

    def append(self, events: Sequence[Event]) -> Appended:
        taken = events[: self.room]
        self.room -= len(taken)
        self.events += [event_of(line_of(event)) for event in taken]
        return Appended(len(taken), "" if len(taken) == len(events) else "no space left on device")

    @property
    def unrecorded(self) -> list[Unrecorded]:
        """What is on record of what was not recorded one by one."""
        return [event for event in self.events if isinstance(event, Unrecorded)]

    @property
    def whose(self) -> list[str]:
        """The containers of the attempts, "" where it is nobody's."""
        return [event.container for event in self.events if isinstance(event, Attempt)]


def packet(one: Endpoint, stamp: float) -> Logged:
    """One that it sent to where the floor denies, and when; as a rule logged it."""
    octets = ipv4(17, b"\0\1\0\2\0\10\0\0", source=str(one.address4), destination="10.0.0.1")
    return Logged("FWD deny out: the floor", 2, 2, IPV4, 5, 2, 0, 0, 0, stamp, 0, b"", octets)
