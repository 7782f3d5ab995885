"""Typed iptables-restore input: chains of rules, each a list of matches and a target. Rendered last."""

import re
from typing import Literal

import msgspec

from cellwall.errors import InvalidSpec

_WORD = re.compile(r"[A-Za-z0-9_.:/+,!=\-]+", re.ASCII)
_MAX_CHAIN_NAME = 28  # XT_EXTENSION_MAXNAMELEN less its zero


class XtRule(msgspec.Struct, frozen=True):
    """`matches` are arguments in order (`-i`, `b9_br0`, …), `target` those from `-j` or `-g` on."""

    matches: tuple[str, ...]
    target: tuple[str, ...]
    comment: str = ""


class XtChain(msgspec.Struct, frozen=True):
    name: str
    rules: tuple[XtRule, ...]


class XtTable(msgspec.Struct, frozen=True):
    """One table of one family; `program` reads it with --noflush, which flushes exactly the chains declared here."""

    program: Literal["iptables-restore", "ip6tables-restore"]
    name: Literal["filter", "raw", "mangle", "nat"]
    chains: tuple[XtChain, ...]


def render_table(table: XtTable) -> str:
    """The text of one table, as one COMMIT: all of it or nothing."""
    lines = [f"*{table.name}"]
    lines += [f":{_chain_name(chain.name)} - [0:0]" for chain in table.chains]
    for chain in table.chains:
        lines += [_render_rule(chain.name, rule) for rule in chain.rules]
    return "\n".join([*lines, "COMMIT", ""])


def _render_rule(chain: str, rule: XtRule) -> str:
    comment = ("-m", "comment", "--comment", f'"{_comment(rule.comment)}"') if rule.comment else ()
    words = ["-A", chain, *(_word(word) for word in rule.matches), *comment, *(_word(word) for word in rule.target)]
    return " ".join(words)


def _word(word: str) -> str:
    if _WORD.fullmatch(word) is None:
        raise InvalidSpec("iptables argument", word, "has a character that a rule cannot carry safely")
    return word


def _comment(text: str) -> str:
    if len(text) > 255 or not text.isascii() or not text.isprintable() or '"' in text or "\\" in text:
        raise InvalidSpec("iptables comment", text, "must be at most 255 printable characters without quotes")
    return text


def _chain_name(name: str) -> str:
    if len(name) > _MAX_CHAIN_NAME:
        raise InvalidSpec("iptables chain", name, f"is longer than {_MAX_CHAIN_NAME} characters")
    return _word(name)
