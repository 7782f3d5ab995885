"""The copy of our tables, where the death of a replacement left it beside them: what closes an endpoint closes it there
as well, for the copy may be all that holds, and it holds what its own sets say."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from cellwall.engine.nftables.contracts import Rules
from cellwall.names import SPARE_TABLE
from cellwall.ruleset.elements import Change


def include_copy(rules: Rules) -> None:
    """From now on, until another schema is set, changes of elements go to the copy too, if it stands."""
    if rules.stands(SPARE_TABLE):
        own = rules.schema
        rules.schema = {**own, **{(family, SPARE_TABLE, name): own[family, _, name] for family, _, name in own}}


@contextmanager
def copy_alone(rules: Rules) -> Iterator[None]:
    """Meanwhile changes of elements go to the copy, whatever of it stands by now."""
    own = rules.schema
    rules.schema = {(family, SPARE_TABLE, name): named for (family, _, name), named in own.items()}
    try:
        yield
    finally:
        rules.schema = own


def in_every_table(rules: Rules, changes: Sequence[Change]) -> tuple[Change, ...]:
    """These changes of our tables, and the same of the copy where it is included."""
    schema = rules.schema
    copied = [change for change in changes if (change.family, SPARE_TABLE, change.set) in schema]
    return (*changes, *(msgspec.structs.replace(change, table=SPARE_TABLE) for change in copied))
