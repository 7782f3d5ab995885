"""Desired and live elements: their difference, and its repair."""

import errno

from cellwall.engine.desired import desired_elements
from cellwall.engine.site import Site
from cellwall.errors import KernelError
from cellwall.lower.nft.elements import Owned, changes
from cellwall.names import TABLE
from cellwall.ruleset.types import Element


def element_drift(site: Site, table: str = TABLE) -> tuple[set[Owned], set[Owned]]:
    """(missing, surplus) elements of all endpoints that the journal has as attached. Raises KernelError (ENOENT)
    where a whole set is missing."""
    desired = desired_elements(site.journal.endpoints("attached"))
    live: set[Owned] = set()
    for (family, owner, name), named in site.rules.schema.items():
        if owner != table or named.dynamic or named.static:  # the content of static ones is part of the rules' shape
            continue
        live |= {(family, name, Element(key, data)) for key, data in site.rules.elements(family, table, name)}
    return desired - live, live - desired


def repair_elements(site: Site) -> tuple[str, ...]:
    """Make live elements what the journal says, a transaction a table; what was repaired, a line each. Does nothing
    where our tables are missing: laying the foundation brings the elements with it. Sets that cannot be read for any
    other reason are an error: who calls may forget what had to be repaired only after it was."""
    tables = dict.fromkeys(table for _, table, _ in site.rules.schema)
    return tuple(line for table in tables for line in _repair_table(site, table))


def _repair_table(site: Site, table: str) -> tuple[str, ...]:
    try:
        missing, surplus = element_drift(site, table)
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise
        return ()
    repairs = (*changes("delete", list(surplus), table), *changes("add", list(missing), table))
    site.rules.apply(repairs)
    return drift_lines(missing, surplus)


def drift_lines(missing: set[Owned], surplus: set[Owned]) -> tuple[str, ...]:
    """One line an element, in a stable order."""
    lines = [f"missing element in {family} {name}: {element.key}" for family, name, element in missing]
    lines += [f"unknown element in {family} {name}: {element.key}" for family, name, element in surplus]
    return tuple(sorted(lines))
