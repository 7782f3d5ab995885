"""What a set or map holds: many elements that have much in common as one value, and all of them arranged for the
lookup of a key."""

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from cellwall.ruleset.types import Element, ElementChange, Interval, KeyPart, NamedSet, Scalar, TableFamily

Key = tuple[KeyPart, ...]


class Bundle(msgspec.Struct, frozen=True):
    """Elements of one set whose keys begin with the same value; none is a range or has data. Where bundles share their
    `rest`, it is packed once for all of them."""

    first: Scalar
    rest: tuple[tuple[Scalar, ...], ...]

    def elements(self) -> Iterator[Element]:
        """One by one."""
        return (Element((self.first, *key)) for key in self.rest)


class BundleChange(msgspec.Struct, frozen=True):
    """Elements to add to, or delete from, a set of ours."""

    op: Literal["add", "delete"]
    family: TableFamily
    table: str
    set: str
    bundle: Bundle

    def of(self, position: int) -> ElementChange:
        """The change of one of them."""
        element = Element((self.bundle.first, *self.bundle.rest[position]))
        return ElementChange(self.op, self.family, self.table, self.set, element)


Change = ElementChange | BundleChange


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


def _covers(part: KeyPart, value: Scalar) -> bool:
    if isinstance(part, Interval):
        return isinstance(value, int) and part.low <= value <= part.high
    return part == value
