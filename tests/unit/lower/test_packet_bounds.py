"""How many packets cross the node, through the compiled ruleset: from a sandbox and to it, of any flow."""

import msgspec
import pytest

from cellwall.compile.assemble import compile_wall
from cellwall.compile.usage import Usage
from cellwall.lab import addresses as at
from cellwall.lower.xt.features import XtFeatures
from cellwall.lower.xt.tables import render_table
from cellwall.lower.xt.wall import lower_wall
from cellwall.model.settings import MAX_PACKETS, Settings
from cellwall.ruleset.render import render_replacement
from scene import FACTS, GATEWAY4, PUBLIC4, PUBLIC6, WEB, Scene, judged

BOUND = Settings(packets=100)
SCENE = Scene(WEB, settings=BOUND)
FLOWS = pytest.mark.parametrize(("state", "mark"), [("new", 0), ("established", WEB.generation)])


@FLOWS
@pytest.mark.parametrize(("to", "meter"), [(PUBLIC4, "sent4"), (PUBLIC6, "sent6")])
def test_a_packet_too_many_that_a_sandbox_sends_is_dropped_in_whatever_flow(
    to: str, meter: str, state: str, mark: int
) -> None:
    fate = SCENE.egress(WEB, to, state=state, mark=mark, over=[meter])  # type: ignore[arg-type]
    assert judged(fate) == ("drop", "too many packets sent", "FWD")
    assert SCENE.egress(WEB, to, state=state, mark=mark).verdict == "accept"  # type: ignore[arg-type]


@pytest.mark.parametrize(("client", "node", "meter"), [(at.LAN4, at.NODE4, "got4"), (at.LAN6, at.NODE6, "got6")])
def test_a_packet_too_many_that_a_sandbox_gets_is_dropped(client: str, node: str, meter: str) -> None:
    assert judged(SCENE.ingress(client, node, over=[meter])) == ("drop", "too many packets got", "FWD")
    assert SCENE.ingress(client, node, over=["sent4", "sent6"]).verdict == "accept"


def test_what_is_only_watched_is_counted_and_passes() -> None:
    scene = Scene(WEB, settings=msgspec.structs.replace(BOUND, watched=("packets",)))
    fate = scene.egress(WEB, PUBLIC4, over=["sent4"])
    assert (fate.verdict, scene.counted(fate)) == ("accept", ["too many packets sent, which is only watched"])


def test_without_a_bound_no_rule_counts_packets() -> None:
    text = render_replacement(Scene(WEB).ruleset)
    assert "@sent" not in text and "@got" not in text
    assert judged(Scene(WEB).egress(WEB, GATEWAY4, over=["sent4"]))[1] == "the node"


@pytest.mark.parametrize("rate", [100, MAX_PACKETS])
def test_iptables_asks_each_packet_before_anything_else_that_can_accept_it(rate: int) -> None:
    wall = lower_wall(compile_wall(Settings(packets=rate), FACTS, Usage(), uplink="eth0"), XtFeatures())
    for version, tables in ((4, wall.tables4), (6, wall.tables6)):
        lines = render_table(next(one for one in tables if one.name == "filter")).splitlines()
        chain = [line for line in lines if line.startswith("-A B9-FORWARD ")]
        bounds = [at for at, line in enumerate(chain) if "hashlimit" in line]
        names = [chain[at].split("--hashlimit-name ")[1].split()[0] for at in bounds]
        assert names == [f"b9s{version}r{rate}", f"b9g{version}r{rate}"]
        assert all(len(name) <= 15 for name in names)
        assert max(bounds) < next(at for at, line in enumerate(chain) if "ESTABLISHED" in line)
