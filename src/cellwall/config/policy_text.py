"""The text of a policy, YAML or JSON, as a document: what `cellwall.model.policy_document` reads.

YAML is read without what only YAML has: no tags, no anchors (a few lines of aliases are gigabytes), no merge keys; and
a word is a number or a truth value only where JSON would say so, for to YAML 1.1 `22:22` is 1342 and `no` is false. In
both a key that stands twice is refused: readers differ in which of the two counts.

Imports a YAML parser: only who reads a policy imports this.
"""

import json
import re
from typing import Any, NoReturn

import yaml

from cellwall.errors import InvalidSpec

MAX_SIZE = 1 << 18
"""Bytes; a policy of as many rules as one may have takes half."""

MAX_DEPTH = 8
"""No policy nests deeper than three."""

_LONGEST_SAID = 100
"""Characters of what the parser says, which may quote a word of the text, of any length."""


def parse_text(text: str | bytes, source: str = "policy") -> object:
    """The document of a text; JSON where it begins with a brace, else YAML. `source` is what errors call it.
    Raises InvalidSpec with the line."""
    if len(text) > MAX_SIZE:
        raise InvalidSpec(source, len(text), f"is longer than {MAX_SIZE} bytes")
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        raise InvalidSpec(source, f"byte {error.start}", "is not UTF-8") from error
    try:
        return _json(decoded, source) if decoded.lstrip().startswith("{") else _yaml(decoded, source)
    except RecursionError as error:
        raise InvalidSpec(source, "nesting", "is too deep") from error


def _json(text: str, source: str) -> object:
    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        read: dict[str, Any] = {}
        for name, value in pairs:
            if name in read:
                raise InvalidSpec(source, name, "stands twice")
            read[name] = value
        return read

    def refuse(word: str) -> NoReturn:
        raise InvalidSpec(source, word, "is no value of JSON")

    try:
        return json.loads(text, object_pairs_hook=members, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise InvalidSpec(source, f"line {error.lineno}", f"is not JSON: {error.msg}") from error
    except ValueError as error:  # a number of more digits than Python converts
        raise InvalidSpec(source, str(error), "is not JSON") from error


def _yaml(text: str, source: str) -> object:
    try:
        return yaml.load(text, Loader=_Reader)
    except _Refused as error:
        raise InvalidSpec(source, f"line {error.line}", error.reason) from error
    except yaml.YAMLError as error:
        place, said = _slip(error, text)
        raise InvalidSpec(source, place, f"is not YAML: {said}") from error
    except ValueError as error:  # a number of more digits than Python converts
        raise InvalidSpec(source, str(error), "is not YAML") from error


def _slip(error: yaml.YAMLError, text: str) -> tuple[str, str]:
    """The line of what is no YAML, and what the parser says of it. Its own text quotes the line, as several of its own,
    and of what an error may be long the place would be cut off."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}", str(error.problem)[:_LONGEST_SAID]
    if isinstance(error, yaml.reader.ReaderError):
        return f"line {text.count(chr(10), 0, error.position) + 1}", error.reason
    return "text", " ".join(str(error).split())


class _Refused(Exception):
    """YAML that is well-formed and not read."""

    def __init__(self, at: Any, reason: str) -> None:
        self.line = at.start_mark.line + 1
        self.reason = reason


class _Reader(yaml.SafeLoader):
    """What a policy needs of YAML, and nothing else."""

    yaml_implicit_resolvers: Any = {}  # noqa: RUF012  # the loader's own way to declare them
    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _Refused(event, "aliases are not read")
        if event.anchor is not None or getattr(event, "tag", None) not in (None, "!"):
            raise _Refused(event, "anchors and tags are not read")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _Refused(event, "is nested too deep")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        read: dict[Any, Any] = {}
        for name_node, value_node in node.value:
            name = self.construct_object(name_node, deep=True)
            if not isinstance(name, str):
                raise _Refused(name_node, "a key must be text")
            if name in read:
                raise _Refused(name_node, f"{name} stands twice")
            read[name] = self.construct_object(value_node, deep=True)
        return read


_Reader.add_constructor("tag:yaml.org,2002:map", _Reader.construct_mapping)
for _tag, _word, _first in (
    ("null", r"null|~|", ["n", "~", ""]),
    ("bool", r"true|false", ["t", "f"]),
    ("int", r"0|-?[1-9][0-9]*", list("-0123456789")),
):
    _Reader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_word})$"), _first)
