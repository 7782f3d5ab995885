"""Frames: who may say what on a bridge port.

Owns: the binding of (bridge port, MAC, address), the list of frames a sandbox may send at all, and that nothing
is ever bridged to or from a port of ours. All of it stands before the bridge learns: the bridge's own forward and
input hooks come after learning and let MAC theft through.

Only requests are accepted of ARP and neighbour discovery, and only those for the gateway: the node knows every
endpoint by permanent neighbour entries and never asks, so no answer of a tenant has anybody to convince.

Fragments are counted here because they are put together before any rule of IP: those of datagrams that never become
whole wait in a memory of the node, one for each family, in which all that is fragmented on its way to or through the
node has its place.
"""

from typing import Literal

from cellwall.compile.predicates import (
    ArpAsksForGateway,
    Fragment,
    FrameTo,
    FrameType,
    Icmp6Type,
    KnownPort,
    NextHeader,
    OnLinkHopLimit,
    OverRate,
    Pinned,
    PlainHeader,
    SolicitsGateway,
    Via,
    Vouched,
)
from cellwall.compile.wall import (
    Clause,
    Continue,
    Distrust,
    Drop,
    Stage,
    Vouch,
)

_FRAGMENTS = (OverRate("fragments", 20, 100), OverRate("all-fragments", 150, 500))
"""An endpoint's own, then all endpoints' together. Of 4 MiB (net.ipv4.ipfrag_high_thresh, and what IPv6 has) a frame of
1,500 bytes takes 2,304 for as long as its datagram is not whole, `engine.node.kernel_settings.FRAGMENTS_WAIT`: all may
have 1,250 there, 2.9 MB, and one of them 200. The rest is for what comes from elsewhere. A datagram of 64 KiB is 45
fragments: two may go at once. What sends fragments all the time, as NFS over UDP does, is no sandbox's."""
_FROM_PORT = Via("in", "port")
_TO_PORT = Via("out", "port")

_ICMP6_TO_GATEWAY = (
    "echo-request",
    "echo-reply",
    "destination-unreachable",
    "packet-too-big",
    "time-exceeded",
    "parameter-problem",
)

LISTENER_REPORTS = (
    (FrameTo("listener-reports"), FrameType("ipv6"), Icmp6Type(("mld2-listener-report",))),
    (FrameTo("group"), FrameType("ipv6"), Icmp6Type(("mld-listener-report", "mld-listener-done"))),
)
"""What every kernel sends by itself, some times over, when its interface comes up: nobody's attempt. The first version
of the protocol, which small ones speak, goes to each group itself."""


def frame_stages() -> tuple[Stage, ...]:
    """The stages that judge frames, in the order in which a frame meets them."""
    return (
        _frame(),
        _port(),
        _port4(),
        _port6(),
        _port_icmp6(),
        _port_group6(),
        _port_solicitation(),
        _port_arp(),
        _frame_input(),
        _frame_forward(),
        _frame_output(),
        *_not_enslaved(),
    )


def _frame() -> Stage:
    """A frame of anybody else's carries no judgement in: a link between two bridges of the node keeps the mark."""
    return Stage("frame", (Clause((_FROM_PORT,), Continue("port")), Clause((), Distrust())))


def _drop(why: str) -> Clause:
    return Clause((), Drop(), why, "PIN")


def _port() -> Stage:
    """What a frame may be: everything else, tagged or of unknown type, ends here."""
    to_gateway = FrameTo("gateway")
    return Stage(
        "port",
        (
            Clause((to_gateway, FrameType("ipv4")), Continue("port-ipv4")),
            Clause((to_gateway, FrameType("ipv6")), Continue("port-ipv6")),
            Clause((FrameType("arp"),), Continue("port-arp")),
            *(Clause(report, Drop(), "multicast listener report", "PIN") for report in LISTENER_REPORTS),
            Clause((FrameTo("gateway-solicited"), FrameType("ipv6")), Continue("port-group6")),
            _drop("no frame a sandbox may send"),
        ),
    )


def _too_many_fragments(version: Literal[4, 6]) -> tuple[Clause, ...]:
    return tuple(Clause((Fragment(version), over), Drop(), "fragment flood", "PIN") for over in _FRAGMENTS)


def _port4() -> Stage:
    return Stage(
        "port-ipv4",
        (
            *_too_many_fragments(4),
            Clause((PlainHeader(), Pinned("ipv4")), Vouch()),
            _drop("spoofed IPv4 source or options"),
        ),
    )


def _port6() -> Stage:
    """Transport headers must directly follow the fixed header: every chain of extension headers is an evasion of
    somebody's filter, and only TCP and UDP may be fragmented (fragmented neighbour discovery: RFC 6980)."""
    return Stage(
        "port-ipv6",
        (
            Clause((Pinned("ipv6", negate=True),), Drop(), "spoofed IPv6 source", "PIN"),
            Clause((NextHeader(("tcp", "udp")),), Vouch()),
            Clause((NextHeader(("icmpv6",)),), Continue("port-icmp6")),
            *_too_many_fragments(6),
            Clause((NextHeader(("tcp", "udp"), fragment=True),), Vouch()),
            _drop("IPv6 extension header"),
        ),
    )


def _port_icmp6() -> Stage:
    return Stage(
        "port-icmp6",
        (
            Clause((Icmp6Type(_ICMP6_TO_GATEWAY),), Vouch()),
            Clause((Icmp6Type(("nd-neighbor-solicit",)),), Continue("port-solicitation")),
            _drop("router, redirect, or advertisement ICMPv6"),
        ),
    )


def _port_group6() -> Stage:
    """IPv6 to the gateway's solicited-node group: neighbour solicitations and nothing else."""
    return Stage(
        "port-group6",
        (
            Clause((Pinned("ipv6", negate=True),), Drop(), "spoofed IPv6 source", "PIN"),
            Clause((NextHeader(("icmpv6",)), Icmp6Type(("nd-neighbor-solicit",))), Continue("port-solicitation")),
            _drop("multicast"),
        ),
    )


def _port_solicitation() -> Stage:
    return Stage(
        "port-solicitation",
        (
            Clause((OnLinkHopLimit(negate=True),), Drop(), "forwarded neighbour discovery", "PIN"),
            Clause((OverRate("nd", 50, 20),), Drop(), "neighbour discovery flood", "PIN"),
            Clause((SolicitsGateway(),), Vouch()),
            _drop("solicitation of another address"),
        ),
    )


def _port_arp() -> Stage:
    return Stage(
        "port-arp",
        (
            Clause(
                (FrameTo("gateway", negate=True), FrameTo("broadcast", negate=True)),
                Drop(),
                "ARP to another port",
                "PIN",
            ),
            Clause((OverRate("arp", 50, 20),), Drop(), "ARP flood", "PIN"),
            Clause((ArpAsksForGateway(), Pinned("arp")), Vouch()),
            _drop("ARP other than a request for the gateway"),
        ),
    )


def _frame_input() -> Stage:
    """Link-local groups (STP, LLDP, 802.1X) skip the bridge's prerouting hook and arrive here unjudged
    (net/bridge/br_input.c, br_handle_frame)."""
    return Stage(
        "frame-input",
        (Clause((_FROM_PORT, Vouched(negate=True)), Drop(), "not judged by the pins", "PIN"),),
    )


def _frame_forward() -> Stage:
    """With br_netfilter on for the whole node, frames that other bridges forward traverse the IP forward path too: it
    must tell them from packets that the node would route."""
    return Stage(
        "frame-forward",
        (
            Clause((_FROM_PORT,), Drop(), "bridged from a sandbox", "PIN"),
            Clause((_TO_PORT,), Drop(), "bridged to a sandbox", "PIN"),
            Clause((), Vouch()),
        ),
    )


def _frame_output() -> Stage:
    """From the node to a port: only to ports that are attached, and no group frames (the node's own router
    advertisements, mDNS, queries)."""
    return Stage(
        "frame-output",
        (
            Clause((_TO_PORT, KnownPort(negate=True)), Drop(), "no endpoint behind this port", "PIN"),
            Clause((_TO_PORT, FrameTo("group")), Drop(), "the node's multicast", "PIN"),
        ),
    )


def _not_enslaved() -> tuple[Stage, Stage]:
    """A host-side link that is not, or not yet, a port of the bridge speaks ARP with nobody."""
    return (
        Stage("loose-arp-in", (Clause((_FROM_PORT,), Drop(), "not a bridge port", "PIN"),)),
        Stage("loose-arp-out", (Clause((_TO_PORT,), Drop(), "not a bridge port", "PIN"),)),
    )
