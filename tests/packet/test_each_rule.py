"""Each rule of the wall is missed by something when it is gone.

Most are missed by a probe of the hostile tenant's, with every other layer away. For the rest, which stand behind or
before another rule or meet a state that no tenant brings about alone, there is a row here. Taken out of the live
ruleset: first what covers the rule, and the packet is stopped still; then the rule, and the identical packet passes. A
rule whose packet passes either way would stop nothing, and one that nobody misses would be believed in for nothing.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import msgspec
import pytest

from cellwall.attack.probe import LAYERS, Layer, Probe, Volley
from cellwall.attack.removal import Footing
from cellwall.attack.rows import every_probe
from cellwall.attack.stage import SETTINGS as STAGE_SETTINGS
from cellwall.attack.stage import WalledStage, walled_stage
from cellwall.attack.suite import assault
from cellwall.model.settings import Settings
from cellwall.ruleset.types import Ruleset
from packet import stopped, stopped_ended, stopped_forwarded, stopped_frames
from packet.stopped import EXPOSED, INSIDE, PUBLISHED, SETTINGS, Attempt, meet
from packet.stopped_forwarded import led_by_others, to_the_floor
from scene import Scene
from world import Told as Rule
from world import World, open_world, take_all_out, taken_out, unlatch

pytestmark = [pytest.mark.root, pytest.mark.minutes]


class Row(NamedTuple):
    rule: Rule
    scenario: Callable[[World, int], Attempt]
    covers: tuple[Rule, ...] = ()
    families: tuple[int, ...] = (4, 6)
    settings: Settings = SETTINGS


def both_guards(
    comment: str, scenario: Callable[[World, int], Attempt], settings: Settings = SETTINGS
) -> tuple[Row, Row]:
    """The same clauses stand before routing and in the input path."""
    early, late = Rule("tracked-guard", comment), Rule("input-guard", comment)
    return Row(early, scenario, (late,), settings=settings), Row(late, scenario, (early,), settings=settings)


def both_floors(having: str, *targets: str) -> tuple[Row, Row]:
    """Where nothing translates, where a packet is sent and where it is led are the same."""
    sent, led = Rule("egress", "the floor", having), Rule("egress", "led to the floor", having)
    families = tuple({6 if ":" in target else 4 for target in targets})
    scenario = to_the_floor(*targets)
    return Row(sent, scenario, (led,), families), Row(led, scenario, (sent,), families)


LINGERING = "too many ended connections of the tenant"
FORMER = "flow of a former endpoint"
AGAIN = Rule("begun-again", "begins again within an ended connection")
ANSWERED = Rule("early", "answer within an ended connection")
UNTRACKED = Rule("tracked-tenant", "no valid flow")
ROUTER = Rule("forward", "the node is no router")
ONE_WAY = Rule("B9-FORWARD", "not by the default interface")
DIRECT = Rule("early", "direct routing to a sandbox")
NOT_BOUND = Rule("ingress", "not through a port binding")
NOT_EXPOSED = Rule("ingress", "not exposed")

PACKETS: tuple[Row, ...] = (
    *both_guards("echo flood", stopped.echo_flood),
    Row(Rule("tracked-guard", FORMER), partial(stopped.former_flow_to_a_service, answered=False)),
    Row(Rule("input-guard", FORMER), partial(stopped.former_flow_to_a_service, answered=True)),
    *both_guards("too many connections", stopped.flows_to_a_service),
    *both_guards("too many connections of the tenant", stopped.flows_to_a_service, stopped.CROWDED),
    Row(Rule("input-guard", "too many new connections"), stopped.flows_to_a_service, settings=stopped.HURRIED),
    Row(Rule("input-guard", "too many bytes sent"), stopped.bytes_to_a_service, settings=stopped.NARROW),
    Row(Rule("input-guard", "too many packets sent"), stopped.bytes_to_a_service, settings=stopped.BUSY),
    Row(Rule("client", "too many connections of the tenant"), stopped.flows_of_clients, settings=stopped.CROWDED),
    Row(Rule("input-guard", LINGERING), stopped_ended.connection_to_a_service, settings=stopped_ended.WITH_SERVICE),
    Row(Rule("client", LINGERING), stopped_ended.connection_of_a_client),
    Row(AGAIN, stopped_ended.connection_begun_again, (ANSWERED,)),
    Row(ANSWERED, stopped_ended.connection_begun_again, (AGAIN,)),
    Row(Rule("client", "too many new connections"), stopped.flows_of_clients, settings=stopped.HURRIED),
    Row(Rule("client", "too many bytes got"), stopped.first_packets_of_clients, settings=stopped.PARTED),
    Row(Rule("client", "too many packets got"), stopped.first_packets_of_clients, settings=stopped.BUSY),
    Row(Rule("B9-FORWARD", "too many bytes sent"), stopped.bytes_of_a_sandbox, settings=stopped.NARROW),
    Row(Rule("B9-FORWARD", "too many bytes got"), stopped.bytes_of_a_client, settings=stopped.NARROW),
    Row(Rule("output", "to a sandbox by another interface"), stopped_forwarded.of_the_node_elsewhere),
    Row(Rule("output-tenant", "amid a connection"), stopped_forwarded.amid_a_connection_of_the_nodes),
    Row(Rule("forward", "to a sandbox by another interface"), stopped_forwarded.of_a_client_elsewhere, (ROUTER,)),
    Row(
        Rule("B9-FORWARD", "container to container"),
        stopped_forwarded.to_a_neighbour,
        (ONE_WAY, NOT_BOUND, NOT_EXPOSED),
    ),
    Row(Rule("B9-FORWARD", "not by the default interface", "told-sender"), stopped_forwarded.by_another_interface),
    Row(
        Rule("B9-FORWARD", "no valid flow"),
        stopped_forwarded.without_a_flow,
        (UNTRACKED, Rule("egress", "no endpoint")),
    ),
    *both_floors("@floor4", "10.0.0.5"),
    *both_floors("@floor6", "2001:db8::9"),
    *both_floors("2000::", "fc00:9::9"),
    Row(NOT_BOUND, stopped_forwarded.straight_to_an_exposed_port, (DIRECT, NOT_EXPOSED)),
    Row(Rule("ingress", FORMER), stopped_forwarded.former_flow_to_an_exposed_port),
    Row(Rule("ingress", "amid a connection"), stopped_forwarded.amid_a_clients_connection),
    Row(NOT_EXPOSED, led_by_others(81, *EXPOSED)),
    Row(NOT_EXPOSED, led_by_others(INSIDE, f"{PUBLISHED}:{INSIDE}/udp@8.0.0.0/8,2a00::/16")),
    Row(Rule("stamp-ingress", "no endpoint"), stopped_forwarded.exposed_without_an_endpoint),
    Row(Rule("related", "error about no live flow"), stopped_forwarded.error_about_a_flow_of_another_policy),
)


UNVOUCHED = (Rule("frame-input", "not judged by the pins"), Rule("early-tenant", "not judged by the pins"))
GUARDED = (Rule("tracked-guard", "the node"), Rule("input-guard", "the node"))
FROM_PORT, TO_PORT = Rule("frame-forward", "bridged from a sandbox"), Rule("frame-forward", "bridged to a sandbox")
EARLY_BESIDE, INPUT_BESIDE = Rule("early", "not a bridge port"), Rule("input", "not a bridge port")
LOOSE_IN, LOOSE_OUT = Rule("loose-arp-in", "not a bridge port"), Rule("loose-arp-out", "not a bridge port")

FRAMES: tuple[Row, ...] = (
    Row(
        Rule("port-ipv6", "IPv6 extension header"),
        stopped_frames.extension_header,
        (*UNVOUCHED, Rule("tracked-tenant", "IPv6 extension header")),
        (6,),
    ),
    Row(
        Rule("port-icmp6", "router, redirect, or advertisement ICMPv6"),
        stopped_frames.redirect,
        (*UNVOUCHED, UNTRACKED, *GUARDED),
        (6,),
    ),
    Row(Rule("port-group6", "multicast"), stopped_frames.to_a_group, (*UNVOUCHED, *GUARDED), (6,)),
    Row(
        Rule("port-solicitation", "forwarded neighbour discovery"),
        stopped_frames.forwarded_solicitation,
        (UNTRACKED, *GUARDED),
        (6,),
    ),
    Row(Rule("port-solicitation", "neighbour discovery flood"), stopped_frames.solicitation_flood, (), (6,)),
    Row(
        Rule("port-solicitation", "solicitation of another address"), stopped_frames.other_solicitation, UNVOUCHED, (6,)
    ),
    Row(Rule("port-arp", "ARP to another port"), stopped_frames.arp_to_a_neighbour, (FROM_PORT, TO_PORT), (4,)),
    Row(Rule("port-arp", "ARP flood"), stopped_frames.arp_flood, (), (4,)),
    Row(Rule("port-ipv4", "fragment flood"), stopped_frames.fragment_flood, (), (4,)),
    Row(Rule("port-ipv6", "fragment flood"), stopped_frames.fragment_flood, (), (6,)),
    Row(FROM_PORT, stopped_frames.to_a_foreign_port, (Rule("port", "no frame a sandbox may send"),)),
    Row(
        Rule("port", "multicast listener report"),
        stopped_frames.listener_report_to_a_foreign_port,
        (Rule("port", "no frame a sandbox may send"), FROM_PORT),
        (6,),
    ),
    Row(Rule("frame-output", "no endpoint behind this port"), stopped_frames.to_a_port_without_an_endpoint),
    Row(LOOSE_IN, stopped_frames.arp_beside_the_bridge, (LOOSE_OUT,), (4,)),
    Row(LOOSE_OUT, stopped_frames.arp_beside_the_bridge, (LOOSE_IN,), (4,)),
    Row(EARLY_BESIDE, stopped_frames.from_beside_to_the_node, (INPUT_BESIDE,)),
    Row(INPUT_BESIDE, stopped_frames.from_beside_to_the_node, (EARLY_BESIDE,)),
    Row(
        Rule("forward", "not a bridge port", "iifname"),
        stopped_frames.from_beside_to_the_internet,
        (EARLY_BESIDE, ROUTER),
    ),
    Row(Rule("forward", "not a bridge port", "oifname"), stopped_frames.of_the_lan_to_beside, (ROUTER,)),
    Row(Rule("output", "not a bridge port"), stopped_frames.of_the_node_to_beside),
)
ROWS = (*FRAMES, *PACKETS)


def name(rule: Rule) -> str:
    return f"{rule.chain}: {rule.comment} {rule.having}".strip()


@pytest.mark.parametrize(
    ("row", "family"),
    [pytest.param(row, family, id=f"{name(row.rule)} IPv{family}") for row in ROWS for family in row.families],
)
def test_a_rule_and_what_covers_it_stop_a_packet_alone_and_without_them_it_is_through(row: Row, family: int) -> None:
    with open_world(settings=row.settings) as world:
        meet(world, family)
        unlatch(world)
        attempt = row.scenario(world, family)
        for cover in row.covers:
            with taken_out(world, [row.rule, *(other for other in row.covers if other != cover)]):
                assert not attempt(), f"{name(cover)} is said to stop it"
        if row.covers:
            take_all_out(world, row.covers)
        assert not attempt()
        take_all_out(world, [row.rule])
        assert attempt()


# ---------------------------------------------------------------- all rules

UNMISSED = {Rule("early", "loopback from outside")}
"""Of IPv6: the kernel itself drops what comes to ::1 from outside (net/ipv6/ip6_input.c, ip6_rcv_core)."""

JUDGES: tuple[Layer, ...] = ("PIN", "RAW", "PRE", "IN", "OUT", "FWD")
"""Layers whose rules stop something."""

Where = tuple[int, int, int]
"""A rule by the numbers of its table, its chain and of itself."""


def of_layer(ruleset: Ruleset, layer: Layer) -> list[tuple[Where, Rule]]:
    return [
        ((t, c, r), Rule(chain.name, rule.comment))
        for t, table in enumerate(ruleset.tables)
        for c, chain in enumerate(table.chains)
        for r, rule in enumerate(chain.rules)
        if rule.layer == layer
    ]


def without(ruleset: Ruleset, at: Where) -> Ruleset:
    t, c, r = at
    table = ruleset.tables[t]
    chain = table.chains[c]
    chain = msgspec.structs.replace(chain, rules=chain.rules[:r] + chain.rules[r + 1 :])
    table = msgspec.structs.replace(table, chains=(*table.chains[:c], chain, *table.chains[c + 1 :]))
    return Ruleset((*ruleset.tables[:t], table, *ruleset.tables[t + 1 :]))


LIKELY = {
    "too many packets sent": "B10-packets-out",
    "too many packets got": "B10-packets-in",
    "connection opened backwards": "C01-backwards",
    "flow of a former endpoint": "D09-surviving",
    "too many new connections": "B09-syn-flood",
    "too many ended connections of the tenant": "B06-ended",
    "too many connections of the tenant": "B06-tenant",
    "too many connections": "B06-",
    "no unicast source": "D01-client",
    "no client asks from there": "C01-client",
    "helper expectation": "B04-expectation",
    "a sandbox's address from outside": "D08-loose",
    "no frame a sandbox may send": "A10-unknown",
    "spoofed IPv4 source or options": "A10-ipv4",
    "spoofed IPv6 source": "A07-host",
    "ARP other than a request for the gateway": "A10-arp",
}
"""What is tried first for a rule, as it takes long until its turn comes. Where it misses nothing, the others may."""


def in_turns(probes: list[Probe], likely: str | None) -> Iterator[list[Probe]]:
    """The likely, then one of every kind: most rules are missed by one of these."""
    kinds: dict[tuple[object, ...], Probe] = {}
    for probe in probes:
        kinds.setdefault((probe.row, type(probe), probe.layers, probe.families), probe)
    first = [probe for probe in probes if likely and probe.id.startswith(likely)]
    second = [probe for probe in kinds.values() if probe not in first]
    yield from (turn for turn in (first, second) if turn)
    yield [probe for probe in probes if probe not in first and probe not in second]


def is_any_through(stage: WalledStage, probes: list[Probe]) -> bool:
    """Volleys go together, and the other probes each on its own, which take longer, until one is through."""
    volleys = [probe for probe in probes if isinstance(probe, Volley)]
    alone = ([probe] for probe in probes if not isinstance(probe, Volley))
    return any(any(assault(stage.world, some).values()) for some in (volleys, *alone))


def test_what_is_likely_is_a_probe_and_of_a_rule() -> None:
    """Else it is not tried first, and nobody notices but by the time that it takes."""
    ids = [probe.id for probe in every_probe()]
    assert [start for start in LIKELY.values() if not any(one.startswith(start) for one in ids)] == []
    ruleset = Scene(settings=STAGE_SETTINGS).ruleset
    comments = {rule.comment for layer in JUDGES for _, rule in of_layer(ruleset, layer)}
    assert LIKELY.keys() - comments == set()


@pytest.fixture(scope="module")
def stage() -> Iterator[WalledStage]:
    with walled_stage() as stage:
        yield stage


@pytest.mark.slow
@pytest.mark.parametrize("layer", JUDGES)
def test_every_rule_is_missed_by_a_probe_or_has_a_row_here(stage: WalledStage, layer: Layer) -> None:
    """Each rule without a row is taken out of its layer while every other layer is away. That the layer is enough with
    all its rules is what the suite's own controls say."""
    probes = [
        probe
        for probe in every_probe()
        if layer in probe.layers and probe.controlled and not probe.together and not probe.opens
    ]
    footing = Footing(stage.wall, stage.lab.node)
    whole = footing._ruleset

    def missed(at: Where, rule: Rule) -> bool:
        footing._ruleset = without(whole, at)
        for turn in in_turns(probes, LIKELY.get(rule.comment)):
            footing.remove(frozenset(LAYERS) - {layer, "CTL"})
            if is_any_through(stage, turn):
                return True
        return False

    rows = {Rule(row.rule.chain, row.rule.comment) for row in ROWS}
    expected = [(at, rule) for at, rule in of_layer(whole, layer) if rule not in rows]
    unmissed = {rule for at, rule in expected if not missed(at, rule)}
    footing._ruleset = whole
    footing.restore()
    assert unmissed == UNMISSED & {rule for _, rule in expected}
