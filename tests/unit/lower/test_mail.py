"""Mail to others' servers through the compiled ruleset: closed, and by what it opens."""

from ipaddress import ip_network

import msgspec
import pytest

from cellwall.compile.assemble import compile_wall
from cellwall.compile.usage import usage_of_endpoints
from cellwall.lower.xt.endpoints import holdings
from cellwall.lower.xt.features import XtFeatures
from cellwall.lower.xt.tables import render_table
from cellwall.lower.xt.wall import lower_wall
from cellwall.model.endpoint import Endpoint
from cellwall.model.policy import Policy, Rule, Tiers
from cellwall.model.settings import Mail, Settings, parse_openings
from cellwall.ruleset.compose import flow_packet
from cellwall.ruleset.context import Context, Flow
from cellwall.ruleset.render import render_replacement
from cellwall.ruleset.types import Counter
from scene import FACTS, GATEWAY4, OTHER, PUBLIC4, PUBLIC6, Scene, endpoint, flow_of, judged

CLOSED = ("reject", "mail to a server", "FWD")
SENDS = Rule("allow", ip_network("0.0.0.0/0"), "tcp", (25, 25))
SENDS6 = Rule("allow", ip_network("::/0"), "tcp", (1, 1023))
ELSEWHERE = Rule("deny", ip_network("9.9.9.9/32"), "tcp", (443, 443))


def under(*rules: Rule, number: int = 2, monitor: bool = False) -> Endpoint:
    mode = "allow" if any(rule.action == "allow" for rule in rules) and SENDS not in rules else "open"
    tiers = Tiers(endpoint=Policy(mode, rules, monitor=monitor))  # type: ignore[arg-type]
    return msgspec.structs.replace(endpoint(f"c{number}", number), tiers=tiers)


@pytest.mark.parametrize("to", [PUBLIC4, PUBLIC6])
@pytest.mark.parametrize("sender", [OTHER, under(ELSEWHERE)], ids=["no policy", "a policy without mail"])
def test_mail_to_a_server_is_refused_and_nothing_else_of_it(sender: Endpoint, to: str) -> None:
    scene = Scene(sender)
    for protocol, port, fate in (("tcp", 25, CLOSED), ("tcp", 465, None), ("tcp", 587, None), ("udp", 25, None)):
        found = scene.egress(sender, to, protocol, port)
        assert judged(found) == fate if fate else found.verdict == "accept"


@pytest.mark.parametrize("to", [PUBLIC4, PUBLIC6])
def test_a_server_answers_in_no_mail_that_an_earlier_version_let_through(to: str) -> None:
    going = flow_of(str(OTHER.address6 if ":" in to else OTHER.address4), to, "tcp", 25)
    entry = Flow(going, going.reversed(), "established", "reply", frozenset(("snat", "confirmed")))
    coming = Context("inet", "forward", "eth0", "b9_br0", iif=2, oif=5, flow=entry, fib_saddr_type="unicast")
    assert Scene(OTHER).walk(flow_packet(going.reversed()), [coming]).verdict == "drop"


@pytest.mark.parametrize("where", ["exceptions", "services"])
def test_a_relay_that_the_operator_opened_takes_mail(where: str) -> None:
    relay = "10.0.0.2" if where == "exceptions" else GATEWAY4
    opened = Settings(**{where: parse_openings(f"relay {relay} tcp/25", "x")})  # type: ignore[arg-type]
    for sender in (OTHER, under(ELSEWHERE)):
        scene = Scene(sender, settings=opened)
        assert scene.egress(sender, relay, "tcp", 25).verdict == "accept"
        assert judged(scene.egress(sender, PUBLIC4, "tcp", 25)) == CLOSED


def test_a_policy_that_lists_mail_opens_it_to_whom_it_is_for_and_in_its_family() -> None:
    sender, six = under(SENDS), under(SENDS6, number=4)
    scene = Scene(sender, six, OTHER)
    assert scene.egress(sender, PUBLIC4, "tcp", 25).verdict == "accept"
    assert judged(scene.egress(sender, PUBLIC6, "tcp", 25)) == CLOSED
    assert scene.egress(six, PUBLIC6, "tcp", 25).verdict == "accept"
    assert judged(scene.egress(OTHER, PUBLIC4, "tcp", 25)) == CLOSED


@pytest.mark.parametrize(
    "rule",
    [
        Rule("allow", ip_network("0.0.0.0/0")),
        Rule("allow", ip_network("0.0.0.0/0"), "tcp"),
        Rule("allow", ip_network("0.0.0.0/0"), "udp", (25, 25)),
        Rule("allow", ip_network("0.0.0.0/0"), "tcp", (26, 1023)),
    ],
    ids=str,
)
def test_an_allowance_that_does_not_name_the_port_lists_no_mail(rule: Rule) -> None:
    sender = under(rule)
    assert Scene(sender).egress(sender, PUBLIC4, "tcp", 25).verdict == "reject"
    assert not sender.tiers.lists_mail(4)


def test_a_policy_that_denies_a_server_denies_it_mail_too() -> None:
    sender = under(SENDS, Rule("deny", ip_network(PUBLIC4)))
    fate = Scene(sender).egress(sender, PUBLIC4, "tcp", 25)
    assert judged(fate) == ("reject", "the policy of the endpoint", "FWD")


@pytest.mark.parametrize("sender", [OTHER, under(ELSEWHERE), under(ELSEWHERE, monitor=True)])
def test_what_is_only_watched_passes_and_is_counted_once(sender: Endpoint) -> None:
    scene = Scene(sender, settings=Settings(smtp="watched"))
    fate = scene.egress(sender, PUBLIC4, "tcp", 25)
    rules = [scene._rule(step.family, step.chain, step.index) for step in fate.evaluation.path]
    counted = [rule.comment for rule in rules if Counter() in rule.statements]
    assert (fate.verdict, fate.mark, counted) == (
        "accept", sender.generation, ["mail to a server, which is only watched"],
    )  # fmt: skip


@pytest.mark.parametrize("sender", [OTHER, under(ELSEWHERE)])
def test_where_mail_is_open_no_rule_asks_for_it(sender: Endpoint) -> None:
    scene = Scene(sender, settings=Settings(smtp="open"))
    assert scene.egress(sender, PUBLIC4, "tcp", 25).verdict == "accept"
    assert "mail" not in render_replacement(scene.ruleset)


@pytest.mark.parametrize(
    ("mail", "target", "rules"),
    [("closed", "-g B9-TOLD-", 2), ("watched", 'which is only watched" -j B9-SEEN-', 1), ("open", "", 0)],
)
@pytest.mark.parametrize("sender", [OTHER, under(ELSEWHERE), under(SENDS)])
def test_iptables_asks_the_same(mail: Mail, target: str, rules: int, sender: Endpoint) -> None:
    compiled = compile_wall(Settings(smtp=mail), FACTS, usage_of_endpoints([sender]), uplink="eth0")
    wall = lower_wall(compiled, XtFeatures())
    lines = render_table(next(one for one in wall.tables4 if one.name == "filter")).splitlines()
    asking = [line for line in lines if "--ctorigdstport 25" in line]
    listed = [entry.set for entry in holdings([sender], wall.pins).entries if entry.set.startswith("b9mail")]
    assert listed == (["b9mail4"] if SENDS in sender.tiers.endpoint.rules else [])
    assert len(asking) == rules
    for line, (source, to) in zip(asking, (("src", "dst"), ("dst", "src")), strict=False):
        assert f"! --match-set b9opened4 {to},{to}" in line
        assert target in line
        assert (f"! --match-set b9mail4 {source} " in line) == bool(listed)


def test_naming_one_server_opens_no_mail_where_nothing_else_is_denied() -> None:
    narrow = Rule("allow", ip_network("8.8.8.8"), "tcp", (25, 25))
    watching = under(narrow, monitor=True)
    assert judged(Scene(watching).egress(watching, PUBLIC4, "tcp", 25)) == CLOSED
    listing = under(narrow)
    assert Scene(listing).egress(listing, "8.8.8.8", "tcp", 25).verdict == "accept"
    assert Scene(listing).egress(listing, PUBLIC4, "tcp", 25).verdict == "reject"
