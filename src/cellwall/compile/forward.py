"""B9-FORWARD: the chain that everything forwarded to or from a sandbox traverses.

Order: container to container and the wrong interface first, then the shortcut, then floor, protocol, limits and
policy. The shortcut is not "established" alone: a flow passes by it only while the policy version that decided it
is in force, and deciding included the floor. A flow of any other version walks the policy again, over its
original tuple, so that both directions decide alike.
"""

from typing import Literal

from cellwall.compile.bounds import Bounds
from cellwall.compile.mail import refuse_mail
from cellwall.compile.policies import (
    ADMIT_CLIENT,
    LINKS,
    first_ingress,
    judge_opened,
    link_stages,
    policy_stages,
    stamp_opened,
)
from cellwall.compile.predicates import (
    AmidConnection,
    Exposed,
    FloorHit,
    Flow,
    FlowDirection,
    Handshake,
    IpVersion,
    LiveFlow,
    NotUnicastSource,
    OpensBackwards,
    OrphanFlow,
    OwnError,
    Stranger,
    ToSubnet,
    Translated,
    Transport,
    Via,
    Vouched,
)
from cellwall.compile.usage import ExposureForm, PolicyUsage, Usage
from cellwall.compile.wall import (
    Accept,
    Attest,
    Attribute,
    Clause,
    Continue,
    Drop,
    FitSegments,
    ForgetSoon,
    Reject,
    Stage,
    Stamp,
    Unprioritize,
)
from cellwall.model.settings import Mail
from cellwall.names import SECURITY_CHAIN

_FROM_BRIDGE = Via("in", "bridge")
_TO_BRIDGE = Via("out", "bridge")
_FORGET_SOON = Clause((Flow(("new",)), Transport(("tcp",))), ForgetSoon())
_CLIENTS_FORGET_SOON = (
    Clause((Flow(("new",)), Transport(("tcp",))), ForgetSoon("client-tcp")),
    Clause((Flow(("new",)), Transport(("udp",))), ForgetSoon("client-udp")),
)


def forward_stages(
    bounds: Bounds, usage: Usage, mail: Mail, *, no_router: tuple[Literal[4, 6], ...]
) -> tuple[Stage, ...]:
    """`usage`: the forms of exposure and of policies in use. `no_router`: the families that the node did not forward
    before cellwall turned forwarding on; whatever else would now be forwarded of them is dropped."""
    admitted = (*refuse_mail(mail, usage.policies), *_admitted(bounds, usage.policies))
    return (
        _forward(no_router),
        _security_chain(bounds, usage.policies),
        *(link_stages(bounds) if usage.policies.links else ()),
        _egress(usage.policies, admitted),
        *_ingress(bounds, usage.exposed, usage.policies),
        *policy_stages(usage.policies, admitted, bounds, mail),
        _stamp_ingress(usage.policies),
        _related(),
        _deny(),
    )


def _stamp_ingress(policies: PolicyUsage) -> Stage:
    judged = first_ingress(policies, "still") if policies.clients else ""
    return Stage("stamp-ingress", (Clause((), Stamp("destination", judged)), _nobody()))


def _nobody() -> Clause:
    return Clause((), Drop(), "no endpoint", "FWD")


def _forward(no_router: tuple[Literal[4, 6], ...]) -> Stage:
    clauses: tuple[Clause, ...] = (
        Clause((Via("in", "port"),), Drop(), "not a bridge port", "PIN"),
        Clause((Via("out", "port"),), Drop(), "not a bridge port", "PIN"),
        Clause((_FROM_BRIDGE,), Unprioritize()),  # the kernel has read the TOS just before this hook
        Clause((_FROM_BRIDGE,), Continue(SECURITY_CHAIN)),
        Clause((_TO_BRIDGE,), Attest()),
        Clause((_TO_BRIDGE,), Continue(SECURITY_CHAIN)),
        Clause((Vouched(),), Accept()),  # forwarded by another bridge, not routed
        Clause((ToSubnet(),), Drop(), "to a sandbox by another interface", "FWD"),
    )
    clauses += tuple(Clause((IpVersion(version),), Drop(), "the node is no router", "FWD") for version in no_router)
    return Stage("forward", clauses)


def _security_chain(bounds: Bounds, policies: PolicyUsage) -> Stage:
    between = Clause((_FROM_BRIDGE, _TO_BRIDGE), Continue("deny"), "container to container", "FWD")
    return Stage(
        SECURITY_CHAIN,
        (
            *bounds.too_busy(),  # first: what is dropped should have cost nothing
            Clause((_FROM_BRIDGE, _TO_BRIDGE), Continue(LINKS)) if policies.links else between,
            Clause(
                (_FROM_BRIDGE, Via("out", "uplink", negate=True)),
                Continue("deny"),
                "not by the default interface",
                "FWD",
            ),
            Clause((_TO_BRIDGE, Via("in", "uplink", negate=True)), Drop(), "not by the default interface", "FWD"),
            Clause((_FROM_BRIDGE, OpensBackwards()), Drop(), "connection opened backwards", "FWD"),
            # Before the shortcut: the answer to a handshake is of a live flow.
            Clause((Handshake(),), FitSegments(), "segments fit the path"),
            Clause((LiveFlow(), Flow(("established", "new"))), Accept()),
            Clause((Flow(("invalid", "untracked")),), Drop(), "no valid flow", "FWD"),
            Clause((_FROM_BRIDGE, FlowDirection("reply")), Continue("ingress")),
            Clause((_TO_BRIDGE, FlowDirection("original")), Continue("ingress")),
            Clause((), Continue("egress")),
        ),
    )


def _egress(policies: PolicyUsage, admitted: tuple[Clause, ...]) -> Stage:
    """A flow that a sandbox opened, either direction of it. What policies deny takes no part in its connections."""
    judged = (
        Clause((OrphanFlow("source"),), Drop(), "flow of a former endpoint", "FWD"),
        Clause((FloorHit("original"),), Continue("deny"), "the floor", "FWD"),
        Clause((FloorHit("translated"),), Continue("deny"), "led to the floor", "FWD"),
        Clause((Flow(("related",)),), Continue("related")),
        Clause((Transport(("tcp", "udp", "icmp"), negate=True),), Continue("deny"), "protocol", "FWD"),
    )
    if policies.tiers:
        return Stage("egress", (*judged, *judge_opened(policies)))
    return Stage("egress", (*judged, *admitted))


def _admitted(bounds: Bounds, policies: PolicyUsage) -> tuple[Clause, ...]:
    return (
        _FORGET_SOON,
        *bounds.too_fast(Flow(("new",))),
        *bounds.too_many(Flow(("new",)), then=Continue("deny")),
        Clause((), stamp_opened(policies)),
        _nobody(),
    )


def _ingress(bounds: Bounds, exposed: tuple[ExposureForm, ...], policies: PolicyUsage) -> tuple[Stage, ...]:
    """A flow from outside to an exposed port, either direction of it.

    Whoever can forge a source outside makes any address a client, and the sandbox's answer to it a reply: a way past
    the floor and, for the node's own addresses (IPv6 knows no martian sources), past its guard. Nobody asks from
    these; but TCP that completes was asked for, as by load balancers that probe from a metadata address, and TCP that
    does not can be made to by a simultaneous open only.
    """
    judged = (
        Clause((Translated(negate=True),), Drop(), "not through a port binding", "FWD"),
        Clause((Flow(("new",)),), Attribute("destination")),
        Clause((OrphanFlow("destination"),), Drop(), "flow of a former endpoint", "FWD"),
        Clause((AmidConnection(),), Drop(), "amid a connection", "FWD"),
        Clause((NotUnicastSource(),), Drop(), "no unicast source", "FWD"),
        Clause((Transport(("tcp",), negate=True), Stranger()), Drop(), "no client asks from there", "FWD"),
        Clause((Flow(("related",)),), Continue("related")),
    )
    admitted = (
        *(Clause((Exposed(form),), Continue("client")) for form in exposed),
        Clause((), Drop(), "not exposed", "FWD"),
    )
    if not policies.clients:
        return (Stage("ingress", (*judged, *admitted)), _client(bounds))
    return (
        Stage("ingress", (*judged, Clause((), Continue(first_ingress(policies))))),
        Stage(ADMIT_CLIENT, admitted),
        _client(bounds),
    )


def _client(bounds: Bounds) -> Stage:
    """Whoever may ask. Others are not counted: they would use up what clients may."""
    new = Flow(("new",))
    return Stage(
        "client",
        (
            *_CLIENTS_FORGET_SOON,
            *bounds.arriving(new),
            *bounds.too_fast(new, end="destination"),
            *bounds.too_many(new, then=Drop(), end="destination"),
            Clause((), Continue("stamp-ingress")),
        ),
    )


def _related() -> Stage:
    """ICMP errors about live flows. From a sandbox only about its own: an error that quotes a neighbour's flow would
    poison that flow's path MTU. Expectations of conntrack helpers are never ICMP and end here."""
    return Stage(
        "related",
        (
            Clause((LiveFlow(negate=True),), Drop(), "error about no live flow", "FWD"),
            Clause((Transport(("icmp",), negate=True),), Drop(), "helper expectation", "FWD"),
            Clause((_TO_BRIDGE,), Accept()),
            Clause((OwnError(),), Accept()),
            Clause((), Drop(), "error about another's flow", "FWD"),
        ),
    )


def _deny() -> Stage:
    return Stage(
        "deny",
        (
            Clause((Via("in", "bridge", negate=True),), Drop()),
            Clause((), Reject()),
        ),
    )
