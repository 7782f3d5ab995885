"""The results of each spoken version, and what CHECK makes of an earlier one."""

from ipaddress import IPv4Address, IPv6Address
from typing import Any

import msgspec
import pytest

from cellwall.cni.conf import Names
from cellwall.cni.result import Port, compare_result, render_result, told_names
from cellwall.model.endpoint import Endpoint, EndpointKey
from cellwall.model.network import Network

ENDPOINT = Endpoint(
    key=EndpointKey("web", "eth0"),
    tenant="web",
    host_link="b9h0123456789ab",
    host_index=7,
    mac=0x0A58C0A80005,
    address4=IPv4Address("192.168.0.5"),
    address6=IPv6Address("fd00:abcd::5"),
    generation=1,
    netns="/run/netns/web",
    netns_device=4,
    netns_inode=9,
)
NETWORK = Network()
PORT = Port(mac=0x020000000099, mtu=1500)
NAMES = Names(nameservers=("1.1.1.1",))


def rendered(version: str, endpoint: Endpoint = ENDPOINT, previous: Any = None) -> dict[str, Any]:
    document = msgspec.json.decode(render_result(version, endpoint, NETWORK, PORT, NAMES, previous))
    assert isinstance(document, dict)
    return document


def test_the_result_of_1_0_0() -> None:
    assert rendered("1.0.0") == {
        "cniVersion": "1.0.0",
        "interfaces": [
            {"name": "b9_br0", "mac": "02:00:00:00:00:01"},
            {"name": "b9h0123456789ab", "mac": "02:00:00:00:00:99"},
            {"name": "eth0", "mac": "0a:58:c0:a8:00:05", "sandbox": "/run/netns/web"},
        ],
        "ips": [
            {"address": "192.168.0.5/20", "gateway": "192.168.0.1", "interface": 2},
            {"address": "fd00:abcd::5/64", "gateway": "fd00:abcd::1", "interface": 2},
        ],
        "routes": [{"dst": "0.0.0.0/0", "gw": "192.168.0.1"}, {"dst": "::/0", "gw": "fd00:abcd::1"}],
        "dns": {"nameservers": ["1.1.1.1"]},
    }


def test_the_older_version_tells_the_family_and_the_newer_one_the_mtu() -> None:
    older, newer, middle = rendered("0.4.0"), rendered("1.1.0"), rendered("1.0.0")
    assert [row.pop("version") for row in older["ips"]] == ["4", "6"]
    assert [row.pop("mtu") for row in newer["interfaces"]] == [1500, 1500, 1500]
    for document in (older, newer):
        assert {**document, "cniVersion": "1.0.0"} == middle


def test_an_endpoint_without_ipv6_has_no_row_of_it() -> None:
    document = rendered("1.1.0", msgspec.structs.replace(ENDPOINT, address6=None))
    assert len(document["ips"]) == len(document["routes"]) == 1


def test_what_earlier_plugins_reported_is_kept_and_comes_first() -> None:
    earlier = {
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "lo", "sandbox": "/run/netns/web"}],
        "ips": [{"address": "127.0.0.1/8", "interface": 0}],
    }
    document = rendered("1.1.0", previous=earlier)
    assert [row["name"] for row in document["interfaces"]] == ["lo", "b9_br0", "b9h0123456789ab", "eth0"]
    assert [row["interface"] for row in document["ips"]] == [0, 3, 3]


def test_resolvers_of_the_conflist_come_before_the_walls() -> None:
    wall = (IPv4Address("8.8.8.8"), IPv6Address("2001:4860:4860::8888"))
    assert told_names(Names(search=("a.test",)), wall) == Names(
        nameservers=("8.8.8.8", "2001:4860:4860::8888"), search=("a.test",)
    )
    assert told_names(NAMES, wall) == NAMES


@pytest.mark.parametrize("version", ["0.4.0", "1.0.0", "1.1.0"])
def test_a_result_describes_its_endpoint(version: str) -> None:
    assert list(compare_result(rendered(version), ENDPOINT, NETWORK)) == []


@pytest.mark.parametrize(("change", "told"), [
    ({"mac": 0x020000000042}, "0a:58:c0:a8:00:05: the endpoint's MAC is 02:00:00:00:00:42"),
    ({"address4": IPv4Address("192.168.0.6")}, "192.168.0.6/20"),
    ({"address6": IPv6Address("fd00:abcd::6")}, "fd00:abcd::6/64"),
    ({"key": EndpointKey("web", "eth1")}, "no eth1"),
])  # fmt: skip
def test_a_result_of_another_endpoint_is_found_out(change: dict[str, Any], told: str) -> None:
    findings = list(compare_result(rendered("1.1.0"), msgspec.structs.replace(ENDPOINT, **change), NETWORK))
    assert len(findings) == 1
    assert told in findings[0]


@pytest.mark.parametrize("previous", [{}, {"interfaces": "x", "ips": [7]}, {"interfaces": [7]}])
def test_a_result_without_rows_or_with_strange_ones_is_only_a_finding(previous: dict[str, Any]) -> None:
    assert len(list(compare_result(previous, ENDPOINT, NETWORK))) == 3
