"""The node: what a tenant may reach of it, and what may reach a tenant past it.

The node guard stands twice, before routing (where no other table's DNAT has seen the packet) and in the input
path; both read the same clauses. Denied is told at once, spoofed and unpinned is dropped silently.
"""

import msgspec

from cellwall.compile.bounds import Bounds
from cellwall.compile.policies import OPENED
from cellwall.compile.predicates import (
    AmidConnection,
    BegunAgain,
    Connecting,
    ExtensionHeader,
    Flow,
    FlowDirection,
    FromSubnet,
    GatewayPing,
    Icmp6Type,
    LiveFlow,
    NeighbourSolicitation,
    NodeService,
    NotUnicast,
    OrphanFlow,
    OverRate,
    OwnError,
    ProxiedPort,
    ToLoopback,
    ToSubnet,
    Transport,
    Via,
    Vouched,
)
from cellwall.compile.usage import PolicyUsage
from cellwall.compile.wall import (
    Accept,
    Attest,
    Attribute,
    Clause,
    Continue,
    Count,
    Distrust,
    Drop,
    ForgetSoon,
    Layer,
    Stage,
    Stamp,
)

_FROM_BRIDGE = Via("in", "bridge")
_FROM_PORT = Via("in", "port")


def guard_stages(bounds: Bounds, policies: PolicyUsage) -> tuple[Stage, ...]:
    """Prerouting, input and output; `bounds` are of an endpoint's flows to services of the node, which are subject
    to its policies as anything else is that it opens."""
    return (
        _early(),
        _early_tenant(),
        # What comes from outside is known to be a tenant's by its flow alone, and may never be forwarded.
        Stage("tracked", (Clause((_FROM_BRIDGE,), Continue("tracked-tenant")), *bounds.ended())),
        _tracked_tenant(bounds),
        *bounds.ended_stages(),
        Stage("tracked-guard", _guard("PRE", _services_early(bounds, policies))),
        _input(),
        _connecting(),
        Stage("input-guard", _guard("IN", (*bounds.asking(NodeService()), *_services(bounds, policies)))),
        _output(),
        _output_tenant(policies),
    )


def _early() -> Stage:
    """Before conntrack: forged frames must not cost a conntrack lookup, and an address of ours is never a
    destination from outside (a LAN neighbour that routes straight to a sandbox, CVE-2020-8558 for 127/8) nor a
    source (one that speaks for a sandbox to whoever trusts the sandboxes' network)."""
    return Stage(
        "early",
        (
            Clause((_FROM_PORT,), Drop(), "not a bridge port", "PIN"),
            # It would open a flow that has ended, if connection tracking had it.
            Clause((BegunAgain(),), Drop(), "answer within an ended connection", "RAW"),
            Clause((_FROM_BRIDGE,), Continue("early-tenant")),
            Clause((Via("in", "loopback"),), Accept()),
            Clause((), Distrust()),
            Clause((ToSubnet(),), Drop(), "direct routing to a sandbox", "RAW"),
            Clause((FromSubnet(),), Drop(), "a sandbox's address from outside", "RAW"),
            Clause((ToLoopback(),), Drop(), "loopback from outside", "RAW"),
        ),
    )


def _early_tenant() -> Stage:
    return Stage("early-tenant", (Clause((Vouched(negate=True),), Drop(), "not judged by the pins", "RAW"),))


def _tracked_tenant(bounds: Bounds) -> Stage:
    """Established flows leave at once: what they are to was judged when they were new, and is judged again in the
    input or forward path. The route lookup (`fib`) is paid by the first packet only."""
    return Stage(
        "tracked-tenant",
        (
            *bounds.ended(),
            Clause((Flow(("established",)),), Accept()),
            Clause((NeighbourSolicitation(),), Accept()),
            Clause((Flow(("invalid", "untracked")),), Drop(), "no valid flow", "PRE"),
            Clause((), Attribute("source")),
            Clause((ExtensionHeader(),), Drop(), "IPv6 extension header", "PRE"),
            Clause((NotUnicast(),), Continue("tracked-guard")),
        ),
    )


def _guard(layer: Layer, services: tuple[Clause, ...]) -> tuple[Clause, ...]:
    reply = FlowDirection("reply")
    pings = OverRate("ping" if layer == "PRE" else "input-ping", 10, 10)  # each packet comes by both
    return (
        Clause((Flow(("established",)), reply), Accept()),
        # Of errors only those of whom the flow is with: one from anybody else would slow down a flow of the node's own.
        Clause((Flow(("related",)), reply, Transport(("icmp",)), OwnError()), Accept()),
        Clause((GatewayPing(), pings), Drop(), "echo flood", layer),
        Clause((GatewayPing(),), Accept()),
        Clause((OrphanFlow("source"),), Drop(), "flow of a former endpoint", layer),
        Clause((Flow(("new",)), Transport(("tcp",))), ForgetSoon()),
        *(msgspec.structs.replace(one, layer=layer) if one.why else one for one in services),
        Clause((), Continue("deny"), "the node", layer),
    )


def _services_early(bounds: Bounds, policies: PolicyUsage) -> tuple[Clause, ...]:
    """Policies are asked in the input path alone, and stamp there."""
    return (Clause((NodeService(),), Accept()),) if policies.tiers else _services(bounds, policies, early=True)


def _services(bounds: Bounds, policies: PolicyUsage, *, early: bool = False) -> tuple[Clause, ...]:
    """What counts each time that it is asked is asked in the input path alone: no flow counts twice.

    A flow is new until it is answered, and who looks up a name asks twice before that."""
    live = Clause((NodeService(), LiveFlow()), Accept())
    if policies.tiers:
        return (live, Clause((NodeService(),), Continue(OPENED)))
    begins = (NodeService(), Flow(("new",)))
    return (
        *(() if early else bounds.too_fast(*begins)),
        *(one for one in bounds.too_many(*begins, then=Continue("deny")) if not (early and one.then == Count())),
        *(() if early else (live,)),
        Clause((NodeService(), Flow(("new",))), Stamp("source")),
        Clause((NodeService(),), Accept()),
    )


def _input() -> Stage:
    return Stage(
        "input",
        (
            Clause((_FROM_PORT,), Drop(), "not a bridge port", "PIN"),
            Clause((Via("in", "bridge", negate=True), Connecting()), Continue("connecting")),
            Clause((Via("in", "bridge", negate=True),), Accept()),
            Clause((NeighbourSolicitation(),), Accept()),
            Clause((), Continue("input-guard")),
        ),
    )


def _connecting() -> Stage:
    """Who connects to the node is nobody's to judge here; but a client of a port that a proxy serves begins a flow
    because of an endpoint, as one of another published port."""
    kinds = (ProxiedPort(bound=False), ProxiedPort(bound=True))
    return Stage("connecting", (*(Clause((kind,), ForgetSoon("client-tcp")) for kind in kinds), Clause((), Accept())))


def _output() -> Stage:
    return Stage(
        "output",
        (
            Clause((Via("out", "port"),), Drop(), "not a bridge port", "PIN"),
            Clause((Via("out", "bridge"),), Continue("output-tenant")),
            # A published port that the node itself asks for: by which interface it leaves is decided after this hook.
            Clause((Via("out", "loopback"), ToSubnet()), Attest()),
            Clause((Via("out", "loopback"),), Accept()),
            Clause((ToSubnet(),), Drop(), "to a sandbox by another interface", "OUT"),
        ),
    )


def _output_tenant(policies: PolicyUsage) -> Stage:
    """The node's own flows to sandboxes carry the endpoint's policy version too: an address that was handed on must
    not inherit them. Only a new flow is stamped: the reset or ICMP error by which a flow is refused belongs, to
    conntrack, to that very flow, and stamping it would make the refused flow a live one.

    Who forwards IPv6 back by the interface it came from tells the sender to go there by itself, which no setting keeps
    it from (net/ipv6/ip6_output.c, ip6_forward): linked sandboxes would look for each other where the pins drop."""
    redirects = Clause((Icmp6Type(("nd-redirect",)),), Drop(), "redirected past the wall", "OUT")
    return Stage(
        "output-tenant",
        (
            *((redirects,) if policies.links else ()),
            Clause((), Attest()),
            Clause((LiveFlow(),), Accept()),
            Clause((OrphanFlow("node-side"),), Drop(), "flow of a former endpoint", "OUT"),
            Clause((AmidConnection(),), Drop(), "amid a connection", "OUT"),
            Clause((Flow(("new",)), Transport(("tcp",))), ForgetSoon()),
            Clause((Flow(("new",)),), Stamp("node-side")),
        ),
    )
