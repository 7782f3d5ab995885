"""Batches of element changes without a kernel: as nft text to be read, and as what a ruleset is after them.

The product sends batches as nfnetlink messages (`cellwall.adapters.nftables.elements`) and leaves their outcome to the
kernel; goldens, and what the kernel makes of the same changes, are held to these two.
"""

from collections.abc import Sequence
from itertools import groupby

import msgspec

from cellwall.errors import AlreadyExists, NotFound
from cellwall.ruleset.definition import spell_elements
from cellwall.ruleset.elements import Key
from cellwall.ruleset.types import Element, ElementChange, Ruleset, Table, TableFamily

_Target = tuple[TableFamily, str, str]


def render_element_changes(ruleset: Ruleset, changes: Sequence[ElementChange]) -> str:
    """One command for each run of changes to the same set; `ruleset` says of which type the sets are.

    The order of the changes is kept: a map element gets new data by its deletion and then its addition.
    """
    sets = {(table.family, table.name, named.name): named for table in ruleset.tables for named in table.sets}
    lines: list[str] = []
    for (op, *target), run in groupby(changes, lambda c: (c.op, c.family, c.table, c.set)):
        named = sets.get((target[0], target[1], target[2]))
        if named is None:
            raise NotFound(f"no set {' '.join(target)}")
        body = [f"\t{line}" for line in spell_elements(named, [change.element for change in run])]
        lines += [f"{op} element {' '.join(target)} {{", *body, "}"]
    return "".join(f"{line}\n" for line in lines)


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
