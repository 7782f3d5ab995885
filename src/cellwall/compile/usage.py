"""Which forms of exposure and of policies are in use: the only thing about endpoints that rules depend on.

Networks are matched by one hash set per prefix length (an interval set of all of them would cost O(N) per change), so a
prefix length that nobody uses has no rule.
"""

from collections.abc import Iterable
from typing import Literal

import msgspec

from cellwall.model.endpoint import Endpoint, PortBinding
from cellwall.model.policy import NO_TIERS, TierName


class ExposureForm(msgspec.Struct, frozen=True, order=True):
    """How a binding is matched: a port open to anyone, a range, or either open to client networks. `family` and
    `prefixlen` are those of the client networks of a single port. `bound`: the port is published at one address of
    the node, and what it admits is admitted there only; a range always says where."""

    kind: Literal["any", "range", "source", "source-range"]
    family: int = 0
    prefixlen: int = 0
    bound: bool = False


class PolicyForm(msgspec.Struct, frozen=True, order=True):
    """How an entry of a policy's list is matched: by networks of one family and prefix length and, of destinations,
    by what else counts: no more ("any"), a protocol, or a protocol and ports that share their first `port_bits` bits.
    """

    tier: TierName
    list: Literal["deny", "allow", "clients"]
    family: int
    prefixlen: int
    kind: Literal["any", "protocol", "ports"] = "any"
    port_bits: int = 0


class PolicyUsage(msgspec.Struct, frozen=True):
    """What policies are about. `tiers`: those of which some policy limits what is opened; `clients`: those of which
    some policy names the clients of published ports; `forms`: of all their lists. `links`: some tenant's sandboxes
    reach each other. `mail`: some policy lists it."""

    tiers: tuple[TierName, ...] = ()
    clients: tuple[TierName, ...] = ()
    forms: tuple[PolicyForm, ...] = ()
    links: bool = False
    mail: bool = False

    def union(self, other: "PolicyUsage") -> "PolicyUsage":
        """What either uses."""
        return PolicyUsage(
            _in_order({*self.tiers, *other.tiers}),
            _in_order({*self.clients, *other.clients}),
            tuple(sorted({*self.forms, *other.forms})),
            self.links or other.links,
            self.mail or other.mail,
        )


class Usage(msgspec.Struct, frozen=True):
    """`ranges`: some binding is a range with equal ports on both sides; `range_sources`: some such range has source
    networks; `sources`: (family, prefix length, whether the port has a bind address) of source networks of single
    ports."""

    ranges: bool = False
    range_sources: bool = False
    sources: tuple[tuple[int, int, bool], ...] = ()
    policies: PolicyUsage = PolicyUsage()

    @property
    def exposed(self) -> tuple[ExposureForm, ...]:
        """The forms that a flow is checked against, in this order."""
        forms = [ExposureForm("any"), ExposureForm("any", bound=True)]
        if self.ranges:
            forms.append(ExposureForm("range"))
        forms += [ExposureForm("source", family, length, bound) for family, length, bound in self.sources]
        if self.range_sources:
            forms.append(ExposureForm("source-range"))
        return tuple(forms)

    def union(self, other: "Usage") -> "Usage":
        """What either uses. A form that came into use stays until `down`: removing its sets would replace tables."""
        return Usage(
            self.ranges or other.ranges,
            self.range_sources or other.range_sources,
            tuple(sorted({*self.sources, *other.sources})),
            self.policies.union(other.policies),
        )


def interval_range(binding: PortBinding) -> bool:
    """The binding is one interval in the kernel: a range whose host and container ports are equal."""
    return binding.last != binding.host_port and not binding.shifted


def usage_of(bindings: Iterable[PortBinding]) -> Usage:
    """The forms that these bindings need."""
    ranges = range_sources = False
    sources: set[tuple[int, int, bool]] = set()
    for binding in bindings:
        if interval_range(binding):
            ranges = True
            range_sources = range_sources or bool(binding.sources)
        else:
            bound = binding.bind is not None
            led = (source for source in binding.sources if source.version != binding.proxy)
            sources.update((source.version, source.prefixlen, bound) for source in led)
    return Usage(ranges, range_sources, tuple(sorted(sources)))


def usage_of_endpoints(endpoints: Iterable[Endpoint]) -> Usage:
    """The forms that these endpoints need, of bindings and of policies."""
    endpoints = tuple(endpoints)
    usage = usage_of(binding for endpoint in endpoints for binding in endpoint.bindings)
    tiers = {endpoint.tiers for endpoint in endpoints if endpoint.tiers != NO_TIERS}
    if not tiers:
        return usage
    # here and not above: most endpoints have no policy
    from cellwall.compile.policy_forms import policy_usage

    return msgspec.structs.replace(usage, policies=policy_usage(tiers))


def _in_order(tiers: set[TierName]) -> tuple[TierName, ...]:
    """As a packet meets them."""
    order: tuple[TierName, ...] = ("tenant", "endpoint")
    return tuple(tier for tier in order if tier in tiers)
