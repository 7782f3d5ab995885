"""The iptables rules of beta9's own networking: which they are, and which go once the wall stands. Pure.

Those that let something pass go. One that keeps a container from the network stays: nothing of the wall stands in for
it.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address, ip_network
from itertools import pairwise

import msgspec

from cellwall.engine.remains import OldRule, Removal
from cellwall.model.addresses import Address
from cellwall.model.endpoint import PortBinding
from cellwall.model.network import Network
from cellwall.names import SECURITY_CHAIN

_COMMENT = re.compile(r"--comment \"?((?:b9h|b9_veth_h_)[^\s:\"]*):([^\s:\"]+)(?::([^\s:\"]+))?\"?(?: |$)")
_PUBLISHED = re.compile(r"^-p (tcp|udp) -m \1 --dport (\d+) ")
_LED_TO = re.compile(r"-j DNAT --to-destination \[?([0-9a-f.:]+?)\]?:(\d+)$")
_SOURCE = re.compile(r"^-s (\S+) ")


class Published(msgspec.Struct, frozen=True):
    """A port that a rule publishes, and for whom."""

    veth: str
    container: str
    address: Address
    binding: PortBinding


def published(rules: Iterable[OldRule]) -> Iterator[Published]:
    """The ports that rules of beta9's publish."""
    for rule in rules:
        comment, port, target = (pattern.search(rule.text) for pattern in (_COMMENT, _PUBLISHED, _LED_TO))
        if (rule.table, rule.chain) != ("nat", "PREROUTING") or not (comment and port and target):
            continue
        binding = PortBinding("udp" if port[1] == "udp" else "tcp", int(port[2]), int(target[2]))
        yield Published(comment[1], comment[2], ip_address(target[1]), binding)


def removals(rules: Sequence[OldRule], network: Network, *, chain: bool) -> tuple[Removal, ...]:
    """How the rules go that the wall replaces. `chain`: beta9's own security chain, too."""
    gone = [rule for rule in rules if _is_replaced(rule, network, chain=chain)]
    lines = [Removal(rule.program, rule.table, f"-D {rule.chain} {rule.text}") for rule in gone]
    for program in sorted({rule.program for rule in rules if chain and rule.chain == SECURITY_CHAIN}):
        lines += [Removal(program, "filter", f"-{flag} {SECURITY_CHAIN}") for flag in "FX"]
    return tuple(lines)


def _is_replaced(rule: OldRule, network: Network, *, chain: bool) -> bool:
    match rule.table, rule.chain:
        case "filter", "FORWARD":
            return accepts(rule, network) or (chain and rule.text.endswith(f"-j {SECURITY_CHAIN}"))
        case "nat", "PREROUTING":
            return _COMMENT.search(rule.text) is not None and "-j DNAT" in rule.text
        case "nat", "POSTROUTING":
            return _masquerades(rule, network)
        case _:
            return False


def accepts(rule: OldRule, network: Network) -> bool:
    """A FORWARD rule that lets the bridge's traffic pass, and that nobody else signed."""
    if (rule.table, rule.chain) != ("filter", "FORWARD") or not rule.text.endswith("-j ACCEPT"):
        return False
    words = rule.text.split()
    named = any(pair in (("-i", network.bridge), ("-o", network.bridge)) for pair in pairwise(words))
    return _COMMENT.search(rule.text) is not None or (named and "--comment" not in words)


def _masquerades(rule: OldRule, network: Network) -> bool:
    source = _SOURCE.match(rule.text)
    if source is None or not rule.text.endswith("-j MASQUERADE"):
        return False
    inside = ip_network(source[1], strict=False)
    if inside.version == 4:
        return inside.subnet_of(network.subnet4)
    return inside.subnet_of(network.subnet6)
