"""What tables consist of, from the text in which `nft list` tells of them.

Owns: where a chain, set, map or object of a table begins and ends, and that what nft wraps is one line. What a line
means is for whoever reads it. Pure.
"""

import re
from collections.abc import Iterator

import msgspec

_TABLE = re.compile(r"table (\S+) (\S+) \{")
_BLOCK = re.compile(r"\t(chain|flowtable|set|map|ct \S+|counter|quota|limit|synproxy|secmark) (\S+) \{")
_QUOTED = re.compile(r'"[^"]*"')


class Block(msgspec.Struct, frozen=True):
    """One of a table. `kind` is nft's word (`chain`, `set`, `ct timeout`); `lines` are without indentation."""

    family: str
    table: str
    kind: str
    name: str
    lines: tuple[str, ...]


def blocks_of(listing: str) -> Iterator[Block]:
    """All of a listing, in its order; of `table … { … }` what stands beside them, as flags, is left out."""
    family = table = kind = name = ""
    lines: list[str] = []
    for line in listing.splitlines():
        if opened := _TABLE.match(line):
            family, table = opened.groups()
        elif opened := _BLOCK.match(line):
            kind, name = opened.groups()
            lines = []
        elif line == "\t}" and kind:
            yield Block(family, table, kind, name, tuple(lines))
            kind = ""
        elif kind and lines and _is_wrapped(lines[-1]):
            lines[-1] += f" {line.strip()}"
        elif kind and line.strip():
            lines.append(line.strip())


def _is_wrapped(line: str) -> bool:
    """It goes on in the next one. In quotes are comments, which say what they like."""
    if "{" not in line:
        return False
    plain = _QUOTED.sub("", line)
    return plain.count("{") > plain.count("}")
