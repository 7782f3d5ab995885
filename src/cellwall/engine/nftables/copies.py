"""The copy of our tables, where the death of a replacement left it beside them: what closes an endpoint closes it there
as well, for the copy may be all that holds, and it holds what its own sets say."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec

from cellwall.engine.nftables.contracts import Rules
from cellwall.names import SPARE_TABLE, TABLE
from cellwall.ruleset.elements import Change
from cellwall.ruleset.types import NamedSet, TableFamily

_Schema = Mapping[tuple[TableFamily, str, str], NamedSet]


def include_copy(rules: Rules) -> None:
    """From now on, until another schema is set, changes of elements go to the copy too, if it stands; to it alone where
    ours have no rule: a laying that died there may not have filled them, and the next one makes them anew."""
    if rules.stands(SPARE_TABLE):
        own = rules.schema
        rules.schema = {**own, **_of_copy(own)} if rules.stands(TABLE) else _of_copy(own)


@contextmanager
def copy_alone(rules: Rules) -> Iterator[None]:
    """Meanwhile changes of elements go to the copy, whatever of it stands by now."""
    own = rules.schema
    rules.schema = _of_copy(own)
    try:
        yield
    finally:
        rules.schema = own


def in_every_table(rules: Rules, changes: Sequence[Change]) -> tuple[Change, ...]:
    """These changes of our tables in each of the tables that are included."""
    tables = {table for _, table, _ in rules.schema}
    every = [msgspec.structs.replace(change, table=table) for table in sorted(tables) for change in changes]
    return tuple(change for change in every if (change.family, change.table, change.set) in rules.schema)


def _of_copy(schema: _Schema) -> _Schema:
    return {(family, SPARE_TABLE, name): named for (family, _, name), named in schema.items()}
