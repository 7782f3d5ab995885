"""Where in a body something is wrong: JSON pointers (RFC 6901), and an error that has one.

A refusal comes from one of three places, and each names the entry in its own way: the decoder by a path of its own
(`$.endpoints[2].mac`), the parsers of single values by being called with one, the engine by field and value.
"""

from types import TracebackType
from typing import Any

import msgspec

from cellwall.errors import InvalidSpec


class Refused(InvalidSpec):
    """A value that cannot be accepted; `pointer` leads to it in the body of the call, "" is the body as a whole."""

    def __init__(self, pointer: str, field: str, value: object, reason: str) -> None:
        self.pointer = pointer
        super().__init__(field, value, reason)


class placed:  # reads as the block that it opens; a generator takes four times as long
    """What the block refuses was found at this pointer; one that has a place already keeps it."""

    __slots__ = ("_at",)

    def __init__(self, at: str) -> None:
        self._at = at

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, InvalidSpec) and not isinstance(error, Refused):
            raise Refused(self._at, error.field, error.value, error.reason) from error


def pointer(*parts: str | int) -> str:
    """The pointer that these keys and indices make."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def value_at(raw: bytes, at: str) -> object:
    """What stands at a pointer in JSON; None where nothing does, or null. What cannot be read has nothing anywhere."""
    try:
        return standing_at(msgspec.json.decode(raw), at)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def standing_at(document: Any, at: str) -> object:
    """What stands at a pointer in a document; None where nothing does."""
    try:
        for part in at.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            document = document[int(key)] if isinstance(document, list | tuple) else document[key]
        return document
    except (ValueError, LookupError, TypeError):
        return None


def decoder_pointer(message: str) -> str:
    """The place that a message of msgspec's decoder names, the field that is missing or unknown included."""
    complaint, _, path = message.rpartition(" - at `")
    parts = _parts(path.removesuffix("`")) if complaint else []
    what = (complaint or message).partition("`")
    if what[0] in ("Object missing required field ", "Object contains unknown field "):
        parts.append(what[2].rpartition("`")[0])
    return pointer(*parts)


def _parts(path: str) -> list[str | int]:
    """The keys and indices of a path of msgspec's: `$.a[0].b`. No body of ours has keys of the caller's own."""
    parts: list[str | int] = []
    for step in path.removeprefix("$").split("."):
        name, *indices = step.split("[")
        if name:
            parts.append(name)
        parts += [int(index) for each in indices if (index := each.removesuffix("]")).isdigit()]
    return parts
