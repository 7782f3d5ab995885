"""What a rule says of a packet that it denies, as text of a log's prefix: `FWD deny out: the floor`.

Owns: the format, both ways. nft's prefixes have room for 127 characters, iptables' for 63, and the kernel cuts what is
longer (net/netfilter/nfnetlink_log.c); so what no reason needs is left out. Pure.
"""

import re
from typing import Literal, cast

import msgspec

from cellwall.errors import InvalidSpec

MAX_PREFIX = 63
"""Characters of the shorter of the two; the terminating zero is beside them."""

Judgement = Literal["deny", "watch"]
"""`watch`: it passed, and would have been denied by what is only watched."""

Direction = Literal["out", "in"]
"""Of the packet and not of its flow: `out` is what an endpoint sent, `in` what was sent to one."""

_WATCHED = re.compile(r", which (only watches|is only watched)$")
_PREFIX = re.compile(r"([A-Z]+) (deny|watch) (out|in): (.+)")


class Reason(msgspec.Struct, frozen=True):
    """Why a packet was denied, or would have been: the layer of the wall, and the clause's own words."""

    layer: str
    judgement: Judgement
    direction: Direction
    why: str


def format_reason(reason: Reason) -> str:
    """The prefix that a rule logs with. InvalidSpec where it does not fit, or would not be read back."""
    text = f"{reason.layer} {reason.judgement} {reason.direction}: {_WATCHED.sub('', reason.why)}"
    if len(text) > MAX_PREFIX:
        raise InvalidSpec("log prefix", text, f"longer than {MAX_PREFIX} characters")
    if _PREFIX.fullmatch(text) is None or not (text.isascii() and text.isprintable()):
        raise InvalidSpec("log prefix", text, "must be a layer in capitals and printable ASCII")
    return text


def parse_reason(prefix: str) -> Reason | None:
    """What a rule of ours meant; None for a prefix of somebody else's."""
    read = _PREFIX.fullmatch(prefix)
    if read is None:
        return None
    layer, judgement, direction, why = read.groups()
    return Reason(layer, cast(Judgement, judgement), cast(Direction, direction), why)
