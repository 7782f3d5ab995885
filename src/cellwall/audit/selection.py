"""Which events somebody asks for: the words of the command line and of a query, and the question of each event. Pure.

What says that something is missing, `unrecorded` of nobody known and `began`, belongs to every answer about a tenant
or a container: without it the answer would look whole. Not where a reason is asked for.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec

from cellwall.audit.events import MAX_LIMIT, MAX_REASON, Attempt, Began, Event
from cellwall.audit.telling import time_text
from cellwall.errors import InvalidSpec
from cellwall.model.identifiers import parse_container_id, parse_tenant

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_AGO = re.compile(r"(\d{1,5})([smhd])")
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class Selection(msgspec.Struct, frozen=True):
    """`since` and `until` are texts of times as events have them, the latter not included; what is empty asks for
    nothing. `reason`: a part of the layer's or the reason's words, however they are capitalized."""

    tenant: str = ""
    container: str = ""
    since: str = ""
    until: str = ""
    reason: str = ""

    def wants(self, event: Event) -> bool:
        """Whether it is asked for."""
        if (self.since and event.time < self.since) or (self.until and event.time >= self.until):
            return False
        if self.reason:
            said = f"{event.layer} {event.reason}" if isinstance(event, Attempt) else ""
            if self.reason.lower() not in said.lower():
                return False
        if isinstance(event, Began):
            return True
        for asked, known in ((self.tenant, event.tenant), (self.container, event.container)):
            if asked and known != asked and (known or event.container or isinstance(event, Attempt)):
                return False
        return True


def parse_selection(
    *, tenant: str = "", container: str = "", since: str = "", until: str = "", reason: str = "", now: float
) -> Selection:
    """The selection of such words; InvalidSpec names the one that cannot be read. Times: `parse_time`."""
    if len(reason) > MAX_REASON:
        raise InvalidSpec("reason", reason[:MAX_REASON], f"is longer than {MAX_REASON} characters")
    return Selection(
        tenant=parse_tenant(tenant) if tenant else "",
        container=parse_container_id(container, "container") if container else "",
        since=parse_time(since, "since", now) if since else "",
        until=parse_time(until, "until", now) if until else "",
        reason=reason,
    )


def parse_time(text: str, field: str, now: float) -> str:
    """A time as events have it, of one as RFC 3339 has it (a date alone is its beginning, and without an offset it is
    UTC), or so long before `now`: `90s`, `15m`, `2h`, `7d`."""
    ago = _AGO.fullmatch(text)
    try:
        if ago is not None:
            then = datetime.fromtimestamp(now, UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        else:
            then = datetime.fromisoformat(text)
            then = then.replace(tzinfo=UTC) if then.tzinfo is None else then.astimezone(UTC)
        return time_text(max(then, _LONG_AGO).timestamp())
    except (ValueError, OverflowError) as error:
        raise InvalidSpec(
            field, text, "must be a time such as 2026-01-31T12:00:00Z, or so long ago: 15m, 2h, 7d"
        ) from error


def parse_limit(text: str, field: str = "limit", most: int = MAX_LIMIT) -> int:
    """How many events at most."""
    if not (text.isascii() and text.isdigit() and len(text) <= 9) or not 1 <= int(text) <= most:
        raise InvalidSpec(field, text, f"must be a number from 1 to {most}")
    return int(text)


def hinting(selection: Selection) -> Callable[[bytes], bool]:
    """A quick look at a line that saves reading most of those that are not asked for: False where it cannot be."""
    words = [b'"%s":"%s"' % (name, value.encode()) for name, value in _named(selection)]
    if not words:
        return lambda line: True
    others = (b'"kind":"began"', b'"kind":"unrecorded"')
    return lambda line: all(word in line for word in words) or line[1:].startswith(others)


def _named(selection: Selection) -> list[tuple[bytes, str]]:
    named = ((b"tenant", selection.tenant), (b"container", selection.container))
    return [(name, value) for name, value in named if value]
