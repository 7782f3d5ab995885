"""How many flows may begin, through the compiled ruleset: what is over a bound, and what is only watched."""

import msgspec
import pytest

from cellwall.compile.assemble import compile_wall
from cellwall.compile.usage import Usage
from cellwall.lab import addresses as at
from cellwall.lower.xt.features import XtFeatures
from cellwall.lower.xt.tables import render_table
from cellwall.lower.xt.wall import lower_wall
from cellwall.model.endpoint import Endpoint
from cellwall.model.settings import Settings, parse_openings
from cellwall.ruleset.render import render_replacement
from scene import FACTS, GATEWAY4, POLICED, PUBLIC4, PUBLIC6, WEB, Scene, judged

SERVICE = parse_openings(f"dns {GATEWAY4} udp/53", "x")
BOUND = Settings(new_connections=20, services=SERVICE)
WATCHED = msgspec.structs.replace(BOUND, watched=("connections", "new_connections"))
FAST = ("drop", "too many new connections")
SENDERS = pytest.mark.parametrize("sender", [WEB, POLICED], ids=["no policy", "a policy"])


@SENDERS
@pytest.mark.parametrize(("to", "meter"), [(PUBLIC4, "newflows4"), (PUBLIC6, "newflows6"), (GATEWAY4, "newflows4")])
def test_a_flow_that_a_sandbox_opens_too_soon_is_dropped_and_one_that_goes_on_is_not(
    to: str, meter: str, sender: Endpoint
) -> None:
    scene = Scene(sender, settings=BOUND)
    layer = "IN" if to == GATEWAY4 and sender is WEB else "FWD"
    assert judged(scene.egress(sender, to, "udp", 53, over=[meter])) == (*FAST, layer)
    assert scene.egress(sender, to, "udp", 53).verdict == "accept"
    going_on = scene.egress(sender, to, "udp", 53, state="established", mark=sender.generation, over=[meter])
    assert going_on.verdict == "accept"


@pytest.mark.parametrize(
    ("client", "node", "meter"), [(at.LAN4, at.NODE4, "newclients4"), (at.LAN6, at.NODE6, "newclients6")]
)
def test_clients_of_a_published_port_have_a_bound_of_their_own(client: str, node: str, meter: str) -> None:
    scene = Scene(WEB, settings=BOUND)
    assert judged(scene.ingress(client, node, over=[meter])) == (*FAST, "FWD")
    assert scene.ingress(client, node, over=["newflows4", "newflows6"]).verdict == "accept"
    assert scene.egress(WEB, PUBLIC4, over=[meter]).verdict == "accept"


@SENDERS
def test_what_is_only_watched_is_counted_and_passes(sender: Endpoint) -> None:
    scene = Scene(sender, settings=WATCHED)
    for to in (PUBLIC4, GATEWAY4):
        fate = scene.egress(sender, to, "udp", 53, over=["newflows4", "flows4"])
        assert (fate.verdict, fate.mark, scene.counted(fate)) == (
            "accept",
            sender.generation,
            ["too many new connections, which is only watched", "too many connections, which is only watched"],
        )


def test_what_a_policy_denies_takes_no_part_in_how_many_may_begin() -> None:
    fate = Scene(POLICED, settings=BOUND).egress(POLICED, "9.9.9.9", "udp", 9, over=["newflows4"])
    assert judged(fate) == ("reject", "the policy of the tenant", "FWD")


def test_without_a_bound_no_rule_asks_how_many_begin() -> None:
    assert "update @new" not in render_replacement(Scene(WEB).ruleset)


def test_iptables_asks_once_of_each_flow_and_by_a_table_that_has_the_rate_in_its_name() -> None:
    wall = lower_wall(compile_wall(BOUND, FACTS, Usage(), uplink="eth0"), XtFeatures())
    lines = [line for table in (*wall.tables4, *wall.tables6) for line in render_table(table).splitlines()]
    bounds = [line for line in lines if "hashlimit" in line and "too many new" in line]
    names = {line.split("--hashlimit-name ")[1].split()[0] for line in bounds}
    assert names == {"b9out4r20", "b9in4r20", "b9out6r20", "b9in6r20"}
    assert all("--hashlimit-above 20/sec --hashlimit-burst 40" in line for line in bounds)
    assert {line.rsplit(" ", 2)[1] + line.rsplit(" ", 1)[1][:8] for line in bounds} == {"-gB9-TOLD-", "-jDROP"}
    assert all(("dstip" in line) == ("b9in" in line) for line in bounds)
