"""The difference of two rulesets, as the tables, chains, rules, sets and elements that it consists of.

A container is only elements, so the first question about two rulesets is whether anything but elements
differs (`structural`): if nothing does, `element_changes` is the whole way from one to the other.

Who uses it: whoever has two typed rulesets, as the tests of the lowering and of the renderer do. `status` has only one:
it compares what the kernel holds by a digest of its rules and by the elements of its sets, and reads no rule back.
"""

from collections.abc import Mapping
from difflib import SequenceMatcher
from typing import Literal

import msgspec

from cellwall.ruleset.types import Chain, Element, ElementChange, NamedSet, Ruleset, Table, TableFamily

What = Literal["table", "set", "chain", "rule"]


class Change(msgspec.Struct, frozen=True):
    """One part that only one ruleset has, or that both have and differ in. `name` of a rule is its chain's,
    `index` its place in the chain."""

    what: What
    how: Literal["added", "removed", "changed"]
    family: TableFamily
    table: str
    name: str = ""
    index: int | None = None


class ContentChange(msgspec.Struct, frozen=True):
    """The elements of a set that both rulesets have, of one type, with other content."""

    family: TableFamily
    table: str
    set: str
    added: tuple[Element, ...]
    removed: tuple[Element, ...]


class Difference(msgspec.Struct, frozen=True):
    """What leads from the old ruleset to the new one."""

    changes: tuple[Change, ...] = ()
    contents: tuple[ContentChange, ...] = ()

    @property
    def empty(self) -> bool:
        """Both rulesets mean the same."""
        return not self.changes and not self.contents

    @property
    def structural(self) -> bool:
        """Something besides elements differs."""
        return bool(self.changes)


def diff(old: Ruleset, new: Ruleset) -> Difference:
    """The difference. The order of tables, sets, chains and elements means nothing; that of rules does."""
    before = {(table.family, table.name): table for table in old.tables}
    after = {(table.family, table.name): table for table in new.tables}
    changes: list[Change] = []
    contents: list[ContentChange] = []
    for family, name in before.keys() | after.keys():
        left, right = before.get((family, name)), after.get((family, name))
        if left is None or right is None:
            changes.append(Change("table", "added" if left is None else "removed", family, name))
            continue
        changes += _sets(left, right)
        changes += _chains(left, right)
        contents += _contents(left, right)
    return Difference(
        tuple(sorted(changes, key=_order)),
        tuple(sorted(contents, key=lambda change: (change.family, change.table, change.set))),
    )


def element_changes(difference: Difference) -> tuple[ElementChange, ...]:
    """The element batch of a difference: first what is added, last what is deleted, so that also a reader that
    applies one after the other never sees less than both have. A map element with new data is the exception,
    its key must be deleted before it can be added: the two stand together, in between."""
    added: list[ElementChange] = []
    replaced: list[ElementChange] = []
    deleted: list[ElementChange] = []
    for content in difference.contents:
        gone = {element.key: element for element in content.removed}
        for element in content.added:
            old = gone.pop(element.key, None)
            if old is None:
                added.append(_change("add", content, element))
            else:
                replaced += (_change("delete", content, old), _change("add", content, element))
        deleted += (_change("delete", content, element) for element in gone.values())
    return (*added, *replaced, *deleted)


def _change(op: Literal["add", "delete"], content: ContentChange, element: Element) -> ElementChange:
    return ElementChange(op, content.family, content.table, content.set, element)


def _sets(left: Table, right: Table) -> list[Change]:
    before = {named.name: msgspec.structs.replace(named, elements=()) for named in left.sets}
    after = {named.name: msgspec.structs.replace(named, elements=()) for named in right.sets}
    return _presence("set", left, before, after)


def _chains(left: Table, right: Table) -> list[Change]:
    before = {chain.name: chain for chain in left.chains}
    after = {chain.name: chain for chain in right.chains}
    hooks = _presence(
        "chain",
        left,
        {name: chain.hook for name, chain in before.items()},
        {name: chain.hook for name, chain in after.items()},
    )
    both = before.keys() & after.keys()
    return hooks + [change for name in both for change in _rules(left, before[name], after[name])]


def _presence(what: What, table: Table, before: Mapping[str, object], after: Mapping[str, object]) -> list[Change]:
    changes: list[Change] = []
    for name in before.keys() | after.keys():
        if name not in before:
            changes.append(Change(what, "added", table.family, table.name, name))
        elif name not in after:
            changes.append(Change(what, "removed", table.family, table.name, name))
        elif before[name] != after[name]:
            changes.append(Change(what, "changed", table.family, table.name, name))
    return changes


def _rules(table: Table, left: Chain, right: Chain) -> list[Change]:
    """Rules that stand at each other's place are changed; `index` counts in the new chain, of removed rules in
    the old one."""
    places: list[tuple[Literal["added", "removed", "changed"], int]] = []
    matcher = SequenceMatcher(None, left.rules, right.rules, autojunk=False)
    for tag, old, old_end, new, new_end in matcher.get_opcodes():
        if tag == "equal":
            continue
        both = min(old_end - old, new_end - new)
        places += [("changed", new + at) for at in range(both)]
        places += [("removed", index) for index in range(old + both, old_end)]
        places += [("added", index) for index in range(new + both, new_end)]
    return [Change("rule", how, table.family, table.name, left.name, index) for how, index in places]


def _contents(left: Table, right: Table) -> list[ContentChange]:
    before = {named.name: named for named in left.sets}
    changes: list[ContentChange] = []
    for named in right.sets:
        old = before.get(named.name)
        if old is None or not _same_type(old, named):
            continue
        present, wanted = dict.fromkeys(old.elements), dict.fromkeys(named.elements)
        added = tuple(element for element in named.elements if element not in present)
        removed = tuple(element for element in old.elements if element not in wanted)
        if added or removed:
            changes.append(ContentChange(left.family, left.name, named.name, added, removed))
    return changes


def _same_type(left: NamedSet, right: NamedSet) -> bool:
    return msgspec.structs.replace(left, elements=()) == msgspec.structs.replace(right, elements=())


def _order(change: Change) -> tuple[str, str, str, str, int]:
    return change.family, change.table, change.what, change.name, -1 if change.index is None else change.index
