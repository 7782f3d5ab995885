"""What a set or map holds: lookup of a key, and the ruleset after a batch of element changes."""

from collections.abc import Sequence

import msgspec

from cellwall.errors import AlreadyExists, NotFound
from cellwall.ruleset.types import (
    Element,
    ElementChange,
    Interval,
    KeyPart,
    NamedSet,
    Ruleset,
    Scalar,
    Table,
    TableFamily,
)

Key = tuple[KeyPart, ...]
_Target = tuple[TableFamily, str, str]


class Content:
    """The elements of one set, arranged for lookup."""

    def __init__(self, named: NamedSet) -> None:
        self._exact: dict[Key, tuple[Scalar, ...]] = {}
        self._ranges: list[Element] = []
        for element in named.elements:
            if any(isinstance(part, Interval) for part in element.key):
                self._ranges.append(element)
            else:
                self._exact[element.key] = element.data

    def find(self, key: Sequence[Scalar]) -> tuple[Scalar, ...] | None:
        """The data of the element that holds `key` (empty in a set), or None where no element does."""
        exact = self._exact.get(tuple(key))
        if exact is not None:
            return exact
        for element in self._ranges:
            if all(_covers(part, value) for part, value in zip(element.key, key, strict=True)):
                return element.data
        return None


def apply_changes(ruleset: Ruleset, changes: Sequence[ElementChange]) -> Ruleset:
    """The ruleset after `changes`, one after the other, as the kernel takes them: adding what is there is
    nothing, adding its key with other data is AlreadyExists, deleting what is not there is NotFound."""
    contents = {
        (table.family, table.name, named.name): {element.key: element for element in named.elements}
        for table in ruleset.tables
        for named in table.sets
    }
    for change in changes:
        _apply(contents, change)
    return Ruleset(tuple(_refill(table, contents) for table in ruleset.tables))


def _apply(contents: dict[_Target, dict[Key, Element]], change: ElementChange) -> None:
    content = contents.get((change.family, change.table, change.set))
    if content is None:
        raise NotFound(f"no set {change.family} {change.table} {change.set}")
    key = change.element.key
    if change.op == "add":
        present = content.setdefault(key, change.element)
        if present != change.element:
            raise AlreadyExists(f"set {change.set}: {key} has other data")
    elif key not in content:
        raise NotFound(f"set {change.set}: no element {key}")
    else:
        del content[key]


def _refill(table: Table, contents: dict[_Target, dict[Key, Element]]) -> Table:
    sets = tuple(
        msgspec.structs.replace(named, elements=tuple(contents[table.family, table.name, named.name].values()))
        for named in table.sets
    )
    return msgspec.structs.replace(table, sets=sets)


def _covers(part: KeyPart, value: Scalar) -> bool:
    if isinstance(part, Interval):
        return isinstance(value, int) and part.low <= value <= part.high
    return part == value
