"""What rules tell of a packet that they deny: whose it is and why, as far as a budget goes, deciding nothing."""

from collections.abc import Iterator, Sequence
from ipaddress import IPv6Address
from itertools import product

import msgspec
import pytest

from cellwall.compile.assemble import compile_wall
from cellwall.compile.reasons import parse_reason
from cellwall.compile.reports import judgement_of
from cellwall.compile.usage import Usage
from cellwall.lab import addresses as at
from cellwall.model.facts import Features
from cellwall.model.settings import Audit, Settings
from cellwall.model.versions import TENANT_BITS, tenant_label
from cellwall.ruleset.compose import flow_packet, framed
from cellwall.ruleset.types import Compare, ConnectionsOver, Field, LogPacket, Meter, Rule, Tally
from scene import (
    FACTS,
    GATEWAY4,
    GATEWAY6,
    GATEWAY_MAC,
    OTHER,
    PUBLIC4,
    PUBLIC6,
    WEB,
    Fate,
    Scene,
    directed,
    flow_of,
    judged,
)

SETTINGS = Settings(packets=100, new_connections=10)
SCENE = Scene(WEB, OTHER, settings=SETTINGS)
SILENT = Scene(WEB, OTHER, settings=msgspec.structs.replace(SETTINGS, audit=Audit(log=False)))
OF_A_PORT = 1
"""The mark of a packet that is told of by its port alone."""


def passed(scene: Scene, fate: Fate) -> Iterator[Rule]:
    for step in fate.evaluation.path:
        yield scene._rule(step.family, step.chain, step.index)


def said(scene: Scene, fate: Fate) -> list[str]:
    return [one.prefix for rule in passed(scene, fate) for one in rule.statements if isinstance(one, LogPacket)]


def tallied(scene: Scene, fate: Fate) -> list[str]:
    return [one.set for rule in passed(scene, fate) for one in rule.statements if isinstance(one, Tally)]


SENT = [
    ("FWD deny out: the floor", "10.0.0.5", {}, WEB.generation),
    ("FWD deny out: the floor", "fc00:9::9", {}, WEB.generation),
    ("FWD deny out: mail to a server", PUBLIC4, {"port": 25}, WEB.generation),
    ("FWD deny out: container to container", str(OTHER.address4), {}, WEB.generation),
    ("FWD deny out: container to container", str(OTHER.address6), {}, WEB.generation),
    ("FWD deny out: too many packets sent", PUBLIC6, {"over": ["sent6"]}, WEB.generation),
    ("FWD deny out: too many new connections", PUBLIC4, {"over": ["newflows4"]}, WEB.generation),
    ("PRE deny out: the node", GATEWAY4, {}, WEB.generation),
    ("PRE deny out: the node", GATEWAY6, {}, WEB.generation),
    ("PIN deny out: spoofed IPv4 source or options", PUBLIC4, {"source": "192.168.0.9"}, OF_A_PORT),
    ("PIN deny out: spoofed IPv6 source", PUBLIC6, {"source": "fd00:abcd::9"}, OF_A_PORT),
]


@pytest.mark.parametrize(("prefix", "to", "how", "mark"), SENT)
def test_what_a_sandbox_is_denied_is_told_of_it_with_its_policy_version(
    prefix: str, to: str, how: dict[str, object], mark: int
) -> None:
    fate = SCENE.egress(WEB, to, **how)  # type: ignore[arg-type]
    assert said(SCENE, fate) == [prefix]
    assert fate.evaluation.context.mark == mark
    reason = parse_reason(prefix)
    assert reason is not None
    assert (reason.layer, reason.why) == (fate.layer, fate.reason)


@pytest.mark.parametrize(
    ("client", "node", "own"),
    [(at.INTERNET4, at.NODE4, WEB.address4), (at.INTERNET6, at.NODE6, WEB.address6)],
)
def test_what_a_sandbox_is_not_to_get_is_told_of_it(client: str, node: str, own: object) -> None:
    for prefix, fate in (
        ("FWD deny in: not exposed", SCENE.ingress(client, node, port=8443)),
        ("FWD deny in: too many packets got", SCENE.ingress(client, node, over=["got4", "got6"])),
        ("RAW deny in: direct routing to a sandbox", SCENE.ingress(client, str(own))),
    ):
        assert said(SCENE, fate) == [prefix]
        assert fate.evaluation.context.mark == WEB.generation


@pytest.mark.parametrize("nobody", ["192.168.0.77", "fd00:abcd::77"])
def test_what_outsiders_send_to_nobody_is_counted_and_takes_no_place_in_the_log(nobody: str) -> None:
    fate = SCENE.ingress(at.LAN6 if ":" in nobody else at.LAN4, nobody)
    assert judged(fate) == ("drop", "direct routing to a sandbox", "RAW")
    assert (said(SCENE, fate), tallied(SCENE, fate)) == ([], ["deniedin"])


@pytest.mark.parametrize(("prefix", "to", "how", "mark"), SENT)
def test_what_is_beyond_the_budget_is_denied_and_counted_and_not_told(
    prefix: str, to: str, how: dict[str, object], mark: int
) -> None:
    own = ["toldports"] if mark == OF_A_PORT else ["toldtenants"]
    others = [name for name in ("toldports", "toldtenants", "toldin", "seenout", "seenin") if name not in own]
    more: Sequence[str] = how.get("over", [])  # type: ignore[assignment]
    within = SCENE.egress(WEB, to, **{**how, "over": [*more, *others]})  # type: ignore[arg-type]
    beyond = SCENE.egress(WEB, to, **{**how, "over": [*more, *own]})  # type: ignore[arg-type]
    assert said(SCENE, within) == [prefix]
    assert said(SCENE, beyond) == []
    assert judged(within) == judged(beyond)
    assert tallied(SCENE, within) == tallied(SCENE, beyond) == ["deniedports" if mark == OF_A_PORT else "deniedout"]


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (143, []),
        (131, []),
        (132, []),
        (130, ["PIN deny out: no frame a sandbox may send"]),
        (128, ["PIN deny out: no frame a sandbox may send"]),
    ],
)
@pytest.mark.parametrize("source", ["::", "fe80::858:c0ff:fea8:2", str(WEB.address6)])
def test_what_a_kernel_says_by_itself_as_its_interface_comes_up_is_dropped_and_not_told(
    kind: int, told: list[str], source: str
) -> None:
    """A report of listeners (RFC 9777 5.2, or RFC 2710 3.7), to the group of routers that hear them or to any: no
    attempt of anybody's."""
    alert, report = b"\x3a\0\5\2\0\0\1\0", bytes([kind]) + bytes(27)
    ends = IPv6Address(source).packed + IPv6Address("ff02::16").packed
    head = b"\x60\0\0\0" + len(alert + report).to_bytes(2) + b"\0\1"
    fate = SCENE.frame(WEB, framed(head + ends + alert + report, 0x86DD, WEB.mac, 0x333300000016))
    assert (fate.verdict, fate.layer) == ("drop", "PIN")
    assert said(SCENE, fate) == told
    assert tallied(SCENE, fate) == ["deniedports"] * len(told)


def test_what_comes_from_outside_uses_up_nothing_of_what_a_sandbox_does() -> None:
    direct = SCENE.ingress(at.LAN4, str(WEB.address4), over=["toldin"])
    assert said(SCENE, direct) == []
    for over in (["toldin"], ["toldports"]):
        assert said(SCENE, SCENE.egress(WEB, "10.0.0.5", over=over)) == ["FWD deny out: the floor"]
    for over in (["toldout"], ["toldtenants"]):
        assert said(SCENE, SCENE.ingress(at.LAN4, str(WEB.address4), over=over)) != []


def test_what_is_only_watched_is_told_and_goes_on_as_it_is() -> None:
    watching = Scene(WEB, settings=msgspec.structs.replace(SETTINGS, watched=("packets",)))
    told = watching.egress(WEB, PUBLIC4, over=["sent4"])
    assert said(watching, told) == ["FWD watch out: too many packets sent"]
    untold = watching.egress(WEB, PUBLIC4, over=["sent4", "seenout"])
    assert said(watching, untold) == []
    passing = watching.egress(WEB, PUBLIC4)
    for fate in (told, untold):
        assert fate.verdict == "accept"
        assert fate.evaluation.context.mark == passing.evaluation.context.mark
        assert fate.mark == passing.mark == WEB.generation


TARGETS = (
    PUBLIC4,
    PUBLIC6,
    "10.0.0.5",
    "fc00:9::9",
    GATEWAY4,
    GATEWAY6,
    str(OTHER.address4),
    at.NODE4,
    "169.254.169.254",
)


@pytest.mark.parametrize(("target", "protocol"), list(product(TARGETS, ("tcp", "udp", "icmp", "47"))))
def test_whether_denials_are_told_decides_nothing(target: str, protocol: str) -> None:
    for how in (
        {},
        {"source": "8.8.8.8" if ":" not in target else "2a00::8"},
        {"mac": OTHER.mac},
        {"state": "invalid"},
    ):
        told, silent = (scene.egress(WEB, target, protocol, **how) for scene in (SCENE, SILENT))  # type: ignore[arg-type]
        assert judged(told) == judged(silent)
        assert said(SILENT, silent) == []
        if told.verdict == "accept":
            assert told.evaluation.path == silent.evaluation.path


def test_a_kernel_without_the_log_has_the_whole_wall_without_it() -> None:
    scene = Scene(
        WEB, OTHER, settings=SETTINGS, facts=msgspec.structs.replace(FACTS, features=Features(packet_log=False))
    )
    assert [table.chains for table in scene.rules.tables] == [table.chains for table in SILENT.rules.tables]


NOBODYS = {
    "bridged to a sandbox": "a stranger's frame on our bridge",
    "no endpoint behind this port": "the node's own",
    "the node's multicast": "the node's own",
    "multicast listener report": "its kernel's, which nobody in it asked for",
    "not a bridge port": "a host link without an endpoint",
    "a sandbox's address from outside": "whoever forges it has no endpoint",
    "loopback from outside": "an outsider's",
    "answer within an ended connection": "whose the flow is stands in it, which the packet has not come to",
    "the node is no router": "between the node's other networks",
    "redirected past the wall": "the node's own",
}


def test_every_denial_is_told_of_somebody_or_nobodys() -> None:
    wall = compile_wall(SETTINGS, FACTS, Usage(), uplink="eth0")
    denials = [clause for stage in wall.stages for clause in stage.clauses if judgement_of(clause)]
    assert {clause.why for clause in denials if clause.subject is None} <= NOBODYS.keys()
    assert {clause.why for clause in denials if clause.subject is None} >= {"the node's multicast", "not a bridge port"}


def test_no_flow_without_a_tenant_has_a_budget_of_its_own() -> None:
    """nft lists a label of 0 as what it does not read: who saves the rules and loads them again would lose them."""
    keyed = [
        (chain.name, rule.statements[rule.statements.index(one) - 1])
        for table in SCENE.rules.tables
        for chain in table.chains
        for rule in chain.rules
        for one in rule.statements
        if isinstance(one, Meter) and one.fields == (Field("ct label"),) and not isinstance(one.bound, ConnectionsOver)
    ]
    assert keyed
    assert {before for _, before in keyed} == {Compare(Field("ct label"), (TENANT_BITS,))}


@pytest.mark.parametrize("public", [PUBLIC4, PUBLIC6])
def test_errors_about_the_flow_of_another_take_nothing_of_his_budget(public: str) -> None:
    """Connection tracking takes an error for part of the flow that it quotes, which may be anybody's."""
    one, other = (WEB.address4, OTHER.address4) if public == PUBLIC4 else (WEB.address6, OTHER.address6)
    quoted = directed(flow_of(str(other), public), "related", mark=OTHER.generation)
    quoted = msgspec.structs.replace(quoted, label=tenant_label(OTHER.tenant_number))
    error = flow_packet(flow_of(str(one), public, "icmp"), source_mac=WEB.mac, destination_mac=GATEWAY_MAC)
    fate = SCENE.from_sandbox(WEB, error, quoted, over=["toldtenants"])
    assert judged(fate) == ("drop", "error about another's flow", "FWD")
    assert said(SCENE, fate) == ["FWD deny out: error about another's flow"]
    assert said(SCENE, SCENE.from_sandbox(WEB, error, quoted, over=["toldout"])) == []
    busy = Scene(WEB, OTHER, settings=Settings(tenant_packets=10, tenant_bytes=1000))
    assert judged(busy.from_sandbox(WEB, error, quoted, over=["tenantsent", "tenantsentbytes"])) == judged(fate)
