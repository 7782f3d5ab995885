"""How many packets and bytes cross the node, through the compiled ruleset: from a sandbox and to it, of any flow."""

import msgspec
import pytest

from cellwall.compile.assemble import compile_wall
from cellwall.compile.usage import Usage
from cellwall.lab import addresses as at
from cellwall.lower.xt.features import XtFeatures
from cellwall.lower.xt.tables import render_table
from cellwall.lower.xt.wall import lower_wall
from cellwall.model.settings import MAX_BYTES, MAX_PACKETS, Settings, parse_openings
from cellwall.ruleset.compose import flow_packet
from cellwall.ruleset.context import Context
from cellwall.ruleset.render import render_replacement
from scene import FACTS, GATEWAY4, GATEWAY6, PUBLIC4, PUBLIC6, WEB, Scene, directed, flow_of, judged

BOUND = Settings(packets=100, bytes=100_000)
SCENE = Scene(WEB, settings=BOUND)
SERVICES = tuple(row for one in (GATEWAY4, GATEWAY6) for row in parse_openings(f"resolver {one} udp/53", "x"))
SERVING = Scene(WEB, settings=msgspec.structs.replace(BOUND, services=SERVICES))
FLOWS = pytest.mark.parametrize(("state", "mark"), [("new", 0), ("established", WEB.generation)])


@FLOWS
@pytest.mark.parametrize(("to", "suffix"), [(PUBLIC4, "4"), (PUBLIC6, "6")])
@pytest.mark.parametrize(("what", "meter"), [("packets", "sent"), ("bytes", "sentbytes")])
def test_a_packet_too_many_that_a_sandbox_sends_is_dropped_in_whatever_flow(
    what: str, meter: str, to: str, suffix: str, state: str, mark: int
) -> None:
    fate = SCENE.egress(WEB, to, state=state, mark=mark, over=[meter + suffix])  # type: ignore[arg-type]
    assert judged(fate) == ("drop", f"too many {what} sent", "FWD")
    assert SCENE.egress(WEB, to, state=state, mark=mark).verdict == "accept"  # type: ignore[arg-type]


@FLOWS
@pytest.mark.parametrize(("service", "suffix"), [(GATEWAY4, "4"), (GATEWAY6, "6")])
@pytest.mark.parametrize(("what", "meter"), [("packets", "sent"), ("bytes", "sentbytes")])
def test_one_too_many_to_a_service_of_the_node_is_dropped_likewise(
    what: str, meter: str, service: str, suffix: str, state: str, mark: int
) -> None:
    """By the same set: what a sandbox sends is counted once, wherever it goes."""
    fate = SERVING.egress(WEB, service, "udp", 53, state=state, mark=mark, over=[meter + suffix])  # type: ignore[arg-type]
    assert judged(fate) == ("drop", f"too many {what} sent", "IN")
    assert SERVING.egress(WEB, service, "udp", 53, state=state, mark=mark).verdict == "accept"  # type: ignore[arg-type]


@pytest.mark.parametrize(("client", "node", "suffix"), [(at.LAN4, at.NODE4, "4"), (at.LAN6, at.NODE6, "6")])
@pytest.mark.parametrize(("what", "meter"), [("packets", "got"), ("bytes", "gotbytes")])
def test_a_packet_too_many_that_a_sandbox_gets_is_dropped(
    what: str, meter: str, client: str, node: str, suffix: str
) -> None:
    assert judged(SCENE.ingress(client, node, over=[meter + suffix])) == ("drop", f"too many {what} got", "FWD")
    assert SCENE.ingress(client, node, over=["sent4", "sent6", "sentbytes4", "sentbytes6"]).verdict == "accept"


@pytest.mark.parametrize(("server", "suffix"), [(PUBLIC4, "4"), (PUBLIC6, "6")])
@pytest.mark.parametrize("meter", ["got", "gotbytes"])
def test_an_answer_too_many_is_dropped(server: str, suffix: str, meter: str) -> None:
    own = str(WEB.address4 if suffix == "4" else WEB.address6)
    asked = flow_of(own, server)
    entry = directed(asked, "established", "reply", WEB.generation)
    to_sandbox = Context("inet", "forward", iifname="eth0", oifname="b9_br0", flow=entry, over={meter + suffix: True})
    fate = SCENE.walk(flow_packet(asked.reversed()), [to_sandbox])
    assert (fate.verdict, fate.layer) == ("drop", "FWD")
    assert fate.reason.endswith("got")


EVERY_CLIENT = [f"{name}{suffix}" for name in ("got", "gotbytes", "newclients", "clients") for suffix in "46"]


@pytest.mark.parametrize(("stranger", "node"), [(PUBLIC4, at.NODE4), (PUBLIC6, at.NODE6)])
def test_who_is_no_client_uses_up_nothing_of_what_clients_may(stranger: str, node: str) -> None:
    scene = Scene(WEB, settings=msgspec.structs.replace(BOUND, new_connections=20))
    assert judged(scene.ingress(stranger, node, port=8443, over=EVERY_CLIENT)) == ("drop", "not exposed", "FWD")


@pytest.mark.parametrize("to", ["192.168.5.5", "fd00:abcd::5:5"])
def test_what_is_for_nobody_is_got_by_nobody(to: str) -> None:
    """One sandbox has as many addresses to name as there is room for in a bound of all."""
    assert judged(SCENE.egress(WEB, to, "udp", over=EVERY_CLIENT))[1] == "container to container"


def test_what_is_only_watched_is_counted_and_passes() -> None:
    scene = Scene(WEB, settings=msgspec.structs.replace(BOUND, watched=("packets", "bytes")))
    fate = scene.egress(WEB, PUBLIC4, over=["sent4", "sentbytes4"])
    assert (fate.verdict, scene.counted(fate)) == (
        "accept",
        [f"too many {what} sent, which is only watched" for what in ("packets", "bytes")],
    )


def test_a_bucket_of_bytes_lets_pass_what_the_kernel_merged_of_many_packets_whatever_the_rate() -> None:
    text = render_replacement(SCENE.ruleset)
    assert "update @sentbytes4 { ip saddr limit rate over 100000 bytes/second burst 131072 bytes }" in text


def test_without_a_bound_no_rule_counts_packets() -> None:
    text = render_replacement(Scene(WEB).ruleset)
    assert "@sent" not in text and "@got" not in text
    assert judged(Scene(WEB).egress(WEB, GATEWAY4, over=["sent4"]))[1] == "the node"


@pytest.mark.parametrize("rate", [1000, MAX_BYTES])
def test_iptables_asks_how_many_bytes_of_tables_that_have_the_rate_in_their_names(rate: int) -> None:
    wall = lower_wall(compile_wall(Settings(bytes=rate), FACTS, Usage(), uplink="eth0"), XtFeatures())
    for version, tables in ((4, wall.tables4), (6, wall.tables6)):
        lines = render_table(next(one for one in tables if one.name == "filter")).splitlines()
        asked = [line for line in lines if f"--hashlimit-above {rate}b/s" in line]
        names = [line.split("--hashlimit-name ")[1].split()[0] for line in asked]
        sent, got = f"b9S{version}r{rate:x}", f"b9G{version}r{rate:x}"
        # What is sent goes to the node or through it; between the two of what is got clients are told from others.
        assert sorted(names) == [got] * 2 + [sent] * 2
        assert all(len(name) <= 15 for name in names)
        assert not any("burst" in line for line in asked)


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
