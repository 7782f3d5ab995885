"""What a sandbox sends, through the compiled ruleset: where to, what becomes of it, which rule decided.

That the evaluator decides as the kernel does is tested in `tests/unit/ruleset`.
"""

from ipaddress import ip_address, ip_network

import msgspec
import pytest

from cellwall.errors import Unsupported
from cellwall.lab import addresses as at
from cellwall.model.facts import NodeFacts
from cellwall.model.settings import Settings, parse_openings
from cellwall.ruleset.compose import flow_packet
from cellwall.ruleset.context import Context
from cellwall.ruleset.evaluate import evaluate
from cellwall.ruleset.types import Rule, Ruleset
from scene import (
    FACTS,
    FOUR,
    GATEWAY4,
    GATEWAY6,
    LINK_LOCAL,
    PUBLIC4,
    PUBLIC6,
    SCENE,
    WEB,
    Scene,
    directed,
    flow_of,
    judged,
)

EGRESS = [
    # to, protocol, port → verdict, deciding rule, layer
    (PUBLIC4, "tcp", 443, "accept", "egress", ""),
    (PUBLIC4, "udp", 53, "accept", "egress", ""),
    (PUBLIC4, "icmp", 0, "accept", "egress", ""),
    (PUBLIC6, "tcp", 443, "accept", "egress", ""),
    (PUBLIC6, "udp", 53, "accept", "egress", ""),
    (PUBLIC6, "icmp", 0, "accept", "egress", ""),
    # another sandbox
    ("192.168.0.3", "tcp", 80, "reject", "container to container", "FWD"),
    ("192.168.0.3", "icmp", 0, "reject", "container to container", "FWD"),
    ("192.168.9.9", "udp", 80, "reject", "container to container", "FWD"),  # nobody has it
    ("fd00:abcd::3", "tcp", 80, "reject", "container to container", "FWD"),
    ("fd00:abcd::909", "icmp", 0, "reject", "container to container", "FWD"),
    ("192.168.15.255", "udp", 80, "reject", "the node", "PRE"),  # the subnet's broadcast address
    # the node, by every address it has
    (GATEWAY4, "tcp", 22, "reject", "the node", "PRE"),
    (GATEWAY4, "icmp", 0, "accept", "input-guard", ""),
    (GATEWAY6, "tcp", 22, "reject", "the node", "PRE"),
    (GATEWAY6, "icmp", 0, "accept", "input-guard", ""),
    (LINK_LOCAL, "udp", 53, "reject", "the node", "PRE"),
    (at.NODE4, "tcp", 10250, "reject", "the node", "PRE"),
    (at.NODE4, "icmp", 0, "reject", "the node", "PRE"),
    (at.NODE6, "tcp", 2375, "reject", "the node", "PRE"),
    (at.NODE_INFRA4, "udp", 53, "reject", "the node", "PRE"),
    (at.NODE_INFRA6, "tcp", 22, "reject", "the node", "PRE"),
    (at.NODE_OTHER4, "tcp", 22, "reject", "the node", "PRE"),
    (at.NODE_OTHER6, "tcp", 22, "reject", "the node", "PRE"),
    ("127.0.0.1", "tcp", 22, "reject", "the node", "PRE"),
    ("224.0.0.251", "udp", 5353, "reject", "the node", "PRE"),
    ("255.255.255.255", "udp", 67, "reject", "the node", "PRE"),
    ("ff02::1", "udp", 5353, "reject", "the node", "PRE"),
    # its own exposed port through the node: no hairpin
    (at.NODE4, "tcp", 8080, "reject", "the node", "PRE"),
    (at.NODE6, "udp", 8080, "reject", "the node", "PRE"),
    # around the node
    (at.INFRA4, "tcp", 80, "reject", "not by the default interface", "FWD"),
    (at.INFRA6, "tcp", 80, "reject", "not by the default interface", "FWD"),
    (at.OTHER4, "tcp", 80, "reject", "not by the default interface", "FWD"),
    (at.OTHER6, "udp", 80, "reject", "not by the default interface", "FWD"),
    (at.LAN4, "tcp", 80, "reject", "the floor", "FWD"),
    (at.LAN6, "tcp", 80, "reject", "the floor", "FWD"),
    # the floor
    *((address, "tcp", 80, "reject", "the floor", "FWD") for address in at.METADATA4.values()),
    *((address, "tcp", 80, "reject", "the floor", "FWD") for address in at.METADATA6.values()),
    *((address, "udp", 53, "reject", "the floor", "FWD") for address in at.SPECIAL4.values()),
    *((address, "udp", 53, "reject", "the floor", "FWD") for address in at.SPECIAL6.values()),
    # protocols that have no business: IP in IP, IPv6 in IP, GRE, ESP, AH, OSPF, SCTP, UDP-Lite
    *((PUBLIC4, str(number), 0, "reject", "protocol", "FWD") for number in (4, 41, 47, 50, 51, 89, 132, 136)),
    *((PUBLIC6, str(number), 0, "drop", "IPv6 extension header", "PIN") for number in (4, 41, 47, 50, 89, 132, 136)),
]


@pytest.mark.parametrize(
    ("to", "protocol", "port", "verdict", "reason", "layer"), EGRESS, ids=[f"{r[0]} {r[1]}/{r[2]}" for r in EGRESS]
)
def test_what_a_sandbox_sends(to: str, protocol: str, port: int, verdict: str, reason: str, layer: str) -> None:
    assert judged(SCENE.egress(WEB, to, protocol, port)) == (verdict, reason, layer)


@pytest.mark.parametrize("to", [PUBLIC4, PUBLIC6])
@pytest.mark.parametrize("protocol", ["tcp", "udp", "icmp"])
def test_accepted_flow_is_stamped_and_masqueraded_into_the_nat_range(to: str, protocol: str) -> None:
    fate = SCENE.egress(WEB, to, protocol)
    assert fate.mark == WEB.generation
    translation = fate.evaluation.translation
    assert translation is not None
    ports = (0, 0) if protocol == "icmp" else SCENE.settings.nat_ports
    assert (translation.kind, translation.low, translation.high) == ("masquerade", *ports)


def test_an_endpoint_without_ipv6_has_none_that_passes() -> None:
    assert SCENE.egress(FOUR, PUBLIC4).verdict == "accept"
    forged = SCENE.egress(FOUR, PUBLIC6, source="fd00:abcd::4")
    assert judged(forged) == ("drop", "spoofed IPv6 source", "PIN")


OPENED = Settings(
    exceptions=parse_openings("resolver 10.0.0.2 udp,tcp/53", "x") + parse_openings("gw fd00:9::9 tcp/443", "x"),
    services=parse_openings("dns 192.168.0.1 udp/53", "x"),
)


@pytest.mark.parametrize(
    ("to", "protocol", "port", "verdict"),
    [
        ("10.0.0.2", "udp", 53, "accept"),
        ("10.0.0.2", "tcp", 53, "accept"),
        ("10.0.0.2", "tcp", 80, "reject"),
        ("10.0.0.2", "icmp", 0, "reject"),
        ("10.0.0.3", "udp", 53, "reject"),
        ("fd00:9::9", "tcp", 443, "accept"),
        ("fd00:9::9", "udp", 443, "reject"),
        (GATEWAY4, "udp", 53, "accept"),
        (GATEWAY4, "tcp", 53, "reject"),
        (GATEWAY6, "udp", 53, "reject"),
        (at.NODE4, "udp", 53, "reject"),
    ],
)
def test_an_exception_opens_one_address_protocol_and_port(to: str, protocol: str, port: int, verdict: str) -> None:
    assert Scene(WEB, settings=OPENED).egress(WEB, to, protocol, port).verdict == verdict


def test_protected_and_public_addresses_join_the_floor() -> None:
    settings = Settings(
        public_addresses=(ip_address("51.15.0.1"), ip_address("2a01::1")),
        protect=(ip_network("34.0.0.0/8"), ip_network("2a02::/16")),
    )
    scene = Scene(WEB, settings=settings)
    for to in ("51.15.0.1", "2a01::1", "34.1.2.3", "2a02::9"):
        assert judged(scene.egress(WEB, to)) == ("reject", "the floor", "FWD")
        assert SCENE.egress(WEB, to).verdict == "accept"


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("router", [False, True])
def test_the_node_becomes_no_router_for_its_other_networks(version: int, router: bool) -> None:
    facts = msgspec.structs.replace(FACTS, forwarding4=router, forwarding6=router)
    source, to = (at.LAN4, at.INFRA4) if version == 4 else (at.LAN6, at.INFRA6)
    fate = Scene(WEB, facts=facts).ingress(source, to, "tcp", 80)
    assert judged(fate) == (("accept", "", "") if router else ("drop", "the node is no router", "FWD"))


def test_without_an_uplink_nothing_leaves_and_nothing_comes() -> None:
    scene = Scene(WEB, facts=NodeFacts(addresses=FACTS.addresses, on_link=FACTS.on_link), uplink="gone0")
    assert judged(scene.egress(WEB, PUBLIC4)) == ("reject", "not by the default interface", "FWD")
    assert scene.ingress(at.LAN4, at.NODE4).evaluation.translation is None


def test_an_unknown_statement_is_refused_and_never_passed_over() -> None:
    table, *rest = SCENE.ruleset.tables
    chain, *others = table.chains
    strange = msgspec.structs.replace(chain, rules=(Rule(("queue num 0",)), *chain.rules))  # type: ignore[arg-type]
    ruleset = Ruleset((msgspec.structs.replace(table, chains=(strange, *others)), *rest))
    with pytest.raises(Unsupported, match="str"):
        SCENE.under(ruleset).egress(WEB, PUBLIC4)


def test_a_fact_that_nobody_stated_is_refused_and_never_assumed() -> None:
    going = flow_of("192.168.0.2", PUBLIC4)
    context = Context("inet", "prerouting", iifname="b9_br0", flow=directed(going), mark=0x1000)
    with pytest.raises(Unsupported, match="fib"):
        evaluate(SCENE.ruleset, flow_packet(going), context)
