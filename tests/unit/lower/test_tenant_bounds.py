"""What the sandboxes of a tenant may use together, through the compiled ruleset."""

import msgspec
import pytest

from cellwall.compile.assemble import compile_wall
from cellwall.compile.bounds import UNNOTED
from cellwall.compile.usage import Usage
from cellwall.errors import InvalidSpec, Unsupported
from cellwall.lab import addresses as at
from cellwall.lower.xt.features import XtFeatures
from cellwall.lower.xt.tables import render_table
from cellwall.lower.xt.wall import lower_wall
from cellwall.model.endpoint import Endpoint
from cellwall.model.settings import Bound, Settings, parse_openings
from cellwall.model.versions import tenant_label
from cellwall.ruleset.compose import SYN
from cellwall.ruleset.context import State
from cellwall.ruleset.render import render_replacement
from cellwall.ruleset.types import Counter, Element, Lookup, Ruleset
from scene import FACTS, GATEWAY4, POLICED, PUBLIC4, PUBLIC6, WEB, Scene, judged

ACK = 0x10
SERVICE = parse_openings(f"dns {GATEWAY4} udp/53", "x")
SENDERS = pytest.mark.parametrize("sender", [WEB, POLICED], ids=["no policy", "a policy"])
BOUND = Settings(
    tenant_connections=50, tenant_new_connections=20, tenant_packets=100, tenant_bytes=1000, services=SERVICE
)
NAMES: tuple[Bound, ...] = ("tenant_connections", "tenant_new_connections", "tenant_packets", "tenant_bytes")
WATCHED = msgspec.structs.replace(BOUND, watched=NAMES)
ENDED = "too many ended connections of the tenant"
MANY, FAST = "too many connections of the tenant", "too many new connections of the tenant"
ENDS = [(PUBLIC4, "FWD"), (PUBLIC6, "FWD"), (GATEWAY4, "IN")]


@SENDERS
@pytest.mark.parametrize(("to", "layer"), ENDS)
def test_a_flow_too_many_of_a_tenant_is_refused_whichever_sandbox_and_family_it_is_of(
    to: str, layer: str, sender: Endpoint
) -> None:
    scene = Scene(sender, settings=BOUND)
    found = judged(scene.egress(sender, to, "udp", 53, over=["tenantflows"]))
    assert found[:2] == ("reject", MANY)
    assert scene.egress(sender, to, "udp", 53, over=["tenantclients"]).verdict == "accept"


@SENDERS
@pytest.mark.parametrize(("to", "layer"), ENDS)
def test_one_that_begins_too_soon_is_dropped_and_one_that_goes_on_is_not(to: str, layer: str, sender: Endpoint) -> None:
    scene = Scene(sender, settings=BOUND)
    assert judged(scene.egress(sender, to, "udp", 53, over=["tenantnewflows"]))[:2] == ("drop", FAST)
    going_on = scene.egress(
        sender, to, "udp", 53, state="established", mark=sender.generation, over=["tenantnewflows", "tenantflows"]
    )
    assert going_on.verdict == "accept"


@pytest.mark.parametrize(("client", "node"), [(at.LAN4, at.NODE4), (at.LAN6, at.NODE6)])
def test_clients_of_published_ports_have_bounds_of_their_own(client: str, node: str) -> None:
    scene = Scene(WEB, settings=BOUND)
    assert judged(scene.ingress(client, node, over=["tenantclients"])) == ("drop", MANY, "FWD")
    assert judged(scene.ingress(client, node, over=["tenantnewclients"])) == ("drop", FAST, "FWD")
    for what, meter in (("packets", "tenantgot"), ("bytes", "tenantgotbytes")):
        fate = scene.ingress(client, node, over=[meter])
        assert judged(fate) == ("drop", f"too many {what} got by the tenant", "FWD")
    assert scene.ingress(client, node, over=["tenantflows", "tenantnewflows", "tenantsent"]).verdict == "accept"


@pytest.mark.parametrize("to", [PUBLIC4, PUBLIC6])
@pytest.mark.parametrize("state", ["new", "established"])
def test_a_packet_too_many_is_dropped_in_whatever_flow_that_is_known_to_be_the_tenants(to: str, state: State) -> None:
    scene = Scene(WEB, settings=BOUND)
    mark = 0 if state == "new" else WEB.generation
    label = 0 if state == "new" else tenant_label(WEB.tenant_number)
    for what, meter in (("packets", "tenantsent"), ("bytes", "tenantsentbytes")):
        fate = scene.egress(WEB, to, state=state, mark=mark, label=label, over=[meter])
        assert judged(fate) == ("drop", f"too many {what} sent by the tenant", "FWD")


def test_flows_that_began_before_there_were_numbers_share_no_bound() -> None:
    fate = Scene(WEB, settings=BOUND).egress(
        WEB, PUBLIC4, state="established", mark=WEB.generation, over=["tenantsent", "tenantsentbytes"]
    )
    assert fate.verdict == "accept"


@SENDERS
def test_what_is_only_watched_is_counted_and_passes(sender: Endpoint) -> None:
    scene = Scene(sender, settings=WATCHED)
    over = ["tenantflows", "tenantnewflows", "tenantsent", "tenantsentbytes"]
    fate = scene.egress(sender, PUBLIC4, "udp", 53, over=over)
    said = ["too many packets sent by the tenant", "too many bytes sent by the tenant", FAST, MANY]
    assert (fate.verdict, fate.mark) == ("accept", sender.generation)
    assert scene.counted(fate) == [f"{why}, which is only watched" for why in said]


def lingering(scene: Scene, name: str, tenant: Endpoint) -> Scene:
    """The scene with a tenant in such a set."""
    noted = (Element((tenant_label(tenant.tenant_number),)),)
    tables = [
        msgspec.structs.replace(
            table,
            sets=tuple(msgspec.structs.replace(s, elements=noted) if s.name == name else s for s in table.sets),
        )
        for table in scene.ruleset.tables
    ]
    return scene.under(Ruleset(tuple(tables)))


@SENDERS
@pytest.mark.parametrize(("to", "layer"), ENDS)
def test_no_connection_begins_of_a_tenant_that_keeps_too_many_ended_ones(to: str, layer: str, sender: Endpoint) -> None:
    services = parse_openings(f"web {GATEWAY4} tcp/53", "x")
    known = Scene(sender, settings=msgspec.structs.replace(BOUND, services=(*SERVICE, *services)))
    scene = lingering(known, "lingering", sender)
    assert judged(scene.egress(sender, to, "tcp", 53))[:2] == ("drop", ENDED)
    going_on = scene.egress(sender, to, "tcp", 53, state="established", mark=sender.generation)
    assert {going_on.verdict, scene.egress(sender, to, "udp", 53).verdict} == {"accept"}
    assert lingering(known, "lingeringclients", sender).egress(sender, to, "tcp", 53).verdict == "accept"


@pytest.mark.parametrize(("client", "node"), [(at.LAN4, at.NODE4), (at.LAN6, at.NODE6)])
def test_clients_that_keep_ended_connections_take_nothing_from_what_the_tenant_opens(client: str, node: str) -> None:
    """Nor does it from them."""
    scene = Scene(WEB, settings=BOUND)
    assert judged(lingering(scene, "lingeringclients", WEB).ingress(client, node)) == ("drop", ENDED, "FWD")
    assert lingering(scene, "lingering", WEB).ingress(client, node).verdict == "accept"


@pytest.mark.parametrize(
    ("seconds", "state", "protocol", "noted"),
    [(5, "established", "tcp", 1), (6, "established", "tcp", 0), (5, "new", "tcp", 0), (5, "established", "udp", 0)],
)
def test_a_packet_too_many_of_ended_flows_is_noted_of_the_tenant_and_passes(
    seconds: float, state: State, protocol: str, noted: int
) -> None:
    fate = Scene(WEB, settings=BOUND).egress(
        WEB,
        PUBLIC4,
        protocol,
        state=state,
        mark=WEB.generation,
        label=tenant_label(WEB.tenant_number),
        seconds=seconds,
        over=["tenantended", "tenantendedclients"],
        tcp_flags=ACK,
    )
    assert fate.verdict == "accept"
    assert [step.index for step in fate.evaluation.path if step.chain == "ended"] == [2] * noted


@pytest.mark.parametrize(("to", "rule"), [(PUBLIC4, 0), (PUBLIC6, 1)])
def test_of_one_ended_flow_no_more_than_a_packet_a_second_counts(to: str, rule: int) -> None:
    flow = {"state": "established", "label": tenant_label(WEB.tenant_number), "seconds": 5, "tcp_flags": ACK}
    over = ["tenantended", "endedflows4", "endedflows6"]
    fate = Scene(WEB, settings=BOUND).egress(WEB, to, mark=WEB.generation, over=over, **flow)  # type: ignore[arg-type]
    assert fate.verdict == "accept"
    assert [step.index for step in fate.evaluation.path if step.chain == "ended"] == [rule]


@pytest.mark.parametrize("to", [PUBLIC4, PUBLIC6])
@pytest.mark.parametrize(("seconds", "flags", "denied"), [(5, SYN, True), (6, SYN, False), (5, ACK, False)])
def test_no_flow_begins_again_that_has_ended(to: str, seconds: float, flags: int, denied: bool) -> None:
    """Whatever is configured: an endpoint's own bound does not count it either."""
    fate = Scene(WEB, settings=Settings(tenant_connections=0)).egress(
        WEB,
        to,
        state="established",
        mark=WEB.generation,
        label=tenant_label(WEB.tenant_number),
        seconds=seconds,
        tcp_flags=flags,
    )
    assert (judged(fate) == ("drop", "begins again within an ended connection", "PRE")) == denied
    assert (fate.verdict == "accept") != denied


def test_only_what_could_not_be_noted_is_called_so() -> None:
    """Its rule's counter is found by that comment; a flow that is noted goes by another rule, without one."""
    rules = [rule for table in Scene(WEB).ruleset.tables for chain in table.chains for rule in chain.rules]
    (of4, of6) = [rule.statements for rule in rules if rule.comment == UNNOTED]
    assert all(isinstance(lookup, Lookup) and lookup.negate and count == Counter() for lookup, count in (of4, of6))


def test_an_endpoints_own_bound_comes_first() -> None:
    fate = Scene(WEB, settings=BOUND).egress(WEB, PUBLIC4, over=["flows4", "tenantflows"])
    assert judged(fate) == ("reject", "too many connections", "FWD")


def test_without_a_bound_no_rule_counts_by_tenant() -> None:
    text = render_replacement(Scene(WEB, POLICED, settings=Settings(tenant_connections=0)).ruleset)
    assert "add @tenant" not in text
    assert "update @tenant" not in text


def test_a_tenant_has_a_bound_of_flows_where_nothing_is_configured() -> None:
    assert "{ ct label ct count over 8192 }" in render_replacement(Scene(WEB).ruleset)


def test_a_tenant_that_was_found_full_is_not_counted_anew_for_each_flow_that_is_refused() -> None:
    """To count 8,192 flows costs the node 130 microseconds."""
    text = render_replacement(Scene(WEB, POLICED).ruleset)
    for line in text.splitlines():
        for counted, full in (("tenantflows", "fulltenants"), ("tenantclients", "fullclients")):
            if f"add @{counted} " in line:
                assert f"ct label != @{full} " in line.split(f"add @{counted} ")[0]
                assert line.endswith(f"update @{full} {{ ct label counter }}")
    assert text.count("ct count over 8192 } update @full") == text.count("ct count over 8192") > 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [-1, 1 << 34])
def test_a_bound_that_cannot_be_is_refused_by_its_name(name: str, value: int) -> None:
    with pytest.raises(InvalidSpec, match=rf"limits\.{name}.*{value}"):
        Settings(**{name: value}).validate()  # type: ignore[arg-type]


def test_iptables_has_no_rate_of_a_tenant_and_says_so() -> None:
    def tables(settings: Settings) -> str:
        wall = lower_wall(compile_wall(settings, FACTS, Usage(), uplink="eth0"), XtFeatures())
        return "".join(render_table(table) for table in (*wall.tables4, *wall.tables6))

    assert "of the tenant" not in tables(Settings())  # the bound of each endpoint stands in, as `limits` says
    for name in NAMES[1:]:
        with pytest.raises(Unsupported) as told:
            tables(Settings(**{name: 20}))  # type: ignore[arg-type]
        assert told.value.predicate in ("TenantOverRate", "TenantOverBytes")
