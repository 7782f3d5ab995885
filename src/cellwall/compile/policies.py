"""Policies: what a tenant, and then an endpoint, lets its sandboxes open and lets ask of their published ports.

A stage a tier, constant: who is under which policy, and what it lists, is asked of sets by the endpoint's address. Both
directions of a flow are decided over its original tuple. A flow that was accepted carries the policy version, so only
new flows, and those that an earlier version decided, come here; twice, before they are stamped and after.
"""

from collections.abc import Iterator
from itertools import zip_longest
from typing import Literal

from cellwall.compile.policy_words import Linked, Listed, Under
from cellwall.compile.usage import PolicyUsage
from cellwall.compile.wall import (
    Accept,
    Clause,
    Continue,
    Drop,
    Flow,
    ForgetSoon,
    Observe,
    OpensBackwards,
    OverConnections,
    Stage,
    Translated,
    Transport,
    Unstamp,
)
from cellwall.model.policy import TierName

ADMIT, ADMIT_CLIENT = "admit", "admit-client"
"""What a flow goes on with that no policy denies."""
ADMITTED = "admitted"
LINKS = "links"
"""Where sandboxes are judged that send to each other, where any may."""


Pass = Literal["policy", "still"]
"""The decision, and the same once more after the flow was stamped. A packet may meet a change half-way, be judged by
what goes and stamped with the version of what comes, and nobody would judge its flow again: what was stamped with a
version is judged by what that one judges by, for versions and lists change at once."""


def first_egress(policies: PolicyUsage, when: Pass = "policy") -> str:
    """Where what a sandbox opens is judged by policies."""
    return _name(policies.tiers[0], when) if policies.tiers else ADMIT


def first_ingress(policies: PolicyUsage, when: Pass = "policy") -> str:
    """Where clients of published ports are."""
    return _clients_name(policies.clients[0], when) if policies.clients else ADMIT_CLIENT


def policy_stages(policies: PolicyUsage) -> Iterator[Stage]:
    """The stages of every tier in use, in the order in which a packet meets them."""
    passes: tuple[tuple[Pass, str, str], ...] = (("policy", ADMIT, ADMIT_CLIENT), ("still", ADMITTED, ADMITTED))
    for when, admit, admit_client in passes:
        for tier, following in zip_longest(policies.tiers, policies.tiers[1:]):
            onward = admit if following is None else _name(following, when)
            yield _egress(tier, policies, onward, when)
            yield _denied(tier, onward, when)
        for tier, following in zip_longest(policies.clients, policies.clients[1:]):
            onward = admit_client if following is None else _clients_name(following, when)
            yield _clients(tier, policies, onward, when)
    if policies.tiers or policies.clients:
        yield Stage(ADMITTED, (Clause((), Accept()),))


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


def _egress(tier: TierName, policies: PolicyUsage, onward: str, when: Pass) -> Stage:
    denied = Continue(_denied_name(tier, when))
    lists = {name: [form for form in policies.forms if (form.tier, form.list) == (tier, name)] for name in _EGRESS}
    return Stage(
        _name(tier, when),
        (
            Clause((Under(tier, "limits", negate=True),), Continue(onward)),
            Clause((Under(tier, "blocks"),), denied),
            *(Clause((Listed(form),), denied) for form in lists["deny"]),
            Clause((Under(tier, "lists", negate=True),), Continue(onward)),
            *(Clause((Listed(form),), Continue(onward)) for form in lists["allow"]),
            Clause((), denied),
        ),
    )


def _denied(tier: TierName, onward: str, when: Pass) -> Stage:
    why = f"the policy of the {tier}"
    return Stage(
        _denied_name(tier, when),
        (
            _watching(Under(tier, "watches"), onward, f"{why}, which only watches", when),
            *_withdrawn(when),
            Clause((), Continue("deny"), why, "FWD"),
        ),
    )


def _clients(tier: TierName, policies: PolicyUsage, onward: str, when: Pass) -> Stage:
    forms = [form for form in policies.forms if (form.tier, form.list) == (tier, "clients")]
    watches = Under(tier, "watches", "destination")
    why = f"no client by the policy of the {tier}"
    return Stage(
        _clients_name(tier, when),
        (
            Clause((Under(tier, "guards", "destination", negate=True),), Continue(onward)),
            *(Clause((Listed(form),), Continue(onward)) for form in forms),
            _watching(watches, onward, f"{why}, which only watches", when),
            *_withdrawn(when),
            Clause((), Drop(), why, "FWD"),
        ),
    )


def _watching(watches: Under, onward: str, why: str, when: Pass) -> Clause:
    """Counted once."""
    if when == "still":
        return Clause((watches,), Continue(onward))
    return Clause((watches,), Observe(onward), why, "FWD")


def _withdrawn(when: Pass) -> tuple[Clause, ...]:
    return (Clause((), Unstamp()),) if when == "still" else ()


_EGRESS = ("deny", "allow")


def _name(tier: TierName, when: Pass) -> str:
    return f"{tier}-{when}"


def _denied_name(tier: TierName, when: Pass) -> str:
    return f"{tier}-denied" if when == "policy" else f"{tier}-withdrawn"


def _clients_name(tier: TierName, when: Pass) -> str:
    return f"{tier}-clients" if when == "policy" else f"{tier}-clients-still"
