"""A typed ruleset as nft text for one `nft -f -`, which is one transaction.

Owns the text of whole tables and of their replacement, refresh and removal; element batches go as nfnetlink messages.
The text is deterministic and meant to be read. It refuses names and comments that are unsafe and never quotes them.

| function | what the kernel has after it |
|---|---|
| `render_ruleset` | the definition alone: what is there, for reading and for an empty kernel |
| `render_replacement` | our tables as given, whatever they were before; counters and dynamic sets start anew |
| `render_refresh` | the rules as given, sets and their elements kept; needs sets of unchanged type |
| `render_removal` | none of our tables, whether or not they existed |
| `render_flush` | our tables without a rule, whatever else is in them |
"""

from collections.abc import Iterable, Iterator

from cellwall.errors import InvalidSpec
from cellwall.ruleset.definition import spell_definition, spell_elements, spell_hook
from cellwall.ruleset.dependencies import hidden_checks
from cellwall.ruleset.names import check_name
from cellwall.ruleset.spelling import spell_rule
from cellwall.ruleset.types import Chain, NamedSet, Ruleset, Table

_Lines = Iterable[str]


def render_ruleset(ruleset: Ruleset) -> str:
    """The definition of every table, with what is in its sets."""
    return "\n".join(
        _text(_table(table, [*_timeouts(table), *_sets(table, elements=True), *_chains(table)]))
        for table in ruleset.tables
    )


def render_replacement(ruleset: Ruleset) -> str:
    """Our tables as given, whether or not they exist: at no moment is the node without them."""
    return render_removal(ruleset) + "\n" + render_ruleset(ruleset)


def render_removal(ruleset: Ruleset) -> str:
    """The end of our tables. The empty definition in front makes the deletion succeed also where there is
    nothing to delete (`destroy table` needs nft 1.0.7)."""
    names = [_identity(table) for table in ruleset.tables]
    return _text(line for name in names for line in (f"table {name} {{}}", f"delete table {name}"))


def render_flush(ruleset: Ruleset) -> str:
    """The end of all rules of our tables; chains, and sets with their elements, stay."""
    names = [_identity(table) for table in ruleset.tables]
    return _text(line for name in names for line in (f"table {name} {{}}", f"flush table {name}"))


def render_refresh(ruleset: Ruleset) -> str:
    """Every rule anew, sets and their elements kept.

    Static sets, which change with the node, and interval sets (not `dynamic` ones), which are small, are refilled with
    the elements that the ruleset has. Sets that are missing are added, all others empty; those that exist, and base
    chains, must be of the type that they have in the kernel, or it refuses the whole text. A set or chain that the
    ruleset no longer has stays behind, out of use.
    """
    return "\n".join(_text(_refresh(table)) for table in ruleset.tables)


def _refresh(table: Table) -> Iterator[str]:
    name = _identity(table)
    refilled = [named for named in table.sets if named.static or (named.interval and not named.dynamic)]
    # Chains are declared before any rule is: rules refer to chains that stand further down, and only a chain
    # that exists can be flushed.
    yield from _table(table, [*_timeouts(table), *_sets(table, elements=False), *_chains(table, rules=False)])
    yield from (f"flush chain {name} {chain.name}" for chain in table.chains)
    yield from (f"flush {_noun(named)} {name} {named.name}" for named in refilled)
    for named in refilled:
        if named.elements:
            yield from _block(f"add element {name} {named.name}", spell_elements(named, named.elements))
    yield from _table(table, _chains(table))


def _table(table: Table, body: _Lines) -> Iterator[str]:
    lines = list(body)
    return _block(f"table {_identity(table)}", lines[1:] if lines[:1] == [""] else lines)


def _identity(table: Table) -> str:
    return f"{table.family} {check_name('table', table.name)}"


def _timeouts(table: Table) -> Iterator[str]:
    for timeouts in table.timeouts:
        seconds = ", ".join(f"{state} : {seconds}" for state, seconds in timeouts.seconds)
        body = [f"protocol {timeouts.protocol}", f"policy = {{ {seconds} }}"]
        yield from _block(f"ct timeout {check_name('timeouts', timeouts.name)}", body)


def _sets(table: Table, *, elements: bool) -> Iterator[str]:
    for named in table.sets:
        head = f"{_noun(named)} {check_name('set', named.name)}"
        body = list(spell_definition(named))
        if elements and named.elements:
            body += _block("elements =", spell_elements(named, named.elements))
        if len(body) == 1:
            yield f"{head} {{ {body[0]}; }}"
        else:
            yield from _block(head, body)


def _noun(named: NamedSet) -> str:
    return "map" if named.data else "set"


def _chains(table: Table, *, rules: bool = True) -> Iterator[str]:
    for chain in table.chains:
        head = [spell_hook(chain.hook)] if chain.hook else []
        body = [_located(table, chain, index) for index in range(len(chain.rules))] if rules else []
        yield from ("", *_block(f"chain {check_name('chain', chain.name)}", [*head, *body]))


def _located(table: Table, chain: Chain, index: int) -> str:
    """The rule's text; an error names the rule, not only the word in it that is wrong.

    A rule that nft would compile into something of its own making is refused here already.
    """
    try:
        hidden_checks(table.family, chain.rules[index])
        return spell_rule(chain.rules[index])
    except InvalidSpec as error:
        place = f"{table.family} {table.name} {chain.name} rule {index}: {error.field}"
        raise InvalidSpec(place, error.value, error.reason) from error


def _block(head: str, body: _Lines) -> Iterator[str]:
    lines = list(body)
    if not lines:
        yield f"{head} {{}}"
        return
    yield f"{head} {{"
    yield from (f"\t{line}" if line else "" for line in lines)
    yield "}"


def _text(lines: _Lines) -> str:
    return "".join(f"{line}\n" for line in lines)
