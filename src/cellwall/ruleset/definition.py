"""The nft text of what a table is made of besides rules: hooks, sets and maps, their elements.

Refuses elements that do not have the shape of their set, and overlapping intervals: nft would merge those
only with `auto-merge`, after which the kernel holds other elements than the ruleset and every comparison of
the two is wrong. Whoever makes the elements collapses them.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from cellwall.errors import InvalidSpec
from cellwall.ruleset.scalars import Kind, check_number, spell, spell_part
from cellwall.ruleset.types import Element, Hook, Interval, KeyType, NamedSet

_NAT_HOOKS = ("prerouting", "input", "output", "postrouting")


def spell_hook(hook: Hook) -> str:
    """The first line of a base chain. The priority is a number: its names differ between families."""
    if hook.type == "nat" and hook.hook not in _NAT_HOOKS:
        raise InvalidSpec("hook", hook.hook, "has no nat chains")
    if not -(1 << 31) <= hook.priority < 1 << 31:
        raise InvalidSpec("priority", hook.priority, "does not fit into 32 bits")
    return f"type {hook.type} hook {hook.hook} priority {hook.priority}; policy accept;"


def spell_definition(named: NamedSet) -> Iterator[str]:
    """The lines that define a set or map, without its elements."""
    if not named.key:
        raise InvalidSpec(f"set {named.name}", "", "has no key")
    data = f" : {_types(named.data)}" if named.data else ""
    yield f"type {_types(named.key)}{data}"
    if named.size is not None:
        yield f"size {_natural('size', named.size)}"
    flags = [
        name
        for name, on in (
            ("interval", named.interval),
            ("dynamic", named.dynamic),
            ("timeout", named.timeout is not None),
        )
        if on
    ]
    if flags:
        yield f"flags {','.join(flags)}"
    if named.timeout is not None:
        yield f"timeout {_natural('timeout', named.timeout)}s"


def spell_elements(named: NamedSet, elements: Sequence[Element]) -> Iterator[str]:
    """One line for each of `elements`, which need not be the present content of the set."""
    _refuse_overlap(named, elements)
    spelled = [_spell_element(named, element) for element in elements]
    yield from (f"{text}," for text in spelled[:-1])
    yield from spelled[-1:]


def _spell_element(named: NamedSet, element: Element) -> str:
    if len(element.key) != len(named.key) or len(element.data) != len(named.data):
        raise InvalidSpec(f"set {named.name}", element, "is not an element of this set's type")
    if not named.interval and any(isinstance(part, Interval) for part in element.key):
        raise InvalidSpec(f"set {named.name}", element, "an interval in a set of single values")
    key = " . ".join(spell_part(kind, part) for kind, part in zip(named.key, element.key, strict=True))
    data = " . ".join(spell(kind, value) for kind, value in zip(named.data, element.data, strict=True))
    return f"{key} : {data}" if data else key


def _refuse_overlap(named: NamedSet, elements: Sequence[Element]) -> None:
    if len({element.key for element in elements}) != len(elements):
        raise InvalidSpec(f"set {named.name}", len(elements), "holds two elements of the same key")
    if not named.interval or len(named.key) != 1:
        return
    bounds = sorted(_bounds(named.key[0], element) for element in elements)
    for (_, high), (low, _) in pairwise(bounds):
        if low <= high:
            raise InvalidSpec(f"set {named.name}", spell(named.key[0], low), "lies in two intervals")


def _bounds(kind: Kind, element: Element) -> tuple[int, int]:
    part = element.key[0]
    if isinstance(part, Interval):
        return part.low, part.high
    number = check_number(kind, part)
    return number, number


def _types(types: Sequence[KeyType]) -> str:
    return " . ".join(types)


def _natural(name: str, value: int) -> int:
    if not 0 < value < 1 << 32:
        raise InvalidSpec(name, value, "must be between 1 and 2^32-1")
    return value
