"""The nft text of walls, as a matrix of what a node, its operator and its bindings can be."""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path

import msgspec
import pytest
from batches import render_element_changes
from hypothesis import given
from hypothesis import strategies as st

from cellwall.compile.assemble import ipv6_enabled
from cellwall.compile.usage import Usage
from cellwall.engine.nftables.desired import desired_elements, desired_ruleset, with_endpoints
from cellwall.lab import Lab
from cellwall.lab import addresses as at
from cellwall.lower.nft.elements import Owned, binding_elements, changes, endpoint_elements
from cellwall.lower.nft.sets import schema_of
from cellwall.model.endpoint import Endpoint, parse_binding
from cellwall.model.facts import Features
from cellwall.model.network import Network
from cellwall.model.policy import Policy, Rule, Tiers
from cellwall.model.settings import Settings, parse_openings
from cellwall.ruleset.render import render_refresh, render_removal, render_ruleset
from cellwall.ruleset.types import Ruleset, Table
from scene import FACTS, FOUR, OTHER, PUBLIC4, PUBLIC6, SCENE, WEB, Scene, endpoint, judged

GOLDEN = Path(__file__).parents[2] / "golden"
Golden = Callable[[str, str], None]
OPERATOR = Settings(
    network=Network(
        bridge="tenants0",
        veth_prefix="t0x",
        bridge_mac=0x0200000000AA,
        subnet4=IPv4Network("10.88.0.0/16"),
        gateway4=IPv4Address("10.88.0.1"),
        subnet6=IPv6Network("fd88::/64"),
        gateway6=IPv6Address("fd88::1"),
    ),
    interface="bond0",
    public_addresses=(ip_address("51.15.0.1"), ip_address("2a01:e0a::1")),
    protect=(ip_network("34.0.0.0/8"), ip_network("2a02::/16"), ip_network("10.96.0.0/12")),
    exceptions=parse_openings("resolver 10.0.0.2 udp,tcp/53", "x") + parse_openings("gw fd00:9::9 tcp/443", "x"),
    services=parse_openings("dns 10.88.0.1 udp/53", "x"),
    nat_ports=(20000, 29999),
    mark=0x40,
    connections=64,
)
POLICED = msgspec.structs.replace(
    endpoint("policed", 5),
    tiers=Tiers(
        Policy(
            mode="allow",
            rules=(
                Rule("allow", ip_network("151.101.0.0/16"), "tcp", (80, 83)),
                Rule("allow", ip_network("2a04:4e42::/32"), "icmp"),
                Rule("deny", ip_network("151.101.1.69/32")),
            ),
            sources=(ip_network("93.184.216.0/24"), ip_network("2001:db8::/32")),
        ),
        Policy(rules=(Rule("deny", ip_network("0.0.0.0/0"), "tcp", (25, 25)),), sources=(), monitor=True),
    ),
)
"""An endpoint under policies of every kind."""
ROUTER = msgspec.structs.replace(FACTS, forwarding4=True, forwarding6=True)

BOUNDED = Settings(
    connections=64, new_connections=200, packets=50_000, smtp="watched", watched=("connections", "new_connections")
)


@pytest.mark.parametrize(
    ("name", "scene"),
    [
        ("wall.nft", Scene()),
        ("wall-endpoints.nft", Scene(OTHER, FOUR)),
        ("wall-exposures.nft", SCENE),
        ("wall-operator.nft", Scene(settings=OPERATOR)),
        ("wall-policies.nft", Scene(POLICED, settings=Settings(services=OPERATOR.services))),
        ("wall-router.nft", Scene(facts=ROUTER)),
        ("wall-bounds.nft", Scene(POLICED, settings=BOUNDED)),
    ],
)
def test_a_wall_reads_as_its_golden(golden: Golden, name: str, scene: Scene) -> None:
    golden(name, render_ruleset(scene.ruleset))


@pytest.mark.parametrize(
    ("name", "one"),
    [
        ("attach.nft", OTHER),
        ("attach-ipv4-only.nft", FOUR),
        ("attach-exposed.nft", WEB),
        ("attach-policed.nft", POLICED),
    ],
)
def test_an_attach_reads_as_its_golden(golden: Golden, name: str, one: Endpoint) -> None:
    added = changes("add", list(endpoint_elements(one)))
    golden(name, render_element_changes(Scene(WEB, POLICED).rules, added))


def test_the_end_of_a_wall_reads_as_its_golden(golden: Golden) -> None:
    golden("wall-removed.nft", render_removal(SCENE.ruleset))


@pytest.mark.parametrize(
    "features", [Features(ipv6=False, ipv6_nat=False), Features(ipv6_nat=False)], ids=["no IPv6", "no IPv6 NAT"]
)
def test_a_kernel_without_ipv6_has_endpoints_without_it_and_a_family_that_is_closed(features: Features) -> None:
    facts = msgspec.structs.replace(FACTS, features=features)
    assert ipv6_enabled(Settings(), FACTS, carried=FACTS.features.ipv6_nat)
    enabled = ipv6_enabled(Settings(), facts, carried=facts.features.ipv6_nat)
    assert not enabled
    poor = endpoint("poor", 7, "8090:80", ipv6=enabled)
    scene = Scene(poor, facts=facts)
    assert judged(scene.egress(poor, PUBLIC4)) == ("accept", "egress", "")
    assert scene.ingress(at.LAN4, at.NODE4, port=8090).evaluation.translation is not None
    for source in ("fd00:abcd::7", "fe80::7", "2a00::9"):
        assert judged(scene.egress(poor, PUBLIC6, source=source)) == ("drop", "spoofed IPv6 source", "PIN")
    assert scene.ingress(at.LAN6, at.NODE6, port=8090).evaluation.translation is None
    assert judged(scene.ingress(at.LAN6, "fd00:abcd::7", port=80)) == ("drop", "direct routing to a sandbox", "RAW")


def test_no_rule_depends_on_how_many_endpoints_there_are() -> None:
    many = [endpoint(f"c{number}", number, f"{3000 + number}:80") for number in range(2, 300)]
    assert Scene(*many).rules == Scene(many[0]).rules
    assert _emptied(Scene(*many).ruleset) == _emptied(Scene(many[0]).ruleset)


def test_equal_inputs_give_equal_rulesets_in_any_order_of_endpoints() -> None:
    assert Scene(WEB, OTHER, FOUR).ruleset == Scene(FOUR, OTHER, WEB).ruleset


ENDPOINTS = st.lists(
    st.integers(2, 40).flatmap(
        lambda number: st.builds(
            lambda ipv6, exposed: endpoint(f"c{number}", number, *exposed, ipv6=ipv6),
            st.booleans(),
            st.lists(
                st.sampled_from(
                    [f"{number * 100}:80", f"{number * 100 + 1}:80/udp", f"1.2.3.{number}:{number * 100 + 2}:80"]
                ),
                unique=True,
            ),
        )
    ),
    unique_by=lambda one: one.key,
    max_size=5,
)


@given(before=ENDPOINTS, after=ENDPOINTS)
def test_what_only_some_endpoints_own_leads_from_one_wall_to_another(before: list, after: list) -> None:
    """As a change of endpoints deletes and adds it: nothing twice, and nothing that is missing."""
    gone, come = (desired_elements(one) - desired_elements(other) for one, other in ((before, after), (after, before)))
    old, new = _held(with_endpoints(SCENE.rules, before)), _held(with_endpoints(SCENE.rules, after))
    assert gone <= old
    assert not come & old
    assert old - gone | come == new


def _held(ruleset: Ruleset) -> set[Owned]:
    return {
        (table.family, named.name, element)
        for table in ruleset.tables
        for named in table.sets
        for element in named.elements
    }


def _emptied(ruleset: Ruleset) -> Ruleset:
    def without_elements(table: Table) -> Table:
        return msgspec.structs.replace(
            table, sets=tuple(msgspec.structs.replace(named, elements=()) for named in table.sets)
        )

    return Ruleset(tuple(map(without_elements, ruleset.tables)))


def test_a_refresh_refills_what_is_the_nodes_and_leaves_what_is_endpoints() -> None:
    text = render_refresh(Scene(WEB, settings=OPERATOR).ruleset)
    refilled = {line.split()[-1] for line in text.splitlines() if line.startswith(("flush set", "flush map"))}
    own = {f"{name}{version}" for name in ("floor", "noclients", "opened", "services") for version in (4, 6)}
    ranges = {f"{name}{version}" for name in ("exposedrange", "publishrange") for version in (4, 6)}
    ranges |= {f"exposedrangeto{version}{protocol}" for version in (4, 6) for protocol in ("tcp", "udp")}
    assert refilled == own | ranges
    for name, element in (("opened4", "10.0.0.2 . udp . 53"), ("services4", "10.88.0.1 . udp . 53")):
        assert element in text.partition(f"add element inet cellwall {name} {{")[2].partition("}")[0]
    assert "add element inet cellwall live" not in text


@given(some=ENDPOINTS)
def test_every_element_of_an_endpoint_has_a_set_and_no_two_endpoints_share_one(some: list) -> None:
    schema = schema_of(Usage())
    owned = [list(endpoint_elements(one)) for one in some]
    assert all((family, "cellwall", name) in schema for elements in owned for family, name, _ in elements)
    everything = [element for elements in owned for element in elements]
    assert len(everything) == len(set(everything)) == len(desired_elements(some))
    bare = [sum(1 for row in elements if not row[1].startswith(("pub", "exp"))) for elements in owned]
    assert bare == [6 if one.address6 is None else 10 for one in some]


@pytest.mark.parametrize(
    ("binding", "sets"),
    [
        ("8080:80", {"publish4", "exposed4", "publish6", "exposed6"}),
        ("1.2.3.4:8080:80", {"publishto4", "exposedat4"}),
        ("[2a00::1]:8080:80", {"publishto6", "exposedat6"}),
        ("8080:80@10.0.0.0/8", {"publish4", "exposedto4p8"}),
        ("8080:80@10.0.0.0/8,2a00::/16", {"publish4", "exposedto4p8", "publish6", "exposedto6p16"}),
        ("9000-9010:9000", {"publishrange4", "exposedrange4", "publishrange6", "exposedrange6"}),
        ("9000-9010:9000@1.0.0.0/8", {"publishrange4", "exposedrangeto4tcp"}),
        ("9000-9010:9000/udp@1.0.0.0/8", {"publishrange4", "exposedrangeto4udp"}),
        ("1.2.3.4:8080:80@1.0.0.0/8", {"publishto4", "exposedatto4p8tcp"}),
        ("[2a00::1]:53:53/udp@2a00::/16", {"publishto6", "exposedatto6p16udp"}),
        ("9000-9010:9001", {"publish4", "exposed4", "publish6", "exposed6"}),
    ],
)
def test_a_binding_is_in_the_sets_of_its_form_and_family(binding: str, sets: set[str]) -> None:
    elements = list(binding_elements(OTHER, parse_binding(binding)))
    assert {name for _, name, _ in elements} == sets
    only4 = {name for _, name, _ in binding_elements(FOUR, parse_binding(binding))}
    assert only4 == {name for name in sets if "6" not in name.partition("p1")[0]}


def test_no_key_has_more_parts_than_nft_reads_back() -> None:
    """linux/netfilter/nf_tables.h NFTA_SET_KEY_TYPE: 32 bits, of which nft uses six a part."""
    every = Usage(
        ranges=True, range_sources=True, sources=tuple((v, 8, bound) for v in (4, 6) for bound in (True, False))
    )
    assert max(len(named.key) for named in schema_of(every).values()) == 5


def test_a_range_is_one_element_and_a_shifted_one_as_many_as_it_has_ports() -> None:
    plain = list(binding_elements(FOUR, parse_binding("9000-9999:9000")))
    assert len(plain) == 2
    shifted = list(binding_elements(FOUR, parse_binding("9000-9999:8000")))
    assert len(shifted) == 2000


def test_a_form_of_exposure_that_nobody_uses_has_no_rule_and_no_set() -> None:
    text = render_ruleset(Scene(OTHER).ruleset)
    assert "range" not in text
    assert "exposedto" not in text
    with_ranges = desired_ruleset(Settings(), FACTS, Usage(ranges=True), "eth0")
    assert "publishrange4" in render_ruleset(with_ranges)


@pytest.mark.root
def test_nft_itself_takes_every_golden(lab: Lab) -> None:
    for path in sorted(GOLDEN.glob("wall*.nft")):
        lab.node.run(["nft", "-f", str(path)])
        lab.node.run(["nft", "flush", "ruleset"])
    lab.node.run(["nft", "-f", str(GOLDEN / "wall-exposures.nft")])
    lab.node.run(["nft", "-f", str(GOLDEN / "wall-removed.nft")])
    assert lab.node.run(["nft", "list", "ruleset"]).text == ""
