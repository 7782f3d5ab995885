"""What is live of the wall in iptables, compared with what it should be."""

import errno
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from hashlib import sha256

import msgspec

from cellwall.engine.iptables.at_once import at_once
from cellwall.engine.iptables.flush_order import out_of_order
from cellwall.engine.iptables.host import Host
from cellwall.engine.iptables.published import FAMILIES, is_published, published, replace_published, rule_line
from cellwall.errors import KernelError
from cellwall.lower.xt.chains import hook_chain, is_own_chain
from cellwall.lower.xt.endpoints import Holdings, OwnedEntry
from cellwall.lower.xt.sets import Entry, definition, entry_text
from cellwall.lower.xt.tables import Family, XtTable, own_lines
from cellwall.lower.xt.wall import XtWall


class Live(msgspec.Struct, frozen=True):
    """Our chains and the places of the jumps, published ports left out, every set's definition, what the node's own
    sets hold, and the families whose tables are `out_of_order`."""

    definitions: Mapping[str, str]
    chains: Mapping[Family, Sequence[str]]
    static: Mapping[str, Collection[Entry]]
    out_of_order: tuple[Family, ...]


def observe(host: Host) -> Live:
    """What is live."""
    definitions = host.sets.definitions()
    families: tuple[Family, ...] = (*host.families, "bridge")
    lines = at_once([partial(chain_lines, host, family) for family in families])
    chains = dict(zip(families, lines, strict=True))
    own = [one.name for one in host.sets.schema.values() if one.static and one.name in definitions]
    return Live(definitions, chains, {name: host.sets.entries(name) for name in own}, out_of_order(host))


def shape(host: Host) -> str:
    """A digest of what is live; "" where there is no chain or no set of ours."""
    return digest(observe(host))


def digest(live: Live) -> str:
    """Equal digests, equal walls; "" where there is no chain or no set of ours."""
    if not live.definitions or not any(lines for family, lines in live.chains.items() if family != "bridge"):
        return ""
    static = {name: sorted(map(repr, entries)) for name, entries in live.static.items()}
    text = repr((sorted(live.definitions.items()), live.chains, sorted(static.items()), live.out_of_order))
    return sha256(text.encode()).hexdigest()[:32]


def is_whole(live: Live, wall: XtWall) -> bool:
    """Whether as much is live as that wall is: as many rules in each chain, each jump first, each set, and in the
    node's own sets just that. No save program spells a rule as it was laid, so what one says is not compared."""
    tables = {"ipv4": wall.tables4, "ipv6": wall.tables6, "bridge": wall.frames}
    return (
        all(Counter(map(_place, lines)) == _places(tables[family]) for family, lines in live.chains.items())
        and all(live.definitions.get(one.name) == definition(one) for one in wall.sets)
        and all(frozenset(live.static[one.name]) == frozenset(one.entries) for one in wall.sets if one.static)
    )


def _places(tables: Iterable[XtTable]) -> Counter[str]:
    places: Counter[str] = Counter()
    for table in tables:
        places.update(f"{table.name} -A {hook} -j {hook_chain(hook)} at 1" for hook in table.hooks)
        for chain in table.chains:
            if chain.rules and not is_published(line := f"{table.name} -A {chain.name} "):
                places[line] = len(chain.rules)
    return places


def _place(line: str) -> str:
    """Of a jump the whole line of `own_lines`, of a rule its table and chain."""
    table, flag, chain, _ = line.split(" ", 3)
    return f"{table} {flag} {chain} " if is_own_chain(chain) else line


def drift(host: Host, held: Holdings) -> tuple[str, ...]:
    """Raises KernelError (ENOENT) where a whole set is missing."""
    entries, rules = _difference(host, held)
    return _lines(host, entries) + _rule_lines(rules)


def missing(host: Host, held: Holdings) -> tuple[str, ...]:
    """Raises KernelError (ENOENT) where a whole set is missing."""
    (entries, _), (rules, _) = _difference(host, held)
    return _lines(host, (entries, ())) + _rule_lines((rules, ()))


def repair(host: Host, held: Holdings, *, rules: bool = True, opens: bool = True) -> tuple[str, ...]:
    """Entries first, and then the rules that lead to them; `rules` False: entries alone. Without `opens` nothing is
    added, only taken out."""
    try:
        (lacking, surplus) = _entries(host, held)
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise
        return ()
    gone = _gone(lacking, surplus)
    if not opens:
        host.sets.apply((), gone)
        return _lines(host, ((), gone))
    order = {owned: place for place, owned in enumerate(held.entries)}
    added = sorted(lacking, key=lambda owned: order[owned])
    live = set(map(_unmarked, surplus))
    host.sets.apply([owned for owned in added if _unmarked(owned) not in live], gone)
    host.sets.apply([owned for owned in added if _unmarked(owned) in live], ())  # versions, see `Change.renewed`
    lines = _lines(host, (lacking, surplus))
    if not rules:
        return lines
    differing = _rules(host, held)
    if any(differing):
        replace_published(host, held.rules)
    return lines + _rule_lines(differing)


Pair = tuple[Collection[OwnedEntry], Collection[OwnedEntry]]
RulePair = tuple[Collection[str], Collection[str]]
"""(missing, surplus)"""


def _difference(host: Host, held: Holdings) -> tuple[Pair, RulePair]:
    return _entries(host, held), _rules(host, held)


def _entries(host: Host, held: Holdings) -> Pair:
    desired = set(held.entries)
    own = [one.name for one in host.sets.schema.values() if not one.static]
    live = {OwnedEntry(name, entry) for name in own for entry in host.sets.entries(name)}
    return desired - live, live - desired


def _gone(lacking: Collection[OwnedEntry], surplus: Collection[OwnedEntry]) -> list[OwnedEntry]:
    """An entry that differs in its mark alone is replaced by adding it, and not to be deleted."""
    replaced = set(map(_unmarked, lacking))
    return [owned for owned in surplus if _unmarked(owned) not in replaced]


def _unmarked(owned: OwnedEntry) -> OwnedEntry:
    return msgspec.structs.replace(owned, entry=msgspec.structs.replace(owned.entry, mark=0))


def _rules(host: Host, held: Holdings) -> RulePair:
    families = {version: family for family, version in FAMILIES}
    desired = {f"{families[owned.version]} {rule_line(owned)}" for owned in held.rules}
    lines = at_once([partial(published, host, family) for family in host.families])
    live = {f"{family} {line}" for family, own in zip(host.families, lines, strict=True) for line in own}
    return desired - live, live - desired


def chain_lines(host: Host, family: Family) -> list[str]:
    """What is live of our chains and jumps, published ports left out."""
    return published_left_out(_own(host, family))


def published_left_out(lines: Iterable[str]) -> list[str]:
    """The lines that do not belong to an endpoint."""
    return [line for line in lines if not is_published(line)]


def _own(host: Host, family: Family) -> tuple[str, ...]:
    return own_lines(host.tables.save(host.in_force.variant, family))


def _lines(host: Host, entries: Pair) -> tuple[str, ...]:
    return (*_named(host, "missing", entries[0]), *_named(host, "unknown", entries[1]))


def _named(host: Host, what: str, entries: Iterable[OwnedEntry]) -> list[str]:
    shown = ((owned.set, entry_text(host.sets.schema[owned.set], owned.entry)) for owned in entries)
    return [f"{what} entry in {name}: {text}" for name, text in sorted(shown)]


def _rule_lines(rules: RulePair) -> tuple[str, ...]:
    missing, surplus = rules
    return (
        *(f"missing rule: {line}" for line in sorted(missing)),
        *(f"unknown rule: {line}" for line in sorted(surplus)),
    )
