"""The evaluator says of random bridge rulesets and frames what the kernel does."""

from collections import Counter as Tally
from collections.abc import Iterator
from random import Random

import pytest
from frames import MAC_A
from generate import BRIDGE, Generator, bridge_frame
from kernel_lab import KernelLab
from rulesets import COUNT, rule

from cellwall.ruleset.context import Context
from cellwall.ruleset.evaluate import Evaluator
from cellwall.ruleset.packet import parse_frame
from cellwall.ruleset.render import render_ruleset
from cellwall.ruleset.types import Chain, Hook, Ruleset, Table

pytestmark = pytest.mark.root

SOURCES = [MAC_A, MAC_A + 1, 0x0A58C0A80002]
DESTINATIONS = [0x020000000C01, 0x020000000C02, 0xFFFFFFFFFFFF, 0x3333FF000001]


@pytest.fixture(scope="module")
def lab() -> Iterator[KernelLab]:
    with KernelLab() as world:
        world.bridge()
        yield world


@pytest.mark.parametrize("seed", range(40))
def test_evaluator_agrees_with_the_kernel_about_bridged_frames(lab: KernelLab, seed: int) -> None:
    random = Random(seed)
    links = {link: lab.index(link) for link in ("b0", "b1")}
    generator = Generator(random, links, [*SOURCES, *DESTINATIONS])
    hooks = {
        "early": (Hook("filter", "prerouting", -500), BRIDGE),
        "late": (Hook("filter", "prerouting", -300), BRIDGE),
        "forward": (Hook("filter", "forward", -500), (*BRIDGE, "oifname", "oif")),
    }
    left = Chain("left", (rule(COUNT),), Hook("filter", "postrouting", 0))
    ruleset = Ruleset((generator.table("bridge", hooks), Table("bridge", "seen", (), (left,))))  # type: ignore[arg-type]
    frames = [bridge_frame(random, SOURCES, DESTINATIONS) for _ in range(50)]

    lab.load(render_ruleset(ruleset))
    lab.send(frames)

    evaluator, expected = Evaluator(ruleset), Tally[tuple[str, str, str, int]]()
    for frame in frames:
        pre = Context("bridge", "prerouting", iifname="b0", iif=links["b0"])
        forward = Context("bridge", "forward", iifname="b0", iif=links["b0"], oifname="b1", oif=links["b1"])
        post = Context("bridge", "postrouting", oifname="b1", oif=links["b1"])
        result = evaluator.walk(parse_frame(frame), (pre, forward, post))
        expected.update((step.family, step.table, step.chain, step.index) for step in result.path)
    assert {place: n for place, n in lab.counters().items() if n} == expected
