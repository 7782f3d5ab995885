"""What the evaluator says of single rules, chains and walks; that it is the kernel's word is tested elsewhere."""

import pytest
from rulesets import (
    ACCEPT,
    COUNT,
    DROP,
    RETURN,
    WALL,
    eq,
    f,
    goto,
    ip,
    jump,
    mac,
    ne,
    net,
    one_chain,
    outside,
    rule,
    within,
)

from cellwall.errors import Conflict, NotFound, Unsupported
from cellwall.ruleset.compose import arp_packet, flow_packet, framed, neighbour_packet
from cellwall.ruleset.context import Context, Flow, FlowTuple
from cellwall.ruleset.evaluate import Step, evaluate, walk
from cellwall.ruleset.packet import Packet
from cellwall.ruleset.statements import Translation
from cellwall.ruleset.types import (
    Chain,
    ConnectionsOver,
    Dnat,
    Element,
    Hook,
    MarkPacket,
    Masquerade,
    Meter,
    NamedSet,
    Reject,
    Rule,
    Ruleset,
    StampFlow,
    Statement,
    Table,
)

TENANT, GATEWAY, WORLD = ip("192.168.0.2"), ip("192.168.0.1"), ip("93.184.216.34")
MAC, GATEWAY_MAC = mac("0a:58:c0:a8:00:02"), 0x020000000001
EGRESS = FlowTuple("ip", TENANT, WORLD, 6, 40000, 443)
PRE = Context("inet", "prerouting", iifname="b9_br0", iif=4)
FORWARD = Context(
    "inet", "forward", iifname="b9_br0", iif=4, oifname="eth0", oif=2, flow=Flow(EGRESS, EGRESS.reversed())
)
PORT = Context("bridge", "prerouting", iifname="b9hcafe", iif=7)


def egress(**options: int) -> Packet:
    return flow_packet(EGRESS, source_mac=MAC, destination_mac=GATEWAY_MAC, **options)


def matches(*statements: Statement, context: Context = PRE, packet: Packet | None = None, **table: object) -> bool:
    ruleset = one_chain(rule(*statements, DROP), **table)  # type: ignore[arg-type]
    return evaluate(ruleset, packet or egress(), context).verdict == "drop"


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (eq("ip saddr", TENANT), True),
        (eq("ip saddr", WORLD, TENANT), True),
        (ne("ip saddr", TENANT), False),
        (eq("ip daddr", ip("93.184.216.0"), mask=ip("255.255.255.0")), True),
        (eq("ip6 saddr", TENANT), False),
        (ne("ip6 saddr", TENANT), False),  # not IPv6 at all: no match of the negation either
        (eq("ether saddr", MAC), True),
        (eq("ether daddr", mac("02:00:00:00:00:00"), mask=mac("ff:ff:ff:00:00:00")), True),
        (eq("iifname", "b9*"), True),
        (ne("iifname", "b9*", "lo"), False),
        (eq("oifname", ""), True),  # an interface that the hook does not have is the empty name
        (eq("oif", 0), True),
        (eq("meta l4proto", 6), True),
        (eq("th dport", 443), True),
        (eq("ct state", "invalid", "new"), True),  # before conntrack and without an entry
        (ne("ct state", "invalid"), False),
        (ne("ct status", "dnat"), False),  # no entry, nothing to read
        (eq("ct mark", 0), False),
        (eq("exthdr rt", 0), False),
        (eq("meta nfproto", "ipv4"), True),
    ],
)
def test_comparison(statement: Statement, expected: bool) -> None:
    assert matches(statement) is expected


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (eq("ct state", "new", "established"), True),
        (ne("ct state", "invalid", "untracked"), True),
        (ne("ct status", "dnat"), True),
        (eq("ct direction", "original"), True),
        (eq("ct original ip daddr", WORLD), True),
        (eq("ct original ip6 daddr", WORLD), False),
        (ne("ct original ip6 daddr", 1), False),
        (eq("ct reply ip saddr", WORLD), True),
        (eq("ct reply proto-src", 443), True),
        (eq("ct original protocol", 6), True),
    ],
)
def test_comparison_with_the_flow(statement: Statement, expected: bool) -> None:
    ruleset = Ruleset((Table("inet", "t", (), (Chain("f", (rule(statement, DROP),), Hook("filter", "forward", 0)),)),))
    assert (evaluate(ruleset, egress(), FORWARD).verdict == "drop") is expected


def test_conntrack_is_unknown_before_its_hook() -> None:
    late = Context("inet", "prerouting", iifname="b9_br0", flow=Flow(EGRESS, EGRESS.reversed()))
    early = Chain("early", (rule(eq("ct state", "new"), DROP),), Hook("filter", "prerouting", -300))
    after = Chain("after", (rule(eq("ct state", "new"), DROP),), Hook("filter", "prerouting", -150))
    result = evaluate(Ruleset((Table("inet", "t", (), (after, early)),)), egress(), late)
    assert result.step == Step("inet", "t", "after", 0)


def test_tagged_frames_match_an_address_but_not_a_type() -> None:
    tagged = framed(b"\0\5\x08\0" + egress().network, 0x8100, MAC, GATEWAY_MAC)
    bridge = {"context": PORT, "family": "bridge"}
    assert matches(eq("ip saddr", TENANT), packet=tagged, **bridge)  # type: ignore[arg-type]
    assert not matches(eq("ether type", 0x0800), packet=tagged, **bridge)  # type: ignore[arg-type]
    assert not matches(eq("ether type", 0x0800), eq("ip saddr", TENANT), packet=tagged, **bridge)  # type: ignore[arg-type]
    assert matches(eq("ether type", 0x0800), eq("ip saddr", TENANT), **bridge)  # type: ignore[arg-type]


def test_a_field_behind_the_end_of_the_packet_ends_the_rule() -> None:
    cut = framed(egress().network[:21], 0x0800, MAC, GATEWAY_MAC)
    assert not matches(ne("th dport", 1), packet=cut)
    assert not matches(ne("th dport", 1), packet=cut, context=PORT, family="bridge")


def test_lookup_of_intervals_and_its_negation() -> None:
    nets = NamedSet("n", ("ipv4_addr",), interval=True, elements=(Element((net("93.184.216.0/24"),)),))
    assert matches(within("n", "ip daddr"), sets=(nets,))
    assert not matches(outside("n", "ip daddr"), sets=(nets,))
    assert matches(outside("n", "ip saddr"), sets=(nets,))
    assert not matches(outside("n", "ct original ip daddr"), sets=(nets,))


def test_drop_is_final_and_accept_is_not() -> None:
    first = Chain("first", (rule(ACCEPT), rule(DROP)), Hook("filter", "prerouting", -300))
    second = Chain("second", (rule(DROP),), Hook("filter", "prerouting", -150))
    third = Chain("third", (rule(COUNT),), Hook("filter", "prerouting", 0))
    result = evaluate(Ruleset((Table("inet", "t", (), (third, second, first)),)), egress(), PRE)
    assert result.verdict == "drop"
    assert [(step.chain, step.index) for step in result.path] == [("first", 0), ("second", 0)]
    assert result.rule == rule(DROP)


def test_goto_does_not_come_back_to_its_chain() -> None:
    chains = (
        Chain("pre", (rule(jump("a")), rule(COUNT)), Hook("filter", "prerouting", 0)),
        Chain("a", (rule(goto("b")), rule(DROP))),
        Chain("b", (rule(RETURN), rule(DROP))),
    )
    result = evaluate(Ruleset((Table("inet", "t", (), chains),)), egress(), PRE)
    assert [(step.chain, step.index) for step in result.path] == [("pre", 0), ("a", 0), ("b", 0), ("pre", 1)]
    assert (result.verdict, result.rule) == ("accept", None)


def test_marks_are_carried_from_hook_to_hook() -> None:
    stamp = NamedSet("gen", ("ipv4_addr",), ("mark",), elements=(Element((TENANT,), (9,)),))
    pre = Chain("pre", (rule(MarkPacket(0x10)),), Hook("filter", "prerouting", -300))
    forward = Chain(
        "forward",
        (
            rule(eq("meta mark", 0x10, mask=0x10), StampFlow((f("ct original ip saddr"),), "gen")),
            rule(eq("ct mark", 9), Reject("tcp reset")),
        ),
        Hook("filter", "forward", 0),
    )
    result = walk(Ruleset((Table("inet", "t", (stamp,), (pre, forward)),)), egress(), (PRE, FORWARD))
    assert result.verdict == "reject"
    assert result.context.mark == 0x10
    assert result.context.flow is not None
    assert result.context.flow.mark == 9


def test_a_failed_map_lookup_ends_the_rule() -> None:
    empty = NamedSet("gen", ("ipv4_addr",), ("mark",))
    chain = Chain("f", (rule(StampFlow((f("ct original ip saddr"),), "gen"), DROP),), Hook("filter", "forward", 0))
    assert evaluate(Ruleset((Table("inet", "t", (empty,), (chain,)),)), egress(), FORWARD).verdict == "accept"


def test_a_packet_without_a_flow_is_not_stamped_and_goes_on() -> None:
    gen = NamedSet("gen", ("ipv4_addr",), ("mark",), elements=(Element((TENANT,), (9,)),))
    assert matches(StampFlow((f("ip saddr"),), "gen"), sets=(gen,))


def test_meters_are_over_only_where_the_context_says_so() -> None:
    meter = Meter((f("ip saddr"),), "cc", ConnectionsOver(10))
    sets = (NamedSet("cc", ("ipv4_addr",), dynamic=True, size=10),)
    assert not matches(meter, sets=sets)
    assert matches(meter, sets=sets, context=Context("inet", "prerouting", over={"cc": True}))


def nat_ruleset() -> Ruleset:
    exposed = NamedSet(
        "dnat",
        ("inet_proto", "inet_service"),
        ("ipv4_addr", "inet_service"),
        elements=(Element((6, 80), (TENANT, 8080)),),
    )
    pre = Chain("pre", (rule(Dnat("ip", (f("meta l4proto"), f("th dport")), "dnat")),), Hook("nat", "prerouting", -110))
    forward = Chain("f", (rule(eq("ip daddr", TENANT), eq("th dport", 8080), DROP),), Hook("filter", "forward", 0))
    post = Chain("post", (rule(Masquerade(1024, 2048)),), Hook("nat", "postrouting", 90))
    return Ruleset((Table("inet", "t", (exposed,), (pre, forward, post)),))


def test_a_translated_destination_is_carried_to_the_next_hook() -> None:
    flow = FlowTuple("ip", WORLD, ip("10.0.0.1"), 6, 999, 80)
    entry = Flow(flow, flow.reversed())
    contexts = (
        Context("inet", "prerouting", iifname="eth0", flow=entry),
        Context("inet", "forward", iifname="eth0", flow=entry),
    )
    result = walk(nat_ruleset(), flow_packet(flow), contexts)
    assert result.verdict == "drop"
    assert result.translation == Translation("dnat", TENANT, 8080)
    assert result.context.flow is not None
    assert result.context.flow.status == {"dnat"}
    assert result.context.flow.reply == FlowTuple("ip", TENANT, WORLD, 6, 8080, 999)


def test_only_the_first_packet_of_a_flow_reaches_nat_chains() -> None:
    for flow in (
        Flow(EGRESS, EGRESS.reversed(), state="established"),
        Flow(EGRESS, EGRESS.reversed(), status=frozenset(("confirmed",))),
        None,
    ):
        context = Context("inet", "postrouting", oifname="eth0", flow=flow)
        assert evaluate(nat_ruleset(), egress(), context).translation is None
    context = Context("inet", "postrouting", oifname="eth0", flow=FORWARD.flow)
    assert evaluate(nat_ruleset(), egress(), context).translation == Translation("masquerade", low=1024, high=2048)


@pytest.mark.parametrize(
    ("packet", "verdict", "chain"),
    [
        (egress(), "accept", "p4"),
        (flow_packet(EGRESS, source_mac=MAC + 1, destination_mac=GATEWAY_MAC), "drop", "p4"),
        (flow_packet(EGRESS, source_mac=MAC, destination_mac=GATEWAY_MAC + 1), "drop", "port"),
        (flow_packet(EGRESS.reversed(), source_mac=MAC, destination_mac=GATEWAY_MAC), "drop", "p4"),
        (arp_packet(1, sender_mac=MAC, sender=TENANT, target=GATEWAY), "accept", "parp"),
        (arp_packet(1, sender_mac=MAC, sender=TENANT + 1, target=GATEWAY), "drop", "parp"),
        (arp_packet(2, sender_mac=MAC + 1, sender=TENANT, target=GATEWAY, source_mac=MAC), "drop", "parp"),
        (
            neighbour_packet(
                136,
                ip("fd00::3"),
                source=ip("fd00::2"),
                destination=ip("ff02::1"),
                source_mac=MAC,
                destination_mac=0x333300000001,
            ),
            "drop",
            "port",
        ),
        (framed(bytes(50), 0x8863, MAC, GATEWAY_MAC), "drop", "port"),
    ],
)
def test_pins_of_the_shared_wall(packet: Packet, verdict: str, chain: str) -> None:
    result = evaluate(WALL, packet, PORT)
    assert result.verdict == verdict
    assert result.step is not None
    assert result.step.chain == chain


class TestRefusals:
    def test_a_fact_that_the_context_does_not_state(self) -> None:
        with pytest.raises(Unsupported, match="fib"):
            matches(eq("fib daddr type", "local"))

    def test_a_statement_that_is_not_known(self) -> None:
        with pytest.raises(Unsupported, match="str"):
            evaluate(one_chain(Rule(("queue", DROP))), egress(), PRE)  # type: ignore[arg-type]

    def test_a_packet_that_never_reaches_the_hook(self) -> None:
        arp = arp_packet(1, sender_mac=MAC, sender=TENANT, target=GATEWAY)
        with pytest.raises(Unsupported, match="inet"):
            evaluate(one_chain(rule(DROP)), arp, PRE)

    def test_a_set_or_chain_that_does_not_exist(self) -> None:
        for statement in (within("nosuch", "ip saddr"), jump("nosuch")):
            with pytest.raises(NotFound, match="nosuch"):
                evaluate(one_chain(rule(statement)), egress(), PRE)

    def test_two_base_chains_whose_order_is_not_known(self) -> None:
        chains = tuple(Chain(name, (rule(DROP),), Hook("filter", "prerouting", 0)) for name in "ab")
        with pytest.raises(Conflict, match="priority"):
            evaluate(Ruleset((Table("inet", "t", (), chains),)), egress(), PRE)

    def test_endless_jumps(self) -> None:
        chains = (
            Chain("pre", (rule(jump("a")),), Hook("filter", "prerouting", 0)),
            Chain("a", (rule(jump("a")),)),
        )
        with pytest.raises(Unsupported, match="jumps"):
            evaluate(Ruleset((Table("inet", "t", (), chains),)), egress(), PRE)
