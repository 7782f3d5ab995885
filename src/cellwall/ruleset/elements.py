"""What a set or map holds, arranged for the lookup of a key."""

from collections.abc import Sequence

from cellwall.ruleset.types import Element, Interval, KeyPart, NamedSet, Scalar

Key = tuple[KeyPart, ...]


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
