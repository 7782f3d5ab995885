"""Address translation: port bindings inwards, masquerade outwards.

A binding is reached by the uplink and by the node's own addresses only: an unscoped DNAT would capture other
tenants' connections to that port number on the Internet (CVE-2025-67499 and its class), and a hairpin would lead
one tenant to another. Flows are masqueraded into one range of ports that neither the node's ephemeral range nor any
binding uses (port shadowing, CVE-2021-3773).
"""

from cellwall.compile.predicates import (
    FlowDirection,
    FlowFromSubnet,
    LocalDestination,
    ToLoopback,
    Transport,
    Via,
)
from cellwall.compile.wall import (
    Clause,
    Continue,
    Masquerade,
    Publish,
    Stage,
)


def translate_stages(nat_ports: tuple[int, int], *, ranges: bool) -> tuple[Stage, ...]:
    """`ranges`: whether any binding is a range with equal port numbers on both sides."""
    publish: tuple[Clause, ...] = (Clause((), Publish("address"), layer="NAT"), Clause((), Publish("any"), layer="NAT"))
    if ranges:
        publish += (Clause((), Publish("range"), layer="NAT"),)
    out = (Via("out", "uplink"), FlowDirection("original"), FlowFromSubnet())
    return (
        Stage("publish-uplink", (Clause((Via("in", "uplink"), LocalDestination()), Continue("publish")),)),
        Stage("publish-node", (Clause((LocalDestination(), ToLoopback(negate=True)), Continue("publish")),)),
        Stage("publish", publish),
        Stage("translate", (Clause(out, Continue("translate-source")),)),
        Stage(
            "translate-source",
            (
                Clause((Transport(("tcp", "udp")),), Masquerade(nat_ports), layer="NAT"),
                Clause((), Masquerade(), layer="NAT"),
            ),
        ),
    )
