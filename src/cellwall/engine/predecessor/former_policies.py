"""What beta9's rules let a container open, as a policy of its endpoint: nothing (`block_network`), or what a list has.
Pure.

beta9 writes a rule that drops whatever the container opens, and before it one for each network that is allowed. Where
the wall is in iptables it accepts ahead of both, and where it is not they would stay behind for the next holder of the
address: so the wall takes over what they say, and they go. A list that cannot be meant as it stands becomes less, never
more.
"""

import re
from collections.abc import Container, Iterable
from ipaddress import ip_network

from cellwall.engine.predecessor.former_rules import NOTE
from cellwall.engine.predecessor.remains import OldRule
from cellwall.errors import InvalidSpec
from cellwall.model.addresses import Prefix
from cellwall.model.policy import OPEN, Policy, Rule
from cellwall.model.policy_check import ground_of, validate_policy
from cellwall.model.settings import Settings

_BLOCKS = re.compile(rf"-s (\S+)/(?:32|128) -o \S+ -m conntrack ! --ctstate RELATED,ESTABLISHED (?:{NOTE} )?-j DROP")
_ALLOWS = re.compile(rf"-s (\S+)/(?:32|128) (?:-d ([0-9a-f:.]+/\d+) )?-o \S+ {NOTE} -j ACCEPT")
_EVERYTHING: dict[bool, str] = {False: "0.0.0.0/0", True: "::/0"}


def former_policy(rules: Iterable[OldRule], addresses: Container[str], settings: Settings) -> Policy:
    """The policy of whoever has these addresses."""
    rules = tuple(rules)
    if not any(blocks(rule, addresses) for rule in rules):
        return OPEN
    policy = Policy(mode="block")
    for prefix in sorted({*_allowed(rules, addresses)}, key=lambda prefix: (prefix.prefixlen, str(prefix))):
        allowance = Rule("allow", prefix)
        if any(rule.holds(allowance) for rule in policy.rules):
            continue
        wider = Policy(mode="allow", rules=(*policy.rules, allowance))
        try:
            validate_policy(wider, ground_of(settings, ()), "endpoint")
        except InvalidSpec:
            continue  # the floor denies it whole
        policy = wider
    return policy


def blocks(rule: OldRule, addresses: Container[str]) -> bool:
    """The rule by which beta9 drops what whoever has one of these addresses opens."""
    found = _BLOCKS.fullmatch(rule.text) if (rule.table, rule.chain) == ("filter", "FORWARD") else None
    return found is not None and found[1] in addresses


def _allowed(rules: Iterable[OldRule], addresses: Container[str]) -> Iterable[Prefix]:
    for rule in rules:
        found = _ALLOWS.fullmatch(rule.text) if (rule.table, rule.chain) == ("filter", "FORWARD") else None
        if found is not None and found[1] in addresses:
            yield ip_network(found[2] or _EVERYTHING[":" in found[1]], strict=False)
