"""Policies as lists that hash sets can hold: which forms they need, and the entries of each rule.

A set is asked for one value, so a rule that speaks of ports is cut into blocks that share their first bits, as networks
are by their prefix. What has no effect has no entry: an allowance where everything is allowed, any rule where nothing
is.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Literal

import msgspec

from cellwall.compile.usage import PolicyForm, PolicyUsage
from cellwall.model.addresses import PROTOCOL_NUMBERS, Prefix
from cellwall.model.policy import Policy, Rule, TierName, Tiers

PORT_BITS = 16
EVERY_PORT = (0, 65535)
State = Literal["limits", "blocks", "lists", "guards", "watches"]
"""See `compile.policy_words.Under`."""


class Listing(msgspec.Struct, frozen=True):
    """What an entry of a list is, beside the endpoint: a network, a protocol (0: no part of the form), and the first
    port of a block (likewise)."""

    form: PolicyForm
    network: int
    protocol: int = 0
    port: int = 0


def limits(policy: Policy) -> bool:
    """Whether it says anything of what is opened."""
    return policy.mode != "open" or any(rule.action == "deny" or rule.lists_mail for rule in policy.rules)


def states(policy: Policy) -> Iterator[State]:
    """What holds of an endpoint under it."""
    if limits(policy):
        yield "limits"
    if policy.mode == "block":
        yield "blocks"
    if policy.mode == "allow":
        yield "lists"
    if policy.sources is not None:
        yield "guards"
    if policy.monitor and (limits(policy) or policy.sources is not None):
        yield "watches"


@lru_cache(maxsize=64)  # the same policy is asked for by each of its endpoints, before and after
def policy_listings(tier: TierName, policy: Policy) -> tuple[Listing, ...]:
    """What all lists of a policy hold, each once."""
    found: dict[Listing, None] = {}
    for rule in policy.rules:
        if policy.mode == "allow" or (policy.mode == "open" and rule.action == "deny"):
            found.update(dict.fromkeys(_of_rule(tier, rule)))
    for source in policy.sources or ():
        found[Listing(PolicyForm(tier, "clients", *_network(source)), int(source.network_address))] = None
    return tuple(found)


def policy_usage(several: Iterable[Tiers]) -> PolicyUsage:
    """The forms that these policies need."""
    usage = PolicyUsage()
    for tiers in several:
        named = tuple(tiers.named())
        usage = usage.union(
            PolicyUsage(
                tuple(tier for tier, policy in named if limits(policy)),
                tuple(tier for tier, policy in named if policy.sources is not None),
                tuple({listing.form for tier, policy in named for listing in policy_listings(tier, policy)}),
                tiers.tenant.links,
                any(tiers.lists_mail(version) for version in (4, 6)),
            )
        )
    return usage


def port_blocks(first: int, last: int) -> Iterator[tuple[int, int]]:
    """(first port, how many leading bits they share) of the fewest blocks that are exactly these ports."""
    while first <= last:
        size = first & -first or 1 << PORT_BITS
        while size > last - first + 1:
            size >>= 1
        yield first, PORT_BITS + 1 - size.bit_length()
        first += size


def _of_rule(tier: TierName, rule: Rule) -> Iterator[Listing]:
    family, length = _network(rule.prefix)
    network = int(rule.prefix.network_address)
    if rule.ports is None and rule.protocol == "any":
        yield Listing(PolicyForm(tier, rule.action, family, length), network)
        return
    for protocol in _protocols(rule):
        if rule.ports in (None, EVERY_PORT):
            yield Listing(PolicyForm(tier, rule.action, family, length, "protocol"), network, protocol)
            continue
        assert rule.ports is not None
        for port, bits in port_blocks(*rule.ports):
            yield Listing(PolicyForm(tier, rule.action, family, length, "ports", bits), network, protocol, port)


def _protocols(rule: Rule) -> tuple[int, ...]:
    """Only TCP and UDP have ports."""
    if rule.protocol == "any":
        return PROTOCOL_NUMBERS["tcp"], PROTOCOL_NUMBERS["udp"]
    name = "icmpv6" if rule.protocol == "icmp" and rule.prefix.version == 6 else rule.protocol
    return (PROTOCOL_NUMBERS[name],)


def _network(prefix: Prefix) -> tuple[int, int]:
    return prefix.version, prefix.prefixlen
