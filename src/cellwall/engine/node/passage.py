"""Whether a forward chain of others lets a flow through, as far as its rules speak of links, states and families alone.

Owns: a walk over the rules. Those that ask for anything else (addresses, ports, sets, marks, limits) were left out when
they were read, as if never met: "passes" is the answer for packets that none of them is about. Pure.
"""

from fnmatch import fnmatchcase
from typing import Literal

import msgspec

from cellwall.engine.node.foreign_chains import Condition, NftChain, NftRule

_Verdict = Literal["accept", "drop", "return", ""]


class Crossing(msgspec.Struct, frozen=True):
    """The first packet of a flow in the forward hook. `translated`: a published port led it here."""

    iifname: str
    oifname: str
    family: Literal["ip", "ip6"]
    translated: bool = False


def passes(chain: NftChain, crossing: Crossing) -> bool:
    """Whether the base chain lets it through."""
    verdict = _walk(chain, chain.name, crossing)
    return verdict == "accept" or (verdict != "drop" and not chain.drops)


def _walk(chain: NftChain, name: str, crossing: Crossing) -> _Verdict:
    for rule in chain.rules.get(name, ()):
        if not all(_met(condition, crossing) for condition in rule.conditions):
            continue
        verdict = _end(chain, rule, crossing)
        if verdict == "return":
            return ""
        if verdict:
            return verdict
    return ""


def _end(chain: NftChain, rule: NftRule, crossing: Crossing) -> _Verdict:
    if rule.verdict == "jump":
        return _walk(chain, rule.target, crossing)
    if rule.verdict == "goto":
        return _walk(chain, rule.target, crossing) or "return"
    return rule.verdict


def _met(condition: Condition, crossing: Crossing) -> bool:
    known = _answer(condition, crossing)
    return any(fnmatchcase(known, text) for text in condition.wanted) != condition.negated


def _answer(condition: Condition, crossing: Crossing) -> str:
    match condition.asks:
        case "enters":
            return crossing.iifname
        case "leaves":
            return crossing.oifname
        case "family":
            return "ipv4" if crossing.family == "ip" else "ipv6"
        case "state":
            return "new"
        case "status":
            return "dnat" if crossing.translated else "confirmed"
