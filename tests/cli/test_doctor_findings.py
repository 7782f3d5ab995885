"""From each fault to its finding, without a host that has it."""

from typing import Any

import msgspec
import pytest

from cellwall.doctor import Observation, diagnose, render_findings
from cellwall.doctor.features import FEATURES
from cellwall.doctor.observation import Chain, InterfaceAddress, IptablesForm, Link, Listener, Route, Rule
from cellwall.lower.xt.features import XtFeatures
from cellwall.model.network import Network
from cellwall.model.settings import Settings

BRIDGE = Link("b9_br0", 1500, "bridge", ours=True)
CONNTRACK = {"net.netfilter.nf_conntrack_max": "262144", "net.netfilter.nf_conntrack_count": "4000"}
DROPPING = Chain("nftables", "ip", "filter", "FORWARD", hook="forward", drops=True)
ACCEPTING = (
    Rule('iifname "b9_br0" accept', enters=("b9_br0",), verdict="accept"),
    Rule('oifname "b9_br0" accept', leaves=("b9_br0",), verdict="accept"),
)


def ports(count: int) -> tuple[Link, ...]:
    """A bridge of ours with so many sandboxes."""
    return (BRIDGE, *(Link(f"b9h{number}", 1500, "veth", "b9_br0") for number in range(count)))


HEALTHY = Observation(
    kernel=(6, 18),
    nft=(1, 1, 3),
    features={feature.name: "" for feature in FEATURES},
    sysctls={"net.ipv4.ip_local_port_range": "32768\t60999"},
    interfaces=frozenset({"lo", "eth0"}),
    routes=(Route("eth0", "0.0.0.0/0"), Route("eth0", "93.184.216.0/24"), Route("eth0", "::/0")),
    listeners=(Listener("tcp", "0.0.0.0", 22), Listener("udp", "::", 53)),
)


LONE = (Route("eth0", "0.0.0.0/0"), Route("eth0", "93.184.216.1/32"), Route("eth0", "::/0"))
"""The routes of a node that has one address and a router."""


def found(settings: Settings | None = None, **changes: Any) -> list[tuple[str, str]]:
    """(severity, subject) of every finding about a healthy host with these changes."""
    host = msgspec.structs.replace(HEALTHY, **changes)
    return [(one.severity, one.subject) for one in diagnose(host, settings or Settings())]


def test_healthy_host_has_no_findings() -> None:
    assert found() == []
    assert found(owners={"inet cellwall": 4711, "bridge cellwall": 4711}, daemon=True, log="another listens") == []
    assert found(owners={"inet cellwall": 0}) == []
    assert render_findings(()) == "this host can carry the wall"


def route(*more: tuple[str, str], learned: bool = False) -> tuple[Route, ...]:
    return HEALTHY.routes + tuple(Route(interface, prefix, learned) for interface, prefix in more)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"missing_capabilities": ("CAP_NET_ADMIN",), "features": {}}, ("error", "privileges")),
        ({"kernel": (5, 15)}, ("error", "kernel")),
        ({"watched": False, "links": (BRIDGE,), "sysctls": HEALTHY.sysctls | CONNTRACK}, ("note", "watch")),
        ({"owners": {"inet cellwall": 4711}}, ("error", "owner")),
        ({"owners": {"inet cellwall": 0, "arp cellwall": 4711}}, ("error", "owner")),
        ({"owners": {"inet cellwall": 0}, "daemon": True}, ("note", "owner")),
        ({"daemon": True, "silence": "Connection refused"}, ("warning", "daemon")),
        ({"log": "another program listens to log group 26447"}, ("warning", "log of denials")),
        ({"kernel": (6, 0)}, ("error", "kernel")),
        ({"nft": None, "features": {}}, ("error", "nft")),
        ({"nft": (1, 0, 5)}, ("error", "nft")),
        ({"nft": ()}, ("error", "nft")),
        ({"modules": {"br_netfilter": "missing"}}, ("warning", "br_netfilter")),
        ({"unlatched": "the kernel has no cls_bpf"}, ("warning", "latch")),
        ({"unfiltered": "the kernel does not describe its types"}, ("warning", "unfinished checksums")),
        ({"modules": {"veth": "missing"}}, ("error", "veth")),
        ({"routes": ()}, ("error", "default route")),
        ({"ipv6": False}, ("note", "IPv6")),
        ({"routes": HEALTHY.routes[:2]}, ("note", "IPv6")),
        ({"routes": route(("eth1", "192.168.1.0/24"))}, ("error", "network.subnet4")),
        ({"routes": route(("eth1", "192.168.0.0/16"))}, ("error", "network.subnet4")),
        ({"routes": route(("eth1", "fd00::/16"))}, ("error", "network.subnet6")),
        ({"routes": route(("eth1", "fd00::/16"), learned=True)}, ("warning", "network.subnet6")),
        ({"sysctls": {"net.ipv4.ip_local_port_range": "1024 60999"}}, ("error", "node.nat_ports")),
        ({"listeners": (Listener("tcp", "0.0.0.0", 10250),)}, ("error", "node.nat_ports")),
        ({"listeners": (Listener("udp", "::", 29999),)}, ("error", "node.nat_ports")),
        ({"listeners": (Listener("tcp", "93.184.216.10", 20000),)}, ("error", "node.nat_ports")),
        ({"addresses": (InterfaceAddress("eth1", "192.168.3.4/32"),)}, ("error", "network.subnet4")),
        ({"addresses": (InterfaceAddress("lo", "fd00:abcd::9/128"),)}, ("error", "network.subnet6")),
        ({"addresses": (InterfaceAddress("eth0", "93.184.216.10/32"),), "routes": LONE}, ("warning", "neighbours")),
        ({"chains": (DROPPING,)}, ("warning", "other rules")),
        ({"legacy_tables": ("filter",)}, ("note", "iptables-legacy")),
        ({"sysctls": {"net.ipv4.conf.all.route_localnet": "1"}}, ("warning", "route_localnet")),
        ({"sysctls": {"net.netfilter.nf_conntrack_helper": "1"}}, ("warning", "conntrack helpers")),
        ({"sysctls": {"net.netfilter.nf_conntrack_tcp_be_liberal": "1"}}, ("warning", "conntrack")),
        ({"sysctls": CONNTRACK | {"net.netfilter.nf_conntrack_max": "4095"}}, ("warning", "conntrack size")),
        ({"links": ports(20)}, ("note", "NAT ports")),
        ({"sysctls": CONNTRACK | {"net.netfilter.nf_conntrack_max": "32767"}}, ("warning", "conntrack size")),
        ({"sysctls": CONNTRACK | {"net.netfilter.nf_conntrack_count": "250000"}}, ("warning", "conntrack size")),
        ({"links": (Link("eth0", 1000),)}, ("warning", "MTU")),
        ({"links": (Link("eth0", 1400), BRIDGE)}, ("warning", "MTU")),
        ({"links": (Link("eth0", 1500), BRIDGE, Link("b9h1", 1400, "veth", "b9_br0"))}, ("warning", "MTU")),
        ({"links": (BRIDGE, Link("tap0", 1500, "tun", "b9_br0"))}, ("warning", "bridge ports")),
        ({"links": (Link("b9home", 1500),)}, ("warning", "network.veth_prefix")),
        ({"links": (Link("b9_br0", 1500, "bridge"),)}, ("error", "network.bridge")),
    ],
)
def test_fault_is_found_alone(changes: dict[str, Any], expected: tuple[str, str]) -> None:
    assert [one for one in found(**changes) if one != ("note", "IPv6") or expected[1] == "IPv6"] == [expected]


@pytest.mark.parametrize("name", [feature.name for feature in FEATURES])
def test_missing_feature_is_found_under_its_name(name: str) -> None:
    features = {**HEALTHY.features, name: "Error: Could not process rule: No such file or directory"}
    need = next(feature.need for feature in FEATURES if feature.name == name)
    assert found(features=features) == [(need, name)]


@pytest.mark.parametrize(
    "changes",
    [
        {"kernel": (6, 1)},
        {"nft": (1, 0, 6)},
        {"nft": (1, 1)},
        {"modules": {"br_netfilter": "available", "veth": "unknown", "bridge": "loaded"}},
        {
            "sysctls": {
                "net.ipv4.ip_local_port_range": "1024 60999",
                "net.ipv4.ip_local_reserved_ports": "22,10240-29999",
            }
        },
        {"addresses": (InterfaceAddress("b9_br0", "192.168.0.1/20"), InterfaceAddress("eth0", "192.168.16.1/24"))},
        {"addresses": (InterfaceAddress("eth0", "10.1.0.5/32"),), "routes": LONE},
        {"sysctls": CONNTRACK, "links": ports(19)},
        {"links": (Link("eth0", 1500), BRIDGE, Link("b9h1", 1500, "veth", "b9_br0"), Link("tap0", 1500, "tun", "br1"))},
        {"links": (Link("eth0", 1400), msgspec.structs.replace(BRIDGE, mtu=1400))},
        {"links": (Link("eth1", 1000),)},
        {"chains": (msgspec.structs.replace(DROPPING, rules=ACCEPTING),)},
        {"routes": route(("b9_br0", "192.168.0.0/20"), ("b9_br0", "fd00:abcd::/64"))},
        {"listeners": (Listener("tcp", "127.0.0.1", 15000), Listener("tcp", "::1", 15000))},
        {"listeners": (Listener("tcp", "0.0.0.0", 10239), Listener("tcp", "0.0.0.0", 30000))},
    ],
)
def test_what_is_no_fault_is_not_found(changes: dict[str, Any]) -> None:
    assert found(**changes) == []


def test_configured_interface_replaces_the_default_route() -> None:
    assert found(Settings(interface="eth0", ipv6="off"), routes=()) == []
    assert found(Settings(interface="eth9", ipv6="off")) == [("error", "node.interface")]


def test_ipv6_features_do_not_matter_without_ipv6() -> None:
    broken = {**HEALTHY.features, "masquerade IPv6": "Error"}
    assert found(features=broken, ipv6=False) == [("note", "IPv6")]


def test_advertised_default_route_needs_accept_ra_2() -> None:
    routes = (*HEALTHY.routes[:2], Route("eth0", "::/0", learned=True))
    assert found(routes=routes, sysctls={"accept_ra": "1"}) == [("warning", "IPv6 default route")]
    assert found(routes=routes, sysctls={"accept_ra": "2"}) == []


def test_errors_come_first_and_the_text_says_what_to_do() -> None:
    host = msgspec.structs.replace(HEALTHY, chains=(DROPPING,), kernel=(5, 4))
    findings = diagnose(host, Settings())
    assert [finding.severity for finding in findings] == ["error", "warning"]
    text = render_findings(findings)
    for finding in findings:
        assert finding.remedy in text
        assert finding.consequence in text
    assert text.endswith("1 error(s), 1 warning(s)")


BOTH = {"nftables": "", "iptables": ""}
NO_NFT = {"nftables": "nft is not installed", "iptables": ""}
WHOLE = IptablesForm("nft", XtFeatures(ipmac=True))


def test_iptables_stands_in_for_a_missing_nft() -> None:
    hopeless = {"nft": None, "features": {}}
    assert found(**hopeless, refusals=NO_NFT | {"iptables": "no iptables"}) == [("error", "nft")]
    assert found(**hopeless, refusals=NO_NFT, iptables=WHOLE) == [
        ("warning", "node.backend"),
        ("note", "iptables (nft)"),
    ]
    assert found(Settings(backend="nftables"), **hopeless, refusals=NO_NFT) == [
        ("error", "nft"),
        ("error", "node.backend"),
    ]


def test_what_iptables_lacks_is_found_where_it_would_hold_the_wall() -> None:
    bare = msgspec.structs.replace(WHOLE, features=XtFeatures(frames=False, security=False, program=False))
    assert found(refusals=BOTH, iptables=bare) == []
    chosen = found(Settings(backend="iptables"), refusals=BOTH, iptables=bare)
    assert chosen == [("warning", "iptables (nft)")] * 3 + [("note", "iptables (nft)")]
    refused = found(Settings(backend="iptables"), refusals={"nftables": "", "iptables": "no ipset"})
    assert refused == [("error", "node.backend")]


def test_a_network_wider_than_the_node_interface_is_found() -> None:
    settings = Settings(network=Network(mtu=1500))
    assert found(settings, links=(Link("eth0", 1400),)) == [("warning", "network.mtu")]
    assert found(settings, links=(Link("eth0", 1500),)) == []


def test_without_ipv6_a_sandbox_holds_half_as_many_flows() -> None:
    many = {"sysctls": CONNTRACK, "links": ports(128)}
    shared = ("note", "NAT ports")
    assert found(Settings(ipv6="off"), **many) == [shared]
    assert found(Settings(), **many) == [("warning", "conntrack size"), shared]
    assert found(sysctls=CONNTRACK, links=ports(64)) == [shared]


def test_a_node_has_as_many_source_ports_to_a_place_as_flows_of_one_tenant_or_of_all() -> None:
    """19,760 by default."""
    assert found(links=ports(19)) == []
    assert found(Settings(tenant_connections=19760)) == [("warning", "NAT ports")]
    assert found(Settings(tenant_connections=0), links=ports(20)) == [("warning", "NAT ports")]
    assert found(Settings(nat_ports=(10240, 10240 + 8191))) == [("warning", "NAT ports")]
    assert found(Settings(nat_ports=(10240, 10240 + 8192))) == []
    assert found(Settings(connections=1 << 20), links=ports(2)) == [], "a tenant's bound is a sandbox's as well"
