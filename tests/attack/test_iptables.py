"""The hostile tenant against the wall in iptables, in both variants: nothing is through, and a sandbox can do its work.

The stage is set with nftables and the wall then laid beside it; nftables' tables go once it stands.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cellwall.adapters.ipset import IpSets
from cellwall.adapters.iptables import XtTables
from cellwall.attack.functional import work
from cellwall.attack.probe import Probe
from cellwall.attack.rows import every_probe
from cellwall.attack.stage import Stage, WalledStage, seat, walled_stage
from cellwall.attack.suite import assault
from cellwall.attack.world import Seat
from cellwall.compile.assemble import compile_wall
from cellwall.compile.usage import Usage
from cellwall.engine.iptables.contracts import Variant
from cellwall.engine.kernel_settings import original_facts
from cellwall.lab import Host
from cellwall.lower.xt.endpoints import holdings
from cellwall.lower.xt.sets import render_sets
from cellwall.lower.xt.tables import render_tables
from cellwall.lower.xt.wall import XtWall, lower_wall, with_holdings

pytestmark = pytest.mark.root

VARIANTS: tuple[Variant, ...] = ("nft", "legacy")
PROBES = [probe for probe in every_probe() if not probe.wall_only and "CTL" not in probe.layers]
"""What drives the control plane is about the engine's backend."""
_SWITCHES = ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables")


class XtStage(Stage, frozen=True, kw_only=True):
    """A stage whose wall is in iptables."""

    variant: Variant


@contextmanager
def stage_in_iptables(variant: Variant) -> Iterator[XtStage]:
    """A walled lab without a rule of nftables' own."""
    tables = XtTables()
    with walled_stage() as stage, stage.lab.node.enter(), IpSets() as sets:
        wall = _wall(stage, tables, variant)
        _lay(stage, wall, tables, sets, variant)

        def attach(host: Host) -> Seat:
            endpoint = stage.wall.attach(host.name, netns=host.netns)
            with stage.lab.node.enter():
                sets.apply(holdings([endpoint], wall.pins).entries, ())
            return seat(host, endpoint)

        with stage.lab.node.enter():
            yield XtStage(stage.lab, stage.world, attach, variant=variant)


def _wall(stage: WalledStage, tables: XtTables, variant: Variant) -> XtWall:
    site = stage.wall._site
    found = site.foundation()
    assert found is not None
    facts = original_facts(site, site.node.observe())
    return lower_wall(compile_wall(site.settings, facts, Usage(), uplink=found.uplink), tables.features(variant))


def _lay(stage: WalledStage, wall: XtWall, tables: XtTables, sets: IpSets, variant: Variant) -> None:
    held = holdings(stage.wall._site.journal.endpoints("attached"), wall.pins)
    sets.schema = {one.name: one for one in wall.sets}
    sets.restore(render_sets(wall.sets))
    sets.apply(held.entries, ())
    whole = with_holdings(wall, held)
    tables.restore(variant, "bridge", render_tables(whole.frames, tables.save(variant, "bridge")))
    tables.restore(variant, "ipv4", render_tables(whole.tables4, tables.save(variant, "ipv4")))
    tables.restore(variant, "ipv6", render_tables(whole.tables6, tables.save(variant, "ipv6")))
    for family in ("bridge", "arp", "inet"):  # an attach of the stage has nowhere else to put its elements
        chains = stage.lab.node.run(["nft", "-a", "list", "table", family, "cellwall"]).text
        assert "chain" in chains
        stage.lab.node.run(["nft", "flush", "table", family, "cellwall"])


@pytest.fixture(scope="module", params=VARIANTS)
def stage(request: pytest.FixtureRequest) -> Iterator[XtStage]:
    with stage_in_iptables(request.param) as stage:
        yield stage


def through(stage: Stage, probes: list[Probe] = PROBES) -> dict[str, str]:
    return {name: seen for name, seen in assault(stage.world, probes).items() if seen}


def test_nothing_is_through(stage: XtStage) -> None:
    assert through(stage) == {}
    assert len(PROBES) > 1500


def test_a_sandbox_can_do_its_work(stage: XtStage) -> None:
    assert {done.id: done.failure for done in work(stage) if done.failure} == {}


def test_nothing_is_through_where_the_bridge_does_not_call_iptables(stage: XtStage) -> None:
    node = stage.lab.node
    node.run(["sysctl", "-qw", *(f"net.bridge.{name}=0" for name in _SWITCHES)])
    try:
        assert through(stage) == {}
    finally:
        node.run(["sysctl", "-qw", *(f"net.bridge.{name}=1" for name in _SWITCHES)])


def test_a_flush_of_filter_opens_nothing(stage: XtStage) -> None:
    node, tables = stage.lab.node, XtTables()
    saved = {family: tables.save(stage.variant, family) for family in ("ipv4", "ipv6")}
    for program in ("iptables", "ip6tables"):
        node.run([f"{program}-{stage.variant}", "-F"])
    try:
        assert through(stage) == {}
    finally:
        for family, text in saved.items():
            tables.restore(stage.variant, family, _only(text, "filter"))


def test_what_is_through_without_the_rules_is_seen(stage: XtStage) -> None:
    """The harness sees what the rules stop: with the pins and what stands behind them flushed, neighbours meet."""
    node, tables = stage.lab.node, XtTables()
    families = ("ipv4", "ipv6")
    saved = {family: tables.save(stage.variant, family) for family in families}
    for program in ("iptables", "ip6tables"):
        for table in ("filter", "security"):
            node.run([f"{program}-{stage.variant}", "-t", table, "-F"])
    node.run(["tc", "qdisc", "del", "dev", stage.world.gateway.bridge, "clsact"])
    try:
        chosen = [probe for probe in PROBES if probe.id in ("A02-udp-v4", "A02-udp-v6")]
        assert set(through(stage, chosen)) == {"A02-udp-v4", "A02-udp-v6"}
    finally:
        for family, text in saved.items():
            tables.restore(stage.variant, family, text)


def _only(saved: str, table: str) -> str:
    """One table of what a save program printed."""
    lines = saved.splitlines()
    first = lines.index(f"*{table}")
    return "\n".join([*lines[first : lines.index("COMMIT", first) + 1], ""])
