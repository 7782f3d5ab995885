"""The hostile tenant against the wall in iptables, both variants: nothing is through, and a sandbox can do its work."""

from collections.abc import Iterator

import msgspec
import pytest

from cellwall.adapters.iptables.tables import XtTables
from cellwall.attack.functional import work
from cellwall.attack.probe import Probe, Volley
from cellwall.attack.rows import every_probe
from cellwall.attack.stage import SETTINGS, WalledStage, walled_stage
from cellwall.engine.iptables.contracts import Variant
from measured import through

pytestmark = [pytest.mark.root, pytest.mark.minutes]

VARIANTS: tuple[Variant, ...] = ("nft", "legacy")
_THROUGH = ("B11-forged-",)
_BEFORE_TRACKING = ("B06-ended-", "B06-begun-again-")
"""What only `raw` can do: say that a flow is forgotten soon, and stop what connection tracking must not see."""
PROBES = tuple(probe for probe in every_probe() if not probe.id.startswith(_THROUGH))
"""All but those of which `lower/xt/limits.py` says that they are through: who forges many sources has another's forged
ones missing in the log."""
_SWITCHES = ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables")


@pytest.fixture(scope="module", params=VARIANTS)
def stage(request: pytest.FixtureRequest) -> Iterator[WalledStage]:
    with walled_stage(msgspec.structs.replace(SETTINGS, backend="iptables", iptables=request.param)) as stage:
        assert "cellwall" not in stage.lab.node.run(["nft", "list", "tables"]).text
        yield stage


@pytest.fixture
def variant(request: pytest.FixtureRequest, stage: WalledStage) -> Variant:
    return stage.wall.settings.iptables  # type: ignore[return-value]  # never auto here


RULES = [probe for probe in PROBES if not probe.wall_only and "CTL" not in probe.layers]
"""What does not drive the control plane."""


@pytest.fixture
def rules(request: pytest.FixtureRequest, variant: Variant) -> list[Probe]:
    """All frames, and what takes steps in one of the variants for each disturbance: the text of the rules is the same.
    `--full`: in both."""
    if variant == request.param or request.config.getoption("--full"):
        return RULES
    return [probe for probe in RULES if isinstance(probe, Volley)]


def steps_in(variant: Variant) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("rules", [variant], indirect=True, ids=[f"steps in {variant}"])


@pytest.mark.slow
def test_nothing_is_through(stage: WalledStage) -> None:
    assert through(stage.world, PROBES) == {}
    assert stage.wall.status().drift == ()


def test_a_sandbox_can_do_its_work(stage: WalledStage) -> None:
    assert {done.id: done.failure for done in work(stage) if done.failure} == {}


@steps_in("nft")
def test_nothing_is_through_where_the_bridge_does_not_call_iptables(stage: WalledStage, rules: list[Probe]) -> None:
    node = stage.lab.node
    node.run(["sysctl", "-qw", *(f"net.bridge.{name}=0" for name in _SWITCHES)])
    try:
        assert through(stage.world, rules) == {}
    finally:
        node.run(["sysctl", "-qw", *(f"net.bridge.{name}=1" for name in _SWITCHES)])


@steps_in("legacy")
def test_a_flush_of_filter_opens_nothing(stage: WalledStage, variant: Variant, rules: list[Probe]) -> None:
    for program in ("iptables", "ip6tables"):
        stage.lab.node.run([f"{program}-{variant}", "-w", "-F"])
    try:
        assert through(stage.world, rules) == {}
    finally:
        with stage.lab.node.enter():
            assert stage.wall.reconcile() != ()


@steps_in("nft")
def test_a_flush_of_raw_opens_nothing(stage: WalledStage, variant: Variant, rules: list[Probe]) -> None:
    for program in ("iptables", "ip6tables"):
        stage.lab.node.run([f"{program}-{variant}", "-w", "-t", "raw", "-F"])
    try:
        assert through(stage.world, [one for one in rules if not one.id.startswith(_BEFORE_TRACKING)]) == {}
    finally:
        with stage.lab.node.enter():
            assert stage.wall.reconcile() != ()


@pytest.mark.slow
def test_each_rule_about_ended_connections_is_what_stops_one_of_them(stage: WalledStage, variant: Variant) -> None:
    """Of the variants each with one family: the text is the same."""
    program, family = {"nft": ("iptables-nft", 4), "legacy": ("ip6tables-legacy", 6)}[variant]
    without = {
        f"B06-begun-again-v{family}": [["-t", "raw", "-D", "B9-PREROUTING", "2"]] * 2,  # an answer, and a SYN
        f"B06-ended-reset-v{family}": [["-t", "mangle", "-F", "B9-KEPT-SRC"]],
        f"B06-ended-finished-v{family}": [["-t", "mangle", "-F", "B9-KEPT-DST"]],
    }
    for name, commands in without.items():
        for command in commands:
            stage.lab.node.run([program, "-w", *command])
        try:
            assert set(through(stage.world, [one for one in RULES if one.id == name])) == {name}
        finally:
            with stage.lab.node.enter():
                assert stage.wall.reconcile() != ()


def test_what_is_through_without_the_rules_is_seen(stage: WalledStage, variant: Variant) -> None:
    """The harness sees what the rules stop: with the pins and what stands behind them flushed, neighbours meet."""
    node, tables = stage.lab.node, XtTables()
    with node.enter():
        for program in ("iptables", "ip6tables"):
            for table in ("filter", "security"):
                node.run([f"{program}-{variant}", "-w", "-t", table, "-F"])
        node.run(["tc", "qdisc", "del", "dev", stage.world.gateway.bridge, "clsact"])
        assert "B9-FORWARD" in tables.save(variant, "ipv4")
        try:
            chosen = [probe for probe in RULES if probe.id in ("A02-udp-v4", "A02-udp-v6")]
            assert set(through(stage.world, chosen)) == {"A02-udp-v4", "A02-udp-v6"}
        finally:
            stage.wall.reconcile()
    assert stage.wall.status().drift == ()
