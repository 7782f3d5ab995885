"""Whether a forward chain of others lets a flow through, as far as its rules speak of links, states and families alone.

Owns: a walk over nft's JSON listing. What it cannot judge (addresses, ports, sets, marks, limits) it takes for not met:
the answer "passes" is sure, the other one means that no rule lets *everything* through. Pure.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal

import msgspec

Listing = Sequence[Mapping[str, Any]]
_Verdict = Literal["accept", "drop", "return", ""]


class Crossing(msgspec.Struct, frozen=True):
    """The first packet of a flow in the forward hook. `translated`: a published port led it here."""

    iifname: str
    oifname: str
    family: Literal["ip", "ip6"]
    translated: bool = False


def passes(listing: Listing, chain: str, crossing: Crossing) -> bool:
    """Whether the base chain of that name lets it through for sure."""
    rules: dict[str, list[Sequence[Mapping[str, Any]]]] = {}
    policy = "accept"
    for entry in listing:
        if "rule" in entry:
            rules.setdefault(entry["rule"]["chain"], []).append(entry["rule"]["expr"])
        elif "chain" in entry and entry["chain"]["name"] == chain:
            policy = entry["chain"].get("policy", "accept")
    return (_walk(rules, chain, crossing) or policy) in ("accept", "return" if policy == "accept" else "accept")


def _walk(rules: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], chain: str, crossing: Crossing) -> _Verdict:
    for expressions in rules.get(chain, ()):
        verdict = _rule(rules, expressions, crossing)
        if verdict == "return":
            return ""
        if verdict:
            return verdict
    return ""


def _rule(
    rules: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]],
    expressions: Sequence[Mapping[str, Any]],
    crossing: Crossing,
) -> _Verdict:
    for expression in expressions:
        kind, content = next(iter(expression.items()))
        if kind == "match":
            if not _met(content, crossing):
                return ""
        elif kind == "accept":
            return "accept"
        elif kind in ("drop", "reject"):
            return "drop"
        elif kind == "return":
            return "return"
        elif kind == "jump":
            return _walk(rules, content["target"], crossing)
        elif kind == "goto":
            return _walk(rules, content["target"], crossing) or "return"
        elif kind not in ("counter", "log", "mangle"):
            return ""  # whatever it asks, it is not known to be met
    return ""


def _met(match: Mapping[str, Any], crossing: Crossing) -> bool:
    known = _value(match["left"], crossing)
    if known is None:
        return False
    wanted = [text for text in _flat(match["right"]) if isinstance(text, str)]
    found = any(fnmatchcase(known, text) for text in wanted)
    return not found if match["op"] == "!=" else found


def _value(left: object, crossing: Crossing) -> str | None:
    match left:
        case {"meta": {"key": "iifname" | "iif"}}:
            return crossing.iifname
        case {"meta": {"key": "oifname" | "oif"}}:
            return crossing.oifname
        case {"meta": {"key": "nfproto"}}:
            return "ipv4" if crossing.family == "ip" else "ipv6"
        case {"ct": {"key": "state"}}:
            return "new"
        case {"ct": {"key": "status"}}:
            return "dnat" if crossing.translated else "confirmed"
    return None


def _flat(right: object) -> list[object]:
    if isinstance(right, list):
        return [leaf for item in right for leaf in _flat(item)]
    if isinstance(right, dict):
        return [leaf for item in right.values() for leaf in _flat(item)]
    return [right]
