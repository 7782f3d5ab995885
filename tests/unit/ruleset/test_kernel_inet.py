"""The evaluator says of random inet rulesets, packets and their flows what the kernel does."""

from collections import Counter as Tally
from collections.abc import Iterator
from random import Random

import frames as fr
import msgspec
import pytest
from frames import address as addr
from generate import FLOW, INET, V4, V6, Generator
from kernel_lab import KernelLab
from rulesets import COUNT, eq, rule

from cellwall.ruleset.context import Context, Flow, FlowTuple
from cellwall.ruleset.evaluate import Evaluation, Evaluator
from cellwall.ruleset.packet import parse_frame
from cellwall.ruleset.render import render_ruleset
from cellwall.ruleset.types import Chain, Hook, Ruleset, Table

pytestmark = pytest.mark.root

NODE = {"b0": 0x020000000B00, "b1": 0x020000000B01}
SENDER = {"b0": 0x020000000A00, "b1": 0x020000000A01}
LOCAL = (addr("10.9.0.1"), addr("fd09::1"))
SIDE = frozenset((*V4[4:], *V6[4:]))
"""Addresses behind b0; all others of the pools are routed to b1."""


@pytest.fixture(scope="module")
def lab() -> Iterator[KernelLab]:
    with KernelLab() as world:
        world.route()
        yield world


class Shot(msgspec.Struct, frozen=True):
    """One packet of a flow, and how conntrack will see it."""

    tuple: FlowTuple
    frame: bytes
    state: str  # new, invalid, untracked


def shots(random: Random, count: int) -> list[Shot]:
    """First packets of flows that are all different, from sources that are never destinations."""
    found: dict[FlowTuple, Shot] = {}
    while len(found) < count:
        shot = _shot(random, len(found) + 1)
        found.setdefault(shot.tuple, shot)
    return list(found.values())


def _shot(random: Random, number: int) -> Shot:
    v6 = random.random() < 0.5
    pool, local = (V6, LOCAL[1]) if v6 else (V4, LOCAL[0])
    source = random.choice((pool[1], pool[4], pool[5]))
    destination = random.choice((pool[0], pool[2], pool[3], pool[0], pool[2], local))
    ports = random.choice((53, 80, 443, 6000, 6001)), random.choice((53, 80, 443, 6000))
    protocol = random.choice((6, 17, 58 if v6 else 1))
    state = "new"
    if protocol == 6:
        body = fr.tcp(*ports)
    elif protocol == 17:
        body = fr.udp(*ports)
    else:
        kind, state = random.choice(
            ((128, "new"), (128, "new"), (129, "invalid"), (1, "invalid"), (136, "untracked"))
            if v6
            else ((8, "new"), (8, "new"), (0, "invalid"), (3, "invalid"))
        )
        ports = number, kind * 256
        body = fr.icmp(kind, number)
    flow = FlowTuple("ip6" if v6 else "ip", source, destination, protocol, *ports)
    return Shot(flow, frame(flow, body, random, "b0"), state)


def frame(flow: FlowTuple, body: bytes, random: Random | None, link: str) -> bytes:
    v6, protocol = flow.family == "ip6", flow.protocol
    body = fr.with_checksum(body, flow.source, flow.destination, protocol, v6=v6)
    if not v6:
        options = random.choice((b"", b"", b"\x01\x01\x01\x00")) if random else b""
        packet = fr.ip4(body, flow.source, flow.destination, protocol, options=options)
        return fr.ether(packet, 0x0800, source=SENDER[link], destination=NODE[link])
    if random and random.random() < 0.3:
        kind = random.choice((0, 60, 43))
        body = fr.routing(protocol, body) if kind == 43 else fr.extension(protocol, body)
        protocol = kind
    packet = fr.ip6(body, flow.source, flow.destination, protocol, hop_limit=64)
    return fr.ether(packet, 0x86DD, source=SENDER[link], destination=NODE[link])


def answer(flow: FlowTuple) -> bytes:
    back = flow.reversed()
    if flow.protocol == 6:
        body = fr.tcp(back.source_port, back.destination_port, flags=0x12, ack=2)
    elif flow.protocol == 17:
        body = fr.udp(back.source_port, back.destination_port)
    else:
        body = fr.icmp(129 if flow.family == "ip6" else 0, flow.source_port)
    return frame(back, body, None, "b1")


def contexts(lab_links: dict[str, int], flow: Flow | None, shot: Shot, iif: str) -> list[Context]:
    reply = flow is not None and flow.direction == "reply"
    target = shot.tuple.source if reply else shot.tuple.destination
    local = target in LOCAL
    common = {
        "family": "inet",
        "iifname": iif,
        "iif": lab_links[iif],
        "flow": flow,
        "untracked": shot.state == "untracked",
        "fib_daddr_type": "local" if local else "unicast",
    }
    pre = Context(hook="prerouting", **common)  # type: ignore[arg-type]
    if local:
        return [pre]
    oif = "b0" if target in SIDE else "b1"
    onward = {**common, "oifname": oif, "oif": lab_links[oif]}
    return [pre, Context(hook="forward", **onward)]  # type: ignore[arg-type]


def random_ruleset(random: Random, links: dict[str, int]) -> Ruleset:
    generator = Generator(random, links, [*NODE.values(), *SENDER.values(), 0x020000000C01])
    fields = (*INET, *FLOW)
    hooks = {
        "raw": (Hook("filter", "prerouting", -300), INET),
        "pre": (Hook("filter", "prerouting", -150), fields),
        "forward": (Hook("filter", "forward", -10), (*fields, "oifname", "oif")),
    }
    left = Chain("left", (rule(COUNT),), Hook("filter", "forward", 100))
    # Conntrack runs in a namespace only while a rule needs it; this one always does.
    tracked = Chain("tracked", (rule(eq("ct state", "new"), COUNT),), Hook("filter", "input", 0))
    return Ruleset((generator.table("inet", hooks), Table("inet", "seen", (), (left, tracked))))  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(40))
def test_evaluator_agrees_with_the_kernel_about_routed_packets(lab: KernelLab, seed: int) -> None:
    random = Random(seed)
    links = {link: lab.index(link) for link in ("b0", "b1")}
    ruleset = random_ruleset(random, links)
    flights = shots(random, 50)
    lab.forget_flows()
    lab.load(render_ruleset(ruleset))

    evaluator, expected = Evaluator(ruleset), Tally[tuple[str, str, str, int]]()
    answers: list[bytes] = []
    for shot in flights:
        flow = Flow(shot.tuple, shot.tuple.reversed()) if shot.state == "new" else None
        result = evaluator.walk(parse_frame(shot.frame, trimmed=True), contexts(links, flow, shot, "b0"))
        count(expected, result)
        if result.verdict == "accept" and result.context.oifname == "b1":
            known = result.context.flow
            if known is not None:
                back = msgspec.structs.replace(
                    known,
                    state="established",
                    direction="reply",
                    status=frozenset(("confirmed", "seen-reply")),
                )
                answers.append(answer(shot.tuple))
                packet = parse_frame(answers[-1], trimmed=True)
                count(expected, evaluator.walk(packet, contexts(links, back, shot, "b1")))
    lab.send([shot.frame for shot in flights])
    lab.send(answers, "1")

    found = {place: n for place, n in lab.counters().items() if n and place[2] != "tracked"}
    assert found == expected


def count(tally: "Tally[tuple[str, str, str, int]]", result: Evaluation) -> None:
    tally.update((step.family, step.table, step.chain, step.index) for step in result.path)
