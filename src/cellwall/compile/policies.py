"""Policies: what a tenant, and then an endpoint, lets its sandboxes open and lets ask of their published ports.

A stage a tier, constant: who is under which policy, and what it lists, is asked of sets by the endpoint's address. Both
directions of a flow are decided over its original tuple. A flow that was accepted carries the policy version, so only
new flows, and those that an earlier version decided, come here.
"""

from collections.abc import Iterator
from itertools import zip_longest
from typing import Literal

from cellwall.compile.bounds import Bounds
from cellwall.compile.mail import refuse_stamped_mail, unsent_stages
from cellwall.compile.policy_words import Fresh, Linked, Listed, Under
from cellwall.compile.predicates import (
    Flow,
    OpensBackwards,
    Translated,
    Transport,
)
from cellwall.compile.usage import PolicyUsage
from cellwall.compile.wall import (
    Accept,
    Clause,
    Continue,
    Drop,
    ForgetSoon,
    Observe,
    Stage,
    Stamp,
    Unstamp,
)
from cellwall.model.policy import TierName
from cellwall.model.settings import Mail

OPENED, ADMIT, ADMIT_CLIENT = "opened", "admit", "admit-client"
"""Where what a sandbox opens is judged by policies, and what a flow goes on with that none denies."""
_ADMITTED, _ADMITTED_CLIENT = "admitted", "admitted-client"
LINKS = "links"
"""Where sandboxes are judged that send to each other, where any may."""


Pass = Literal["fresh", "policy", "still"]
"""A packet may meet a change half-way, be judged by what goes and stamped with the version of what comes, and nobody
would judge its flow again. What is stamped first is judged by what its version judges by, for versions and lists change
at once. So a flow that begins is stamped first. Of one that goes on other packets would meet the stamp meanwhile: it is
judged before it is stamped, so that what is denied has none, and still after."""


def first_ingress(policies: PolicyUsage, when: Pass = "policy") -> str:
    """Where clients of published ports are judged by policies."""
    return _clients_name(policies.clients[0], when) if policies.clients else ADMIT_CLIENT


def stamp_opened(policies: PolicyUsage, when: Pass = "still") -> Stamp:
    """Of a flow that a sandbox opened, and that is judged after that if policies are in use."""
    return Stamp("source", _name(policies.tiers[0], when) if policies.tiers else "")


def judge_opened(policies: PolicyUsage) -> tuple[Clause, ...]:
    """What `OPENED` consists of: whoever has it himself saves a packet one of the 16 chains that it may be led through,
    one out of the other."""
    first = Continue(_name(policies.tiers[0], "policy"))
    return (Clause((Fresh(),), stamp_opened(policies, "fresh")), Clause((), first))


def policy_stages(policies: PolicyUsage, admitted: tuple[Clause, ...], bounds: Bounds, mail: Mail) -> Iterator[Stage]:
    """The stages of every tier in use, in the order in which a packet meets them. `admitted`: what a flow that was
    opened goes on with before it is stamped; and the same `bounds` hold for one that is stamped first.
    `mail`, which a policy may list, is refused after them, before and after it is stamped."""
    if policies.tiers:
        yield Stage(OPENED, judge_opened(policies))
        yield Stage(ADMIT, admitted)
        yield Stage(_ADMITTED, (*refuse_stamped_mail(mail, policies), *_bounded(bounds), Clause((), Accept())))
        yield from unsent_stages(mail)
        yield from bounds.too_many_stages()
    opened: tuple[tuple[Pass, str], ...] = (("fresh", _ADMITTED), ("policy", ADMIT), ("still", _ADMITTED))
    for when, admit in opened:
        for tier, following in zip_longest(policies.tiers, policies.tiers[1:]):
            onward = admit if following is None else _name(following, when)
            yield _egress(tier, policies, onward, when)
            yield _denied(tier, onward, when)
    asked: tuple[tuple[Pass, str], ...] = (("policy", ADMIT_CLIENT), ("still", _ADMITTED_CLIENT))
    for when, admit in asked:
        for tier, following in zip_longest(policies.clients, policies.clients[1:]):
            onward = admit if following is None else _clients_name(following, when)
            yield _clients(tier, policies, onward, when)
    if policies.clients:
        yield Stage(_ADMITTED_CLIENT, (Clause((), Accept()),))


def _bounded(bounds: Bounds) -> tuple[Clause, ...]:
    new = Flow(("new",))
    return (
        Clause((new, Transport(("tcp",))), ForgetSoon()),
        *bounds.too_fast(Fresh()),
        *bounds.too_many_stamped(new),
    )


def link_stages(bounds: Bounds) -> tuple[Stage, ...]:
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
                *bounds.arriving(),
                Clause((Flow(("established",)),), Accept()),
                Clause((Transport(("tcp", "udp", "icmp"), negate=True),), Continue("deny"), "protocol", "FWD"),
                Clause((Transport(("tcp",)),), ForgetSoon()),
                *bounds.too_fast(),
                *bounds.too_many(then=Continue("deny")),
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
            *(Clause((Listed(form, when == "fresh"),), denied) for form in lists["deny"]),
            Clause((Under(tier, "lists", negate=True),), Continue(onward)),
            *(Clause((Listed(form, when == "fresh"),), Continue(onward)) for form in lists["allow"]),
            Clause((), denied),
        ),
    )


def _denied(tier: TierName, onward: str, when: Pass) -> Stage:
    why = f"the policy of the {tier}"
    return Stage(
        _denied_name(tier, when),
        (
            _watching(Under(tier, "watches"), onward, f"{why}, which only watches", counted=when != "policy"),
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
            _watching(watches, onward, f"{why}, which only watches", counted=when == "policy"),
            *_withdrawn(when),
            Clause((), Drop(), why, "FWD"),
        ),
    )


def _watching(watches: Under, onward: str, why: str, *, counted: bool) -> Clause:
    """Counted once: where a flow that begins comes by."""
    return Clause((watches,), Observe(onward) if counted else Continue(onward), why, "FWD")


def _withdrawn(when: Pass) -> tuple[Clause, ...]:
    return () if when == "policy" else (Clause((), Unstamp()),)


_EGRESS = ("deny", "allow")


def _name(tier: TierName, when: Pass) -> str:
    return f"{tier}-{when}"


def _denied_name(tier: TierName, when: Pass) -> str:
    return f"{tier}-denied" if when == "policy" else f"{tier}-{when}-denied"


def _clients_name(tier: TierName, when: Pass) -> str:
    return f"{tier}-clients" if when == "policy" else f"{tier}-clients-still"
