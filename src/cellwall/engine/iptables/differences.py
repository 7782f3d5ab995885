"""Which rules of a wall in iptables were changed: line by line, in the words of the save programs.

A save program spells a rule otherwise than who laid it. So what is wanted is laid in a network namespace that ends with
the programs that lay it, and saved there as the live tables are here.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from cellwall.engine.backend import Wanted
from cellwall.engine.iptables.flush_order import LAST, in_our_hands, out_of_order
from cellwall.engine.iptables.host import Host
from cellwall.engine.iptables.laying import lowered
from cellwall.engine.iptables.live import chain_lines, published_left_out
from cellwall.errors import KernelError
from cellwall.lower.xt.sets import IpSet, entry_text, render_sets
from cellwall.lower.xt.tables import Family, XtTable, own_lines, render_tables
from cellwall.lower.xt.wall import XtWall


def differences(host: Host, wanted: Wanted) -> tuple[str, ...]:
    """Rules and jumps, entries of the node's own sets, and the order of tables; published ports left out."""
    wall = lowered(wanted, host.in_force)
    return (
        *_rules(host, wall),
        *_entries(host, [one for one in wall.sets if one.static]),
        *(f"{family} {LAST} is older than tables that vouch" for family in in_our_hands(host, out_of_order(host))),
    )


def _rules(host: Host, wall: XtWall) -> Iterator[str]:
    sets = render_sets(wall.sets)
    families: tuple[tuple[Family, Sequence[XtTable]], ...] = (
        ("bridge", wall.frames),
        ("ipv4", wall.tables4),
        ("ipv6", wall.tables6),
    )
    for family, tables in families:
        text = render_tables(tables)
        spelled = host.tables.spelled(host.in_force.variant, family, text, sets, wall.timeouts)
        if not spelled:
            continue  # nothing was told, and nothing is claimed
        should, live = published_left_out(own_lines(spelled)), chain_lines(host, family)
        yield from (f"missing rule: {family} {line}" for line in _surplus(should, live))
        yield from (f"unknown rule: {family} {line}" for line in _surplus(live, should))


def _surplus(one: Sequence[str], other: Sequence[str]) -> list[str]:
    return sorted((Counter(one) - Counter(other)).elements())


def _entries(host: Host, sets: Sequence[IpSet]) -> Iterator[str]:
    for one in sets:
        try:
            live = host.sets.entries(one.name)
        except KernelError:
            yield f"missing set: {one.name}"
            continue
        should = frozenset(one.entries)
        yield from sorted(f"missing entry in {one.name}: {entry_text(one, entry)}" for entry in should - live)
        yield from sorted(f"unknown entry in {one.name}: {entry_text(one, entry)}" for entry in live - should)
