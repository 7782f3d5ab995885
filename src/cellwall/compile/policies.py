"""Policies: what a tenant, and then an endpoint, lets its sandboxes open and lets ask of their published ports.

A stage a tier, constant: who is under which policy, and what it lists, is asked of sets by the endpoint's address. Both
directions of a flow are decided over its original tuple. A flow that was accepted carries the policy version, so only
new flows, and those that an earlier version decided, come here.
"""

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from cellwall.compile.usage import PolicyUsage
from cellwall.compile.wall import (
    Accept,
    Clause,
    Continue,
    Drop,
    Flow,
    ForgetSoon,
    Linked,
    Listed,
    Observe,
    OpensBackwards,
    OverConnections,
    Stage,
    Translated,
    Transport,
    Under,
)
from cellwall.model.policy import TierName

ADMIT, ADMIT_CLIENT = "admit", "admit-client"
"""What a flow goes on with that no policy denies."""
LINKS = "links"
"""Where sandboxes are judged that send to each other, where any may."""


def first_egress(policies: PolicyUsage) -> str:
    """Where what a sandbox opens is judged by policies."""
    return _egress_name(policies.tiers[0]) if policies.tiers else ADMIT


def first_ingress(policies: PolicyUsage) -> str:
    """Where clients of published ports are."""
    return _clients_name(policies.clients[0]) if policies.clients else ADMIT_CLIENT


def policy_stages(policies: PolicyUsage) -> Iterator[Stage]:
    """The stages of every tier in use, in the order in which a packet meets them."""
    for tier, following in _with_next(policies.tiers):
        onward = ADMIT if following is None else _egress_name(following)
        yield _egress(tier, policies, onward)
        yield Stage(
            _denied_name(tier),
            (
                Clause((Under(tier, "watches"),), Observe(onward), f"{_whose(tier)}, which only watches", "FWD"),
                Clause((), Continue("deny"), _whose(tier), "FWD"),
            ),
        )
    for tier, following in _with_next(policies.clients):
        onward = ADMIT_CLIENT if following is None else _clients_name(following)
        yield _clients(tier, policies, onward)


def link_stages(connections: int) -> tuple[Stage, ...]:
    """From one sandbox to another: routed, never bridged, and asked for every packet, so that a link ends with the
    policy that made it. A flow is linked by the tenant of both ends, as they are by now; what it was stamped with does
    not count, nor where another table led it."""
    return (
        Stage(
            LINKS,
            (
                Clause((Flow(("invalid", "untracked")),), Drop(), "no valid flow", "FWD"),
                Clause((OpensBackwards(),), Drop(), "connection opened backwards", "FWD"),
                Clause((Translated(negate=True), Flow(("new", "established")), Linked()), Continue("linked")),
                Clause((), Continue("deny"), "container to container", "FWD"),
            ),
        ),
        Stage(
            "linked",
            (
                Clause((Flow(("established",)),), Accept()),
                Clause((Transport(("tcp", "udp", "icmp"), negate=True),), Continue("deny"), "protocol", "FWD"),
                Clause((Transport(("tcp",)),), ForgetSoon()),
                Clause((OverConnections(connections, "source"),), Continue("deny"), "too many connections", "FWD"),
                Clause((), Accept()),
            ),
        ),
    )


def _egress(tier: TierName, policies: PolicyUsage, onward: str) -> Stage:
    denied = Continue(_denied_name(tier))
    lists = {name: [form for form in policies.forms if (form.tier, form.list) == (tier, name)] for name in _EGRESS}
    return Stage(
        _egress_name(tier),
        (
            Clause((Under(tier, "limits", negate=True),), Continue(onward)),
            Clause((Under(tier, "blocks"),), denied),
            *(Clause((Listed(form),), denied) for form in lists["deny"]),
            Clause((Under(tier, "lists", negate=True),), Continue(onward)),
            *(Clause((Listed(form),), Continue(onward)) for form in lists["allow"]),
            Clause((), denied),
        ),
    )


def _clients(tier: TierName, policies: PolicyUsage, onward: str) -> Stage:
    forms = [form for form in policies.forms if (form.tier, form.list) == (tier, "clients")]
    watches = Under(tier, "watches", "destination")
    return Stage(
        _clients_name(tier),
        (
            Clause((Under(tier, "guards", "destination", negate=True),), Continue(onward)),
            *(Clause((Listed(form),), Continue(onward)) for form in forms),
            Clause((watches,), Observe(onward), f"no client by {_whose(tier)}, which only watches", "FWD"),
            Clause((), Drop(), f"no client by {_whose(tier)}", "FWD"),
        ),
    )


_EGRESS = ("deny", "allow")


def _with_next(tiers: Sequence[TierName]) -> Iterator[tuple[TierName, TierName | None]]:
    return zip_longest(tiers, tiers[1:])


def _egress_name(tier: TierName) -> str:
    return f"{tier}-policy"


def _denied_name(tier: TierName) -> str:
    return f"{tier}-denied"


def _clients_name(tier: TierName) -> str:
    return f"{tier}-clients"


def _whose(tier: TierName) -> str:
    return f"the policy of the {tier}"
