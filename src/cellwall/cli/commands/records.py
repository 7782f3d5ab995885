"""log: what sandboxes tried, as far as a daemon recorded it."""

import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cellwall import __version__
from cellwall.audit.events import DEFAULT_LIMIT, Event, Log
from cellwall.cli.invocation import Invocation, Outcome
from cellwall.cli.parser import Commands, Parser, add_command
from cellwall.errors import Forbidden, InvalidSpec, NoPrivilege

_log = logging.getLogger("cellwall")
_MOST_OF_FILES = 1_000_000
_PAUSE = 0.25
"""Seconds between two looks for what was recorded meanwhile."""

_DESCRIPTION = """\
Show what sandboxes tried and were denied, or would have been by a policy that only watches: the latest events, in their
order. A daemon records them (node.mode), in the files var/log/cellwall/events-*.jsonl, which root reads; the members of
daemon.group are told of the tenants for which daemon.allow grants them `log`. TIME is RFC 3339, or so long ago: 90s,
15m, 2h, 7d. With --follow, and with --ocsf, --json is a document a line.
"""


def register(commands: "Commands[Parser]") -> None:
    """Add the command."""
    parser = add_command(commands, "log", "show what sandboxes tried and were denied", description=_DESCRIPTION)
    parser.add_argument("--tenant", metavar="NAME", help="of this tenant")
    parser.add_argument("--container", metavar="ID", help="of this container")
    parser.add_argument("--since", metavar="TIME", help="from this time on")
    parser.add_argument("--until", metavar="TIME", help="before this time")
    parser.add_argument("--reason", metavar="TEXT", help="of rules whose words have TEXT in them")
    parser.add_argument("--limit", metavar="N", default=str(DEFAULT_LIMIT), help=f"N at most ({DEFAULT_LIMIT})")
    parser.add_argument("--follow", action="store_true", help="go on with what is recorded from now on")
    parser.add_argument("--ocsf", action="store_true", help="as the Open Cybersecurity Schema Framework has it")
    parser.set_defaults(act=_show)


def _show(invocation: Invocation) -> Outcome:
    given = invocation.arguments
    if given.follow and os.geteuid() != 0:
        raise Forbidden("--follow: reads the event files, which are root's")
    if given.follow and given.until is not None:
        raise InvalidSpec("until", given.until, "is behind what --follow begins with: name one of them")
    follow = _following(invocation) if given.follow else None  # from before the latest are read: nothing is left out
    found = _found(invocation)
    _say_what_is_missing(invocation, found)
    if not (given.ocsf or follow):
        from cellwall.audit.shown import shown

        return Outcome(found, "\n".join(map(shown, found.events)))
    spell = _spelling(ocsf=given.ocsf, json=given.json)
    _print(found.events, spell)
    told = found.events
    while follow is not None:
        _print(_behind(told, follow()), spell)
        told = ()
        time.sleep(_PAUSE)
    return Outcome()


def _behind(told: Sequence[Event], came: Iterable[Event]) -> Iterable[Event]:
    """Those that were recorded after what was told last. What came while the latest were read is in both, also where
    `--limit` left some of it out."""
    if not told:
        return came
    came = list(came)
    return came[came.index(told[-1]) + 1 :] if told[-1] in came else came


def _found(invocation: Invocation) -> Log:
    from cellwall.audit.selection import parse_limit

    given = invocation.arguments
    if os.geteuid() == 0:
        from cellwall.adapters.events.reading import latest

        limit = parse_limit(given.limit, most=_MOST_OF_FILES)
        return latest(invocation.paths.in_log(), _selection(invocation), limit=limit)
    if not invocation.served():
        raise NoPrivilege("the event files are root's, and no daemon writes here (node.mode) that could be asked")
    with invocation.client() as client:
        return client.log(**_words(invocation), limit=parse_limit(given.limit))


def _following(invocation: Invocation) -> Callable[[], Iterable[Event]]:
    from cellwall.adapters.events.reading import following

    return following(invocation.paths.in_log(), _selection(invocation))


def _selection(invocation: Invocation) -> Any:
    from cellwall.audit.selection import parse_selection

    return parse_selection(**_words(invocation), now=time.time())


def _words(invocation: Invocation) -> dict[str, str]:
    """Those that are given. An empty one asks for nothing in particular, which nobody means who gives it."""
    names = ("tenant", "container", "since", "until", "reason")
    words = {name: found for name in names if (found := getattr(invocation.arguments, name)) is not None}
    for name, found in words.items():
        if not found:
            raise InvalidSpec(name, found, "must not be empty")
    return words


def _say_what_is_missing(invocation: Invocation, found: Log) -> None:
    if not invocation.served():
        _log.warning("nothing is recorded just now: events are by a daemon only (node.mode)")
    if found.unreadable:
        _log.warning("%d lines of the event files could not be read", found.unreadable)
    if found.more:
        _log.warning("there are earlier ones: --limit, or --until %s, shows them", found.reached)


def _spelling(*, ocsf: bool, json: bool) -> Callable[[Event], str]:
    if ocsf:
        import msgspec

        from cellwall.audit.ocsf import ocsf_of

        return lambda event: msgspec.json.encode(ocsf_of(event, __version__)).decode()
    if json:
        from cellwall.audit.events import line_of

        return lambda event: line_of(event).decode().rstrip("\n")
    from cellwall.audit.shown import shown

    return shown


def _print(events: Iterable[Event], spell: Callable[[Event], str]) -> None:
    text = "\n".join(map(spell, events))
    if text:
        print(text, flush=True)
