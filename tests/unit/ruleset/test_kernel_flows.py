"""What random rulesets do not reach: fragments before defragmentation, translation, loading and reloading."""

from collections import Counter as Tally
from collections.abc import Iterator

import frames as fr
import pytest
from batches import apply_changes, render_element_changes
from frames import address as addr
from kernel_lab import KernelLab
from rulesets import ACCEPT, COUNT, DROP, WALL, eq, f, ne, rule, within

from cellwall.ruleset.context import Context, Flow, FlowTuple
from cellwall.ruleset.evaluate import Evaluator
from cellwall.ruleset.packet import parse_frame
from cellwall.ruleset.render import (
    render_refresh,
    render_removal,
    render_replacement,
    render_ruleset,
)
from cellwall.ruleset.types import (
    Chain,
    Dnat,
    Element,
    ElementChange,
    Hook,
    LabelFlow,
    NamedSet,
    Ruleset,
    Table,
)

pytestmark = pytest.mark.root

SOURCE, NODE_MAC = 0x020000000A00, 0x020000000B00
CLIENT, NODE, SERVER = addr("10.9.0.2"), addr("10.9.0.1"), addr("10.9.1.2")
CLIENT6, SERVER6 = addr("fd09::2"), addr("fd09:1::2")


@pytest.fixture(scope="module")
def lab() -> Iterator[KernelLab]:
    with KernelLab() as world:
        world.route()
        yield world


def test_ports_of_later_fragments_before_defragmentation(lab: KernelLab) -> None:
    """Fragments at a priority before conntrack's defragmentation, which runs at -400."""
    early = (
        rule(eq("th dport", 0x7878), COUNT, comment="the data of a fragment, read as a port"),
        rule(ne("th dport", 53), COUNT),
        rule(eq("th dport", 53), COUNT),
        rule(eq("meta l4proto", 17), COUNT),
        rule(eq("icmp type", 0x78), COUNT),
    )
    ruleset = Ruleset((Table("inet", "t", (), (Chain("early", early, Hook("filter", "prerouting", -450)),)),))
    data = fr.udp(1000, 53, b"x" * 24)
    frames = [
        fr.ether(fr.ip4(data[:16], CLIENT, SERVER, 17, more=True), 0x0800, source=SOURCE, destination=NODE_MAC),
        fr.ether(fr.ip4(data[16:], CLIENT, SERVER, 17, fragment=16), 0x0800, source=SOURCE, destination=NODE_MAC),
        fr.ether(fr.ip4(data[16:], CLIENT, SERVER, 1, fragment=16), 0x0800, source=SOURCE, destination=NODE_MAC),
    ]
    for begin, part in ((0, data[:16]), (16, data[16:])):
        body = fr.fragment6(17, part, begin=begin, more=begin == 0)
        frames.append(fr.ether(fr.ip6(body, CLIENT6, SERVER6, 44), 0x86DD, source=SOURCE, destination=NODE_MAC))
    lab.load(render_ruleset(ruleset))
    lab.send(frames)

    context = Context("inet", "prerouting", iifname="b0", iif=lab.index("b0"))
    expected = Tally[int]()
    for frame in frames:
        result = Evaluator(ruleset).evaluate(parse_frame(frame, trimmed=True), context)
        expected.update(step.index for step in result.path)
    assert {place[3]: n for place, n in lab.counters().items() if n} == expected


def test_translated_packets_are_judged_by_their_new_destination(lab: KernelLab) -> None:
    exposed = NamedSet(
        "dnat4",
        ("inet_proto", "inet_service"),
        ("ipv4_addr", "inet_service"),
        elements=(Element((17, 8080), (SERVER, 80)),),
    )
    local = eq("fib daddr type", "local")
    translate = rule(local, Dnat("ip", (f("meta l4proto"), f("th dport")), "dnat4"))
    after = (
        rule(eq("ip daddr", SERVER), eq("th dport", 80), COUNT),
        rule(eq("ip daddr", NODE), COUNT),
        rule(eq("ct status", "dnat"), COUNT),
        rule(eq("ct original ip daddr", NODE), eq("ct original proto-dst", 8080), COUNT),
        rule(eq("ct reply ip saddr", SERVER), eq("ct reply proto-src", 80), COUNT),
    )
    chains = (
        # Its own priority does not make it run before the filter chain at -150.
        Chain("nat", (translate,), Hook("nat", "prerouting", -190)),
        Chain(
            "before",
            (rule(eq("ip daddr", NODE), COUNT), rule(ne("ct status", "dnat"), COUNT)),
            Hook("filter", "prerouting", -150),
        ),
        Chain("after", after, Hook("filter", "prerouting", -50)),
        Chain("forward", (*after, rule(COUNT, ACCEPT)), Hook("filter", "forward", 0)),
    )
    ruleset = Ruleset((Table("inet", "t", (exposed,), chains),))
    lab.forget_flows()
    lab.load(render_ruleset(ruleset))
    links = {link: lab.index(link) for link in ("b0", "b1")}

    expected = Tally[tuple[str, int]]()
    frames = []
    for number, port in enumerate((8080, 8080, 8081)):
        flow = FlowTuple("ip", CLIENT, NODE, 17, 4000 + number, port)
        body = fr.with_checksum(fr.udp(4000 + number, port), CLIENT, NODE, 17, v6=False)
        frames.append(fr.ether(fr.ip4(body, CLIENT, NODE, 17), 0x0800, source=SOURCE, destination=NODE_MAC))
        entry = Flow(flow, flow.reversed())
        pre = Context("inet", "prerouting", iifname="b0", iif=links["b0"], flow=entry, fib_daddr_type="local")
        forward = Context("inet", "forward", iifname="b0", oifname="b1", iif=links["b0"], oif=links["b1"], flow=entry)
        contexts = (pre, forward) if port == 8080 else (pre,)
        result = Evaluator(ruleset).walk(parse_frame(frames[-1]), contexts)
        # The statement before the translation has no counter of its own in the kernel.
        expected.update((step.chain, step.index) for step in result.path if step.chain != "nat")
    lab.send(frames)

    found = {(place[2], place[3]): n for place, n in lab.counters().items() if n}
    assert found == expected
    assert found["forward", 0] == 2


def test_a_label_is_kept_with_the_flow_and_bits_are_added_to_it(lab: KernelLab) -> None:
    labels = NamedSet("owner4", ("ipv4_addr",), ("ct_label",), elements=(Element((CLIENT,), (0x50000300,)),))
    more = NamedSet("more4", ("ipv4_addr",), ("ct_label",), elements=(Element((SERVER,), (0x400,)),))
    known = [NamedSet(f"known{n:x}", ("ct_label",), elements=(Element((n,)),)) for n in (0x50000300, 0x50000700, 0x300)]
    looks = tuple(rule(within(named.name, "ct label"), COUNT) for named in known)
    label = rule(LabelFlow((f("ct original ip saddr"),), "owner4"))
    chains = (
        Chain("before", (*looks, rule(eq("ct state", "new"), COUNT), label), Hook("filter", "prerouting", -150)),
        Chain("after", looks, Hook("filter", "prerouting", -50)),
        Chain("forward", (rule(LabelFlow((f("ip daddr"),), "more4")), *looks), Hook("filter", "forward", 0)),
    )
    ruleset = Ruleset((Table("inet", "t", (labels, more, *known), chains),))
    lab.forget_flows()
    lab.load(render_ruleset(ruleset))
    frames, expected, label_now = [], Tally[tuple[str, int]](), 0
    for number in range(2):
        flow = FlowTuple("ip", CLIENT, SERVER, 17, 4100, 53)
        body = fr.with_checksum(fr.udp(4100, 53), CLIENT, SERVER, 17, v6=False)
        frames.append(fr.ether(fr.ip4(body, CLIENT, SERVER, 17), 0x0800, source=SOURCE, destination=NODE_MAC))
        status = frozenset({"confirmed"} if number else ())
        entry = Flow(flow, flow.reversed(), status=status, label=label_now)
        contexts = [Context("inet", hook, iifname="b0", flow=entry) for hook in ("prerouting", "forward")]
        result = Evaluator(ruleset).walk(parse_frame(frames[-1]), contexts)
        expected.update((step.chain, step.index) for step in result.path)
        assert result.context.flow is not None
        label_now = result.context.flow.label
    lab.send(frames)
    assert label_now == 0x50000700
    found = {(place[2], place[3]): n for place, n in lab.counters().items() if n}
    assert found == {place: n for place, n in expected.items() if place in found}
    assert found == {("before", 1): 1, ("before", 3): 2, ("after", 0): 1, ("after", 1): 1, ("forward", 2): 2}


def test_wall_loads_reloads_and_goes(lab: KernelLab) -> None:
    lab.load(render_ruleset(WALL))
    once = lab.inside(lab.node, "nft", "-s", "list", "ruleset")
    for text in (render_replacement(WALL), render_refresh(WALL), render_refresh(WALL)):
        lab.inside(lab.node, "nft", "-f", "-", text=text)
        assert lab.inside(lab.node, "nft", "-s", "list", "ruleset") == once
    for _ in range(2):
        lab.inside(lab.node, "nft", "-f", "-", text=render_removal(WALL))
        assert lab.inside(lab.node, "nft", "list", "ruleset") == ""
    lab.inside(lab.node, "nft", "-f", "-", text=render_replacement(WALL))
    assert lab.inside(lab.node, "nft", "-s", "list", "ruleset") == once


def test_refresh_keeps_elements_and_refills_the_sets_of_the_node(lab: KernelLab) -> None:
    lab.load(render_ruleset(WALL))
    pin = Element((11, 0x0A58C0A80004, addr("192.168.0.4")))
    changes = (
        ElementChange("add", "bridge", "cw", "pin4", pin),
        ElementChange("add", "inet", "cw", "gen4", Element((addr("192.168.0.4"),), (6,))),
        ElementChange("delete", "inet", "cw", "floor4", Element((addr("168.63.129.16"),))),
    )
    lab.inside(lab.node, "nft", "-f", "-", text=render_element_changes(WALL, changes))
    lab.inside(lab.node, "nft", "-f", "-", text=render_refresh(WALL))
    kept = apply_changes(WALL, changes[:2])
    listed = lab.inside(lab.node, "nft", "-s", "list", "ruleset")
    lab.load(render_ruleset(kept))
    assert listed == lab.inside(lab.node, "nft", "-s", "list", "ruleset")


def test_element_with_new_data_takes_one_batch(lab: KernelLab) -> None:
    lab.load(render_ruleset(WALL))
    key = (addr("192.168.0.2"),)
    changes = (
        ElementChange("delete", "inet", "cw", "gen4", Element(key, (5,))),
        ElementChange("add", "inet", "cw", "gen4", Element(key, (6,))),
    )
    lab.inside(lab.node, "nft", "-f", "-", text=render_element_changes(WALL, changes))
    assert "192.168.0.2 : 0x00000006" in lab.inside(lab.node, "nft", "list", "map", "inet", "cw", "gen4")


def test_negated_state_is_none_of_the_bits(lab: KernelLab) -> None:
    """`ct status != snat,dnat` would be true of a flow with dnat alone."""
    chain = Chain("pre", (rule(ne("ct status", "dnat", "snat"), DROP),), Hook("filter", "prerouting", -50))
    lab.load(render_ruleset(Ruleset((Table("inet", "t", (), (chain,)),))))
    listed = lab.inside(lab.node, "nft", "--debug=netlink", "list", "ruleset")
    assert "& 0x00000030" in listed
    assert "cmp eq reg 1 0x00000000" in listed


def test_lookup_of_masked_fields_reads_the_right_bytes(lab: KernelLab) -> None:
    """Masks in a concatenation, on host-order (mark) and network-order (address) parts."""
    nets = NamedSet("nets", ("mark", "ipv4_addr", "inet_service"), elements=(Element((0, addr("10.9.1.0"), 53)),))
    match = within("nets", f("meta mark", 0x0F), f("ip daddr", 0xFFFFFF00), "th dport")
    chain = Chain("pre", (rule(match, COUNT),), Hook("filter", "prerouting", -300))
    lab.load(render_ruleset(Ruleset((Table("inet", "t", (nets,), (chain,)),))))
    bodies = [fr.ip4(fr.udp(7, port), CLIENT, SERVER, 17) for port in (53, 54)]
    lab.send([fr.ether(body, 0x0800, source=SOURCE, destination=NODE_MAC) for body in bodies])
    assert lab.counters() == {("inet", "t", "pre", 0): 1}
