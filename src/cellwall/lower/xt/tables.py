"""Typed input of iptables-restore, ip6tables-restore and ebtables-restore: chains, jumps to them, and their text.

A restore with --noflush flushes exactly the chains that its text declares and is one commit per table, so a table of
ours is replaced as a whole: its chains are declared and filled, and the jumps are put first only then. Rendered last;
what stands already (the text of a save) is an argument, so that a jump is never there twice and a chain that no longer
exists goes in the same commit.

A chain is ours by its name (`chains`), a jump where it is exactly what we lay: from a built-in chain to that of its
name, without a match. Rules of others that lead to a chain of ours stay, and keep that chain, until everything of ours
goes and they cannot stay without it.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal

import msgspec

from cellwall.errors import InvalidSpec
from cellwall.lower.xt.chains import PREFIX, hook_chain, is_own_chain

Family = Literal["ipv4", "ipv6", "bridge"]
TableName = Literal["raw", "mangle", "nat", "filter", "security"]
HookName = Literal["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"]

# What u32 and conntrack are asked stands unquoted; no shell reads it.
_WORD = re.compile(r"[A-Za-z0-9_.:/+,!=\[\]&>@\-]+", re.ASCII)
_OWN_JUMP = re.compile(rf"-A (PREROUTING|INPUT|FORWARD|OUTPUT|POSTROUTING) -j {PREFIX}\1", re.ASCII)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_SAID = re.compile(r"[A-Z]+ (?:deny|watch) (?:out|in): [ !#-\[\]-~]+", re.ASCII)  # `compile.reasons`
_PROGRAM = re.compile(r"[0-9]+(,[0-9]+ [0-9]+ [0-9]+ [0-9]+)+", re.ASCII)
_MAX_COMMENT = 255


class XtRule(msgspec.Struct, frozen=True):
    """`matches` are arguments in order (`-i`, `b9_br0`, …), `target` those from `-j` or `-g` on."""

    matches: tuple[str, ...]
    target: tuple[str, ...]
    comment: str = ""


class XtChain(msgspec.Struct, frozen=True):
    """A chain of ours, by its `name` (`chains.is_own_chain`)."""

    name: str
    rules: tuple[XtRule, ...]


class XtTable(msgspec.Struct, frozen=True):
    """What is ours in one table of one family. `hooks`: the built-in chains with a jump to ours of that name
    (`chains.hook_chain`), before all else there."""

    family: Family
    name: TableName
    chains: tuple[XtChain, ...]
    hooks: tuple[HookName, ...] = ()


def render_tables(tables: Iterable[XtTable], saved: str = "") -> str:
    """The text of several tables of one family; `saved` is what the family's save program says of them now."""
    return "".join(render_table(table, saved) for table in tables)


def render_table(table: XtTable, saved: str = "") -> str:
    """The text of one table, as one COMMIT: all of it or nothing."""
    standing = _section(saved, table.name)
    names = [_chain_name(chain.name) for chain in table.chains]
    former = [name for name in _own_chains(standing) if name not in names]
    policy = "ACCEPT" if table.family == "bridge" else "-"
    lines = [f"*{table.name}"]
    lines += [f":{name} {policy}" + ("" if table.family == "bridge" else " [0:0]") for name in (*names, *former)]
    for chain in table.chains:
        lines += [render_rule("-A", chain.name, rule, table.family) for rule in chain.rules]
    lines += _jump_lines(table, standing)
    kept = {_led_to(line) for line in _foreign_jumps(standing)}
    lines += [f"-X {name}" for name in former if name not in kept]
    return "\n".join([*lines, "COMMIT", ""])


def is_ours_alone(saved: str, name: TableName) -> bool:
    """Whether a table that a save program printed has neither a rule nor a chain nor a policy of others."""
    standing = _section(saved, name)
    foreign = [line for line in standing if line.startswith("-A ") and not _is_in_own_chain(line)]
    chains = [line[1:].split() for line in standing if line.startswith(":")]
    return all(map(_OWN_JUMP.fullmatch, foreign)) and all(
        chain[1] == "ACCEPT" or is_own_chain(chain[0]) for chain in chains
    )


def render_changes(family: Family, added: Sequence[XtRule], removed: Sequence[XtRule], chain: str) -> str:
    """Rules of one chain of the nat table that come and go, the rest of it untouched: one COMMIT, "" for no change."""
    if not added and not removed:
        return ""
    lines = [render_rule("-A", chain, rule, family) for rule in added]
    lines += [render_rule("-D", chain, rule, family) for rule in removed]
    return "\n".join(["*nat", *lines, "COMMIT", ""])


def render_removal(saved: str, family: Family) -> str:
    """The text that takes everything of ours out of what a save program printed, `foreign_jumps` with it, and leaves
    the rest as it is. Of several tables `mangle` goes first (see `wall`)."""
    texts = []
    for name in sorted(_table_names(saved), key=lambda name: name != "mangle"):
        standing = _section(saved, name)
        own = _own_chains(standing)
        jumps = [f"-D{line[2:]}" for line in (*_own_jumps(standing), *_foreign_jumps(standing))]
        if own or jumps:
            policy = " ACCEPT" if family == "bridge" else " - [0:0]"
            emptied = [f":{chain}{policy}" for chain in own]
            texts += [f"*{name}", *emptied, *jumps, *(f"-X {chain}" for chain in own), "COMMIT", ""]
    return "\n".join(texts)


def own_lines(saved: str) -> tuple[str, ...]:
    """What a save program says of our chains, counters left out: jumps with their place in the built-in chain."""
    found = []
    for name in _table_names(saved):
        places: dict[str, int] = {}
        for line in _section(saved, name):
            hook = line.split()[1] if line.startswith("-A ") else ""
            places[hook] = places.get(hook, 0) + 1
            if _is_in_own_chain(line):
                found.append(f"{name} {line}")
            elif _OWN_JUMP.fullmatch(line):
                found.append(f"{name} {line} at {places[hook]}")
    return tuple(found)


def foreign_jumps(saved: str) -> tuple[str, ...]:
    """The rules of others that lead to a chain of ours, with their tables: no chain goes while one leads to it."""
    return tuple(f"{name} {line}" for name in _table_names(saved) for line in _foreign_jumps(_section(saved, name)))


def others(saved: str) -> int:
    """How many rules of a save program's text are neither in a chain of ours nor a jump of ours."""
    lines = [line.strip() for line in saved.splitlines() if line.startswith("-A ")]
    return sum(not _is_in_own_chain(line) and not _OWN_JUMP.fullmatch(line) for line in lines)


def render_rule(flag: Literal["-A", "-D"], chain: str, rule: XtRule, family: Family = "ipv4") -> str:
    """One rule as the restore programs read it. InvalidSpec for a word that a rule cannot carry safely."""
    comment: tuple[str, ...] = ()
    if rule.comment and family != "bridge":  # ebtables-restore has no comments
        comment = ("-m", "comment", "--comment", f'"{_comment(rule.comment)}"')
    words = [flag, chain, *map(_word, rule.matches), *comment, *map(_word, rule.target)]
    return " ".join(words)


def _jump_lines(table: XtTable, standing: Sequence[str]) -> list[str]:
    """Delete every jump that is there and put ours first; nothing where all stand where they should."""
    wanted = [f"{hook} -j {hook_chain(hook)}" for hook in table.hooks]
    present = _own_jumps(standing)
    complete = sorted(present) == sorted(f"-A {jump}" for jump in wanted)
    if complete and all(_is_first(line, standing) for line in present):
        return []
    gone = [f"-D{line[2:]}" for line in present]
    # ebtables counts rules as the others do, but `-I` without a number is first in all of them.
    return [*gone, *(f"-I {jump}" for jump in wanted)]


def _is_first(line: str, standing: Sequence[str]) -> bool:
    hook = line.split()[1]
    return next(other for other in standing if other.startswith(f"-A {hook} ")) == line


def _own_jumps(standing: Sequence[str]) -> list[str]:
    return [line for line in standing if _OWN_JUMP.fullmatch(line)]


def _foreign_jumps(standing: Sequence[str]) -> list[str]:
    rules = [line for line in standing if line.startswith("-A ") and not _is_in_own_chain(line)]
    return [line for line in rules if _led_to(line) and not _OWN_JUMP.fullmatch(line)]


def _led_to(line: str) -> str:
    """The chain of ours that a rule leads to, "" for none. What stands in quotes is a comment or a pattern."""
    words = _QUOTED.sub('""', line).split()
    targets = (name for flag, name in pairwise(words) if flag in ("-j", "-g"))
    return next((name for name in targets if is_own_chain(name)), "")


def _own_chains(standing: Sequence[str]) -> list[str]:
    names = [line[1:].split()[0] for line in standing if line.startswith(":")]
    return [name for name in names if is_own_chain(name)]


def _is_in_own_chain(line: str) -> bool:
    return line.startswith(f"-A {PREFIX}") and is_own_chain(line.split()[1])


def _table_names(saved: str) -> list[str]:
    return [line[1:].strip() for line in saved.splitlines() if line.startswith("*")]


def _section(saved: str, name: str) -> list[str]:
    """The lines of one table in the output of a save program."""
    lines: list[str] = []
    inside = False
    for line in saved.splitlines():
        if line.startswith("*"):
            inside = line[1:].strip() == name
        elif inside:
            lines.append(line.strip())
    return lines


def _word(word: str) -> str:
    if _PROGRAM.fullmatch(word) is not None or _SAID.fullmatch(word) is not None:
        return f'"{word}"'
    if _WORD.fullmatch(word) is None:
        raise InvalidSpec("iptables argument", word, "has a character that a rule cannot carry safely")
    return word


def _comment(text: str) -> str:
    if len(text) > _MAX_COMMENT or not text.isascii() or not text.isprintable() or '"' in text or "\\" in text:
        raise InvalidSpec("iptables comment", text, "must be at most 255 printable characters without quotes")
    return text


def _chain_name(name: str) -> str:
    if not is_own_chain(name):
        raise InvalidSpec("iptables chain", name, "is not one of ours")
    return name
