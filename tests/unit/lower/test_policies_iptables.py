"""Policies in iptables: the text of their chains, their entries, and what is said of what has no form."""

from collections.abc import Callable
from ipaddress import ip_address, ip_network

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellwall.compile.assemble import compile_wall
from cellwall.compile.usage import usage_of_endpoints
from cellwall.errors import Unsupported
from cellwall.lower.xt.endpoints import changes, holdings
from cellwall.lower.xt.features import XtFeatures
from cellwall.lower.xt.sets import entry_text, is_own_set
from cellwall.lower.xt.tables import render_table
from cellwall.lower.xt.wall import XtWall, lower_wall
from cellwall.model.addresses import Prefix
from cellwall.model.endpoint import Endpoint
from cellwall.model.policy import Policy, Rule, Tiers, admits
from cellwall.model.settings import Settings
from scene import FACTS, endpoint

MAIL = Rule("deny", ip_network("0.0.0.0/0"), "tcp", (25, 26))
TIERS = Tiers(
    Policy(rules=(MAIL,), sources=(ip_network("93.184.216.0/24"),)),
    Policy(mode="allow", rules=(Rule("allow", ip_network("2a04::/16"), "any", (443, 443)),), monitor=True),
)


def under(tiers: Tiers, *bindings: str) -> Endpoint:
    return msgspec.structs.replace(endpoint("policed", 5, *bindings), tiers=tiers)


def wall_of(*tiers: Tiers, features: XtFeatures = XtFeatures()) -> XtWall:  # noqa: B008
    usage = usage_of_endpoints([under(one) for one in tiers])
    return lower_wall(compile_wall(Settings(), FACTS, usage, uplink="eth0"), features)


WALL = wall_of(TIERS)


def shown(one: Endpoint, like: str) -> list[str]:
    schema = {named.name: named for named in WALL.sets}
    entries = holdings([one], WALL.pins).entries
    return [f"{owned.set} {entry_text(schema[owned.set], owned.entry)}" for owned in entries if like in owned.set]


def test_chains_of_policies_read_as_their_golden(golden: Callable[[str, str], None]) -> None:
    golden("xt-wall-policies.v4.iptables", render_table(next(one for one in WALL.tables4 if one.name == "filter")))


@pytest.mark.parametrize("features", [XtFeatures(), XtFeatures(ipmac=True), XtFeatures(security=False)])
def test_whatever_a_rule_leads_to_or_asks_is_there(features: XtFeatures) -> None:
    wall = wall_of(TIERS, features=features)
    sets = {one.name for one in wall.sets}
    assert all(is_own_set(name) for name in sets)
    for table in (*wall.tables4, *wall.tables6):
        rules = [rule for chain in table.chains for rule in chain.rules]
        led = {rule.target[1] for rule in rules if rule.target and rule.target[1].startswith("B9-")}
        assert led <= {chain.name for chain in table.chains}
        asked = {word for rule in rules for flag, word in zip(rule.matches, rule.matches[1:], strict=False)
                 if flag == "--match-set"}  # fmt: skip
        assert asked <= sets


def test_a_listed_range_is_its_ports_and_everything_is_two_halves() -> None:
    assert shown(under(TIERS), "b9t") == [
        "b9tdeny4 192.168.0.5,tcp:25,0.0.0.0/1",
        "b9tdeny4 192.168.0.5,tcp:25,128.0.0.0/1",
        "b9tdeny4 192.168.0.5,tcp:26,0.0.0.0/1",
        "b9tdeny4 192.168.0.5,tcp:26,128.0.0.0/1",
        "b9tlimits4 192.168.0.5",
        "b9tlimits6 fd00:abcd::5",
    ]


def test_a_policy_stands_before_the_version_that_it_belongs_to() -> None:
    names = [owned.set for owned in holdings([under(TIERS)], WALL.pins).entries]
    assert names.index("b9tlimits4") < names.index("b9version4")
    blocked = under(Tiers(Policy(mode="block")))
    later = msgspec.structs.replace(blocked, generation=blocked.generation + 1)
    change = changes(holdings([under(TIERS)], WALL.pins), holdings([later], WALL.pins))
    assert {owned.set for owned in change.added} == {"b9tblocks4", "b9tblocks6"}
    assert {owned.set for owned in change.removed} >= {"b9tdeny4", "b9eallow6"}
    assert {owned.set for owned in change.renewed} == {"b9version4", "b9version6"}


@pytest.mark.parametrize(
    "rule",
    [
        Rule("allow", ip_network("93.184.216.0/24")),
        Rule("deny", ip_network("93.184.216.0/24"), "udp"),
        Rule("allow", ip_network("2a04::/16"), "icmp"),
        Rule("allow", ip_network("93.184.216.0/24"), "tcp", (1024, 65535)),
    ],
    ids=["any", "a protocol", "icmp", "many ports"],
)
def test_a_list_that_no_set_can_hold_is_refused_by_its_name(rule: Rule) -> None:
    with pytest.raises(Unsupported) as refused:
        wall_of(Tiers(endpoint=Policy(mode="allow", rules=(rule,))))
    assert (refused.value.predicate, refused.value.backend) == ("Listed", "iptables")


SOURCES = ["0.0.0.0/0", "93.184.216.0/24", "93.184.216.16/28", "93.184.216.20/32", "8.0.0.0/8", "2001:db8::/32",
           "2001:db8:1::/48", "::/0"]  # fmt: skip
NETWORKS = st.lists(st.sampled_from(SOURCES).map(ip_network), max_size=3).map(tuple)
CLIENTS = ["93.184.216.20", "93.184.216.21", "93.184.216.99", "8.8.8.8", "1.1.1.1", "2001:db8:1::1", "2001:db8:2::1"]


@given(tenant=st.none() | NETWORKS, own=st.none() | NETWORKS, of_binding=NETWORKS, watches=st.booleans())
def test_a_published_port_leads_the_clients_that_its_binding_and_every_policy_admit(
    tenant: tuple[Prefix, ...] | None, own: tuple[Prefix, ...] | None, of_binding: tuple[Prefix, ...], watches: bool
) -> None:
    tiers = Tiers(Policy(sources=tenant), Policy(sources=own, monitor=watches))
    one = under(tiers, "8080:80")
    binding = msgspec.structs.replace(one.bindings[0], sources=of_binding)
    rules = holdings([msgspec.structs.replace(one, bindings=(binding,))], WALL.pins).rules
    for client in map(ip_address, CLIENTS):
        listed = [rule.rule.matches for rule in rules if rule.version == client.version]
        led = any("-s" not in words or client in ip_network(words[words.index("-s") + 1]) for words in listed)
        published = not of_binding or any(client in prefix for prefix in of_binding if prefix.version == client.version)
        assert led == (published and admits(tiers, client).verdict == "allow")
