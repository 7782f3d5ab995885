"""From each fault to its finding, without a host that has it."""

from typing import Any

import msgspec
import pytest

from cellwall.doctor import Observation, diagnose, render_findings
from cellwall.doctor.features import FEATURES
from cellwall.doctor.observation import Listener, Route
from cellwall.model.settings import Settings

HEALTHY = Observation(
    kernel=(6, 18),
    nft=(1, 1, 3),
    features={feature.name: "" for feature in FEATURES},
    sysctls={"net.ipv4.ip_local_port_range": "32768\t60999"},
    interfaces=frozenset({"lo", "eth0"}),
    routes=(Route("eth0", "0.0.0.0/0"), Route("eth0", "93.184.216.0/24"), Route("eth0", "::/0")),
    listeners=(Listener("tcp", "0.0.0.0", 22), Listener("udp", "::", 53)),
)


def found(settings: Settings | None = None, **changes: Any) -> list[tuple[str, str]]:
    """(severity, subject) of every finding about a healthy host with these changes."""
    host = msgspec.structs.replace(HEALTHY, **changes)
    return [(one.severity, one.subject) for one in diagnose(host, settings or Settings())]


def test_healthy_host_has_no_findings() -> None:
    assert found() == []
    assert render_findings(()) == "this host can carry the wall"


def route(*more: tuple[str, str], learned: bool = False) -> tuple[Route, ...]:
    return HEALTHY.routes + tuple(Route(interface, prefix, learned) for interface, prefix in more)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"missing_capabilities": ("CAP_NET_ADMIN",), "features": {}}, ("error", "privileges")),
        ({"kernel": (5, 15)}, ("error", "kernel")),
        ({"kernel": (6, 0)}, ("error", "kernel")),
        ({"nft": None, "features": {}}, ("error", "nft")),
        ({"nft": (1, 0, 5)}, ("error", "nft")),
        ({"nft": ()}, ("error", "nft")),
        ({"bridge_netfilter": "missing"}, ("warning", "br_netfilter")),
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
        ({"foreign_drops": ("ip filter FORWARD",)}, ("warning", "other rules")),
        ({"foreign_marks": ("ip mangle PREROUTING",)}, ("warning", "other rules")),
        ({"legacy_tables": ("filter",)}, ("note", "iptables-legacy")),
        ({"sysctls": {"net.ipv4.conf.all.route_localnet": "1"}}, ("warning", "route_localnet")),
        ({"sysctls": {"net.netfilter.nf_conntrack_helper": "1"}}, ("warning", "conntrack helpers")),
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
        {"bridge_netfilter": "available"},
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
    host = msgspec.structs.replace(HEALTHY, foreign_drops=("ip filter FORWARD",), kernel=(5, 4))
    findings = diagnose(host, Settings())
    assert [finding.severity for finding in findings] == ["error", "warning"]
    text = render_findings(findings)
    for finding in findings:
        assert finding.remedy in text
        assert finding.consequence in text
    assert text.endswith("1 error(s)")
