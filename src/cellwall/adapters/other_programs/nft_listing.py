"""Forward chains of others out of nft's JSON (libnftables-json(5)). Pure.

Owns: what becomes of an expression. A rule that asks for what no `Condition` has a word for is left out, as is one that
neither ends a packet's way nor leads anywhere.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from cellwall.engine.node.foreign_chains import Condition, NftChain, NftRule

Listing = Sequence[Mapping[str, Any]]

_ASKS: dict[tuple[str, str], Literal["enters", "leaves", "family", "state", "status"]] = {
    ("meta", "iifname"): "enters",
    ("meta", "iif"): "enters",
    ("meta", "oifname"): "leaves",
    ("meta", "oif"): "leaves",
    ("meta", "nfproto"): "family",
    ("ct", "state"): "state",
    ("ct", "status"): "status",
}
_ENDS: dict[str, Literal["accept", "drop", "return", "jump", "goto"]] = {
    "accept": "accept",
    "drop": "drop",
    "reject": "drop",
    "return": "return",
    "jump": "jump",
    "goto": "goto",
}
_NO_QUESTION = ("counter", "log", "mangle")


def read_chain(listing: Listing, family: str, table: str, name: str) -> NftChain:
    """One base chain, with all that it may lead to."""
    rules: dict[str, list[NftRule]] = {}
    drops = False
    for entry in listing:
        if "rule" in entry:
            read = _rule(entry["rule"]["expr"])
            rules.setdefault(entry["rule"]["chain"], []).extend([] if read is None else [read])
        elif "chain" in entry and entry["chain"]["name"] == name:
            drops = entry["chain"].get("policy") == "drop"
    return NftChain(family, table, name, drops, rules)


def _rule(expressions: Sequence[Mapping[str, Any]]) -> NftRule | None:
    conditions: list[Condition] = []
    for expression in expressions:
        kind, content = next(iter(expression.items()))
        if kind in _ENDS:
            target = content["target"] if kind in ("jump", "goto") else ""
            return NftRule(tuple(conditions), _ENDS[kind], target)
        if kind == "match" and (condition := _condition(content)) is not None:
            conditions.append(condition)
        elif kind not in _NO_QUESTION:
            return None
    return None


def _condition(match: Mapping[str, Any]) -> Condition | None:
    match match["left"]:
        case {"meta": {"key": str(key)}}:
            asks = _ASKS.get(("meta", key))
        case {"ct": {"key": str(key)}}:
            asks = _ASKS.get(("ct", key))
        case _:
            asks = None
    return None if asks is None else Condition(asks, tuple(_words(match["right"])), match["op"] == "!=")


def _words(right: object) -> Iterator[str]:
    """The words of a value, a list or an anonymous set."""
    if isinstance(right, str):
        yield right
    elif isinstance(right, (list, dict)):
        for item in right.values() if isinstance(right, dict) else right:
            yield from _words(item)
