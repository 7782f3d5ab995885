"""The adapters that the iptables backend works with, and what the engine found out about the host."""

import msgspec

from cellwall.engine.iptables.contracts import Sets, Tables, Variant
from cellwall.lower.xt.features import XtFeatures


class Form(msgspec.Struct, frozen=True):
    """In which variant a wall is laid, and what its rules could use there. On record with the wall: an attach does not
    ask the kernel again."""

    variant: Variant
    features: XtFeatures


class Host:
    """`form` is that of the wall in force, which changes of endpoints follow."""

    def __init__(self, tables: Tables, sets: Sets) -> None:
        self.tables = tables
        self.sets = sets
        self.form: Form | None = None
