"""The iptables rules of beta9's own networking: which they are, and which go once the wall stands. Pure.

Those that let something pass go; for those that keep a container from the network a policy stands in
(`former_policies`). A rule is beta9's that has one of the forms in which its worker writes them, whole, as iptables
tells it: whatever asks for more, or for less, is somebody else's and stays.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address

import msgspec

from cellwall.engine.predecessor.remains import OldRule, Removal
from cellwall.model.addresses import Address
from cellwall.model.endpoint import PortBinding
from cellwall.names import SECURITY_CHAIN

NOTE = r'-m comment --comment "?((?:b9h|b9_veth_h_)[^\s:"]*):([^\s:"]+)(?::[^\s:"]+)?"?'
"""By which beta9 signs rules: the host end and the container, its two groups."""
_PUBLISHES = re.compile(
    rf"-p (tcp|udp) -m \1 --dport (\d+) {NOTE} -j DNAT --to-destination (?:\[([0-9a-f:.]+)\]|([0-9.]+)):(\d+)"
)
_SIGNED_ACCEPTS = (
    re.compile(rf"-d \S+ -p (tcp|udp) -m \1 --dport \d+ {NOTE} -j ACCEPT"),
    re.compile(rf"-s \S+ (-d \S+ )?-o \S+ {NOTE} -j ACCEPT"),
)
"""To a published port, and to what the list of a container allows."""
_LINKS = re.compile(r"-i (\S+) -o (\S+) -j ACCEPT")
_MASQUERADE = re.compile(r"-s (\S+) -o (\S+) -j MASQUERADE")
_SOURCES = ("192.168.0.0/20", "192.168.1.0/24", "fd00:abcd::/64")
"""Whatever the network is called here: these are constants of beta9's versions."""


class Published(msgspec.Struct, frozen=True):
    """A port that a rule publishes, and for whom."""

    veth: str
    container: str
    address: Address
    binding: PortBinding


def published(rules: Iterable[OldRule]) -> Iterator[Published]:
    """The ports that rules of beta9's publish, in the order in which the kernel asks them."""
    for rule in rules:
        if (rule.table, rule.chain) == ("nat", "PREROUTING") and (found := _PUBLISHES.fullmatch(rule.text)):
            protocol, port, veth, container, address6, address4, target = found.groups()
            binding = PortBinding("udp" if protocol == "udp" else "tcp", int(port), int(target))
            yield Published(veth, container, ip_address(address6 or address4), binding)


def removals(rules: Sequence[OldRule], bridge: str, uplink: str, *, chain: bool) -> tuple[Removal, ...]:
    """How the rules go that the wall replaces. `chain`: beta9's own security chain, too."""
    chains = _security_chains(rules) if chain else frozenset()
    gone = [rule for rule in rules if _is_replaced(rule, bridge, uplink, chains)]
    lines = [removal(rule) for rule in gone]
    for program in sorted({rule.program for rule in rules if rule.chain == SECURITY_CHAIN} & chains):
        lines += [Removal(program, "filter", f"-{flag} {SECURITY_CHAIN}") for flag in "FX"]
    return tuple(lines)


def removal(rule: OldRule) -> Removal:
    """How that one goes."""
    return Removal(rule.program, rule.table, f"-D {rule.chain} {rule.text}")


def accepts(rule: OldRule, bridge: str) -> bool:
    """A FORWARD rule by which beta9 lets traffic of the bridge's pass."""
    if (rule.table, rule.chain) != ("filter", "FORWARD"):
        return False
    signed = any(form.fullmatch(rule.text) for form in _SIGNED_ACCEPTS)
    return signed or _other_link(rule, bridge) is not None


def _is_replaced(rule: OldRule, bridge: str, uplink: str, chains: frozenset[str]) -> bool:
    match rule.table, rule.chain:
        case "filter", "FORWARD":
            if rule.text == f"-j {SECURITY_CHAIN}":
                return rule.program in chains
            return accepts(rule, bridge) and _other_link(rule, bridge) in (None, uplink)
        case "nat", "PREROUTING":
            return _PUBLISHES.fullmatch(rule.text) is not None
        case "nat", "POSTROUTING":
            found = _MASQUERADE.fullmatch(rule.text)
            return found is not None and found[1] in _SOURCES and found[2] == uplink
        case _:
            return False


def _other_link(rule: OldRule, bridge: str) -> str | None:
    """Of a rule between the bridge and another link that one; beta9 writes them for the node's way out."""
    found = _LINKS.fullmatch(rule.text)
    if found is None or found.groups().count(bridge) != 1:
        return None
    return found[2] if found[1] == bridge else found[1]


def _security_chains(rules: Iterable[OldRule]) -> frozenset[str]:
    """The programs whose security chain only beta9's own jump leads to: with another one it is not ours to delete."""
    filters = [rule for rule in rules if rule.table == "filter"]
    led = {rule.program for rule in filters if re.search(rf"-[jg] {SECURITY_CHAIN}$", rule.text) and not _leads(rule)}
    return frozenset(rule.program for rule in filters) - led


def _leads(rule: OldRule) -> bool:
    return (rule.chain, rule.text) == ("FORWARD", f"-j {SECURITY_CHAIN}")
