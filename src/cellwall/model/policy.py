"""Policies: what a tenant's sandboxes may reach, and who may reach what they publish.

A packet passes the floor, then the policy of its tenant, then that of its endpoint: two tiers, and a packet needs
both. Inside a tier deny beats allow. Nothing here opens what the floor denies.

A policy is decided over the flow's original tuple: the destination that the sandbox wrote, before any translation.
Only TCP, UDP and ICMP leave a sandbox at all, so `any` means these three.
"""

from _weakref import ref  # and not weakref, which makes kinds of dictionaries, for 0.5 ms of a CNI call
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

import msgspec

from cellwall.model.addresses import Address, Prefix

MAIL_PORT = 25
"""Where servers take mail of anybody's: what an allowance of it has to name to open it (`limits.smtp`)."""

Action = Literal["allow", "deny"]
Mode = Literal["open", "block", "allow"]
RuleProtocol = Literal["any", "tcp", "udp", "icmp"]
TierName = Literal["tenant", "endpoint"]


class Rule(msgspec.Struct, frozen=True):
    """Destinations of a sandbox. `ports`: first and last, None: all; only TCP and UDP have any. `icmp` is the ICMP of
    the prefix' family."""

    action: Action
    prefix: Prefix
    protocol: RuleProtocol = "any"
    ports: tuple[int, int] | None = None

    def covers(self, destination: Address, protocol: str, port: int = 0) -> bool:
        """Whether it speaks of that destination; `port` counts for TCP and UDP alone."""
        if self.protocol not in ("any", protocol):
            return False
        if self.ports is not None and (protocol == "icmp" or not self.ports[0] <= port <= self.ports[1]):
            return False
        return destination.version == self.prefix.version and destination in self.prefix

    @property
    def lists_mail(self) -> bool:
        """Whether it opens mail: an allowance of TCP that has ports, and that one among them."""
        named = self.ports is not None and self.ports[0] <= MAIL_PORT <= self.ports[1]
        return named and self.action == "allow" and self.protocol in ("any", "tcp")

    def holds(self, other: "Rule") -> bool:
        """Every destination of `other` is one of this rule too, whatever either does with it."""
        return (
            self.protocol in ("any", other.protocol)
            and (self.ports is None or (other.ports is not None and _inside(other.ports, self.ports)))
            and inside(other.prefix, self.prefix)
        )

    def __str__(self) -> str:
        protocol = "" if self.protocol == "any" else f" {self.protocol}"
        ports = "" if self.ports is None else f" {'-'.join(map(str, dict.fromkeys(self.ports)))}"
        return f"{self.action} {self.prefix}{protocol}{ports}"


class Policy(msgspec.Struct, frozen=True, cache_hash=True, weakref=True):
    """One tier. `mode`, of what a sandbox opens: `open` is everything but what is denied, `allow` what is allowed
    and not denied, `block` nothing.

    `sources`: the only clients of published ports, None: whoever a binding admits. `links`: sandboxes of the tenant
    reach each other, through the wall; a tenant's alone to say. `monitor`: what this tier would deny passes, and is
    counted.
    """

    mode: Mode = "open"
    rules: tuple[Rule, ...] = ()
    sources: tuple[Prefix, ...] | None = None
    links: bool = False
    monitor: bool = False


_known: dict[ref[Policy], ref[Policy]] = {}


def _forget(gone: ref[Policy]) -> None:
    _known.pop(gone, None)


def interned(policy: Policy) -> Policy:
    """Equal policies as one value: a set or a cache knows that at once, where to compare a thousand rules takes a
    millisecond, and caches are asked for every endpoint. One that nobody has any more is not kept: of a thousand rules
    it is half a MiB, and a caller may write others as long as it likes."""
    found = _known.get(ref(policy))  # references are equal while what they refer to is
    same = None if found is None else found()
    if same is None:
        kept = ref(policy, _forget)
        _known[kept] = kept
        return policy
    return same


OPEN = Policy()
"""What holds where nobody said anything: the floor alone."""


class Tiers(msgspec.Struct, frozen=True):
    """The policies that an endpoint is under, in the order in which a packet meets them. `number`: by which sandboxes
    that are linked know each other, that of their tenant's policy; 0 where it links none."""

    tenant: Policy = OPEN
    endpoint: Policy = OPEN
    number: int = 0

    def named(self) -> Iterator[tuple[TierName, Policy]]:
        """Each tier with its name."""
        yield "tenant", self.tenant
        yield "endpoint", self.endpoint

    def lists_mail(self, version: int) -> bool:
        """Whether one of the policies lists mail to that family: it is open to the endpoint then, wherever none of the
        policies denies it. Where the policy denies nothing else it has to list mail to everybody: naming one server
        would open it to all."""
        return _lists_mail(self.tenant, version) or _lists_mail(self.endpoint, version)

    @property
    def linked(self) -> bool:
        """Whether the endpoint takes part in the links of its tenant: who may open nothing opens no link either, nor
        who has a list of its own of what it may, for none can name a sandbox."""
        if not self.tenant.links or (self.tenant.mode == "block" and not self.tenant.monitor):
            return False
        return self.endpoint.mode == "open" or self.endpoint.monitor

    def linked_at(self, own: Address) -> bool:
        """The same in the family of the endpoint's address `own`: its own denial of a network that it lies in, without
        a protocol, takes it out of them there."""
        rules = () if self.endpoint.monitor else self.endpoint.rules
        return self.linked and not any(
            rule.action == "deny" and rule.protocol == "any" and _holds(rule.prefix, own) for rule in rules
        )


@lru_cache(maxsize=256)  # of a tenant's policy each of its endpoints asks
def _lists_mail(policy: Policy, version: int) -> bool:
    if policy.mode == "block":
        return False
    denies = policy.mode == "allow" and not policy.monitor
    return any(
        rule.lists_mail and rule.prefix.version == version and (denies or rule.prefix.prefixlen == 0)
        for rule in policy.rules
    )


NO_TIERS = Tiers()


class PolicyRecord(msgspec.Struct, frozen=True):
    """A policy, and the number of the change that made it so: every change of any tenant's has a greater one than those
    before it. An endpoint's is that of its flows, which changes with its tenant's policy, too."""

    policy: Policy
    generation: int

    def over(self, own: Policy) -> Tiers:
        """What an endpoint of the tenant is under that has a policy of its own."""
        return Tiers(self.policy, own, self.generation if self.policy.links else 0)


class Decision(msgspec.Struct, frozen=True):
    """What the tiers say of a packet. `tier` and `rule` (its place, None: the mode's own word) are what denied it, or
    the last that allowed it. `monitored` are the tiers that would have denied it and only watch."""

    verdict: Action
    tier: TierName = "endpoint"
    rule: int | None = None
    monitored: tuple[TierName, ...] = ()


def decide(tiers: Tiers, destination: Address, protocol: str, port: int = 0) -> Decision:
    """What a sandbox may open, floor and links aside. `protocol` is tcp, udp or icmp, that of either family."""
    monitored: list[TierName] = []
    rule: int | None = None
    for tier, policy in tiers.named():
        verdict, rule = _decide_tier(policy, destination, protocol, port)
        if verdict == "deny" and not policy.monitor:
            return Decision("deny", tier, rule, tuple(monitored))
        if verdict == "deny":
            monitored.append(tier)
    return Decision("allow", "endpoint", rule, tuple(monitored))


def admits(tiers: Tiers, client: Address) -> Decision:
    """Whether a client may ask of a published port, beyond what its binding says. `rule` is the place in `sources`."""
    monitored: list[TierName] = []
    place: int | None = None
    for tier, policy in tiers.named():
        if policy.sources is None:
            continue
        place = next((n for n, source in enumerate(policy.sources) if _holds(source, client)), None)
        if place is None and not policy.monitor:
            return Decision("deny", tier, None, tuple(monitored))
        if place is None:
            monitored.append(tier)
    return Decision("allow", "endpoint", place, tuple(monitored))


def inside(inner: Prefix, outer: Prefix) -> bool:
    """Every address of `inner` is one of `outer`."""
    return inner.version == outer.version and inner.prefixlen >= outer.prefixlen and inner.network_address in outer


def _decide_tier(policy: Policy, destination: Address, protocol: str, port: int) -> tuple[Action, int | None]:
    if policy.mode == "block":
        return "deny", None
    matching = [
        (rule.action, place) for place, rule in enumerate(policy.rules) if rule.covers(destination, protocol, port)
    ]
    for wanted in ("deny", "allow"):
        for action, place in matching:
            if action == wanted:
                return action, place
    return ("allow" if policy.mode == "open" else "deny"), None


def _holds(prefix: Prefix, address: Address) -> bool:
    return address.version == prefix.version and address in prefix


def _inside(inner: tuple[int, int], outer: tuple[int, int]) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]
