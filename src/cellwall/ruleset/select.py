"""Variants of a ruleset: without some layers of the wall (what control by removal tests a layer's necessity with),
without any rule, and under another name."""

from collections.abc import Set

import msgspec

from cellwall.ruleset.types import Chain, Ruleset


def layers(ruleset: Ruleset) -> frozenset[str]:
    """The layers that the ruleset's rules belong to; plumbing ("") is none."""
    every = {rule.layer for table in ruleset.tables for chain in table.chains for rule in chain.rules}
    return frozenset(every - {""})


def without_layers(ruleset: Ruleset, removed: Set[str]) -> Ruleset:
    """The ruleset without the rules of these layers. Chains and sets stay, also those that nothing uses any more:
    a rule of another layer may refer to them, and what leads to an empty chain goes on behind it."""

    def keep(chain: Chain) -> Chain:
        rules = tuple(rule for rule in chain.rules if rule.layer == "" or rule.layer not in removed)
        return msgspec.structs.replace(chain, rules=rules)

    return Ruleset(
        tuple(
            msgspec.structs.replace(table, chains=tuple(keep(chain) for chain in table.chains))
            for table in ruleset.tables
        )
    )


def renamed(ruleset: Ruleset, table: str) -> Ruleset:
    """The same rules in tables of another name: beside the originals they decide alike."""
    return Ruleset(tuple(msgspec.structs.replace(original, name=table) for original in ruleset.tables))


def without_chains(ruleset: Ruleset) -> Ruleset:
    """The sets of the ruleset and their elements alone."""
    return Ruleset(tuple(msgspec.structs.replace(table, chains=()) for table in ruleset.tables))
