"""What a body says as JSON, and whether it says so much that the event loop has it read by another thread.

A tenth of a mebibyte of a policy takes 50 ms to read, in which a loop answers nobody. Pure.
"""

import json
from collections.abc import Callable
from typing import Any

import msgspec

from cellwall.wire.problems import Problem, call_problem, invalid_body

_FEW_VALUES = 64
"""Commas. A value is behind each, in lists of JSON and in a port's clients alike; none takes longer than 20 µs."""
_FEW_OCTETS = 16384


class CallRefused(Exception):
    """The call itself is refused."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.title)


def is_long(raw: bytes) -> bool:
    """Whether a body takes longer to read than an event loop should be at one caller's."""
    return len(raw) > _FEW_OCTETS or raw.count(b",") > _FEW_VALUES


def decoded(decode: Callable[[bytes], Any], raw: bytes) -> Any:
    """What `decode` makes of a body in which no name stands twice; CallRefused."""
    try:
        value = decode(raw)
        # The decoder takes the last of two and says nothing. Of a long one it would keep all threads waiting twice.
        if is_long(raw) or raw.count(b":") != _members(msgspec.json.decode(raw)):
            json.loads(raw, object_pairs_hook=_once)
        return value
    except msgspec.ValidationError as error:
        raise CallRefused(invalid_body(str(error), raw)) from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise CallRefused(call_problem("malformed", str(error))) from error


def _members(value: Any) -> int:
    """How many names there are in a value and all that is in it. Each was behind a colon, so where a text has no more
    colons than that, no name stands twice. Most have none in what they say; to look takes a tenth of reading it so,
    where it is short."""
    if isinstance(value, dict):
        return len(value) + sum(_members(one) for one in value.values() if isinstance(one, dict | list))
    return sum(map(_members, value)) if isinstance(value, list) else 0


def _once(members: list[tuple[str, Any]]) -> None:
    """Refuse a name that stands twice in an object: readers differ in which of the two counts."""
    names: set[str] = set()
    for name, _ in members:
        if name in names:
            raise ValueError(f"{name} stands twice")
        names.add(name)
