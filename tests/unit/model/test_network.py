"""A network's shape: what cannot work is refused by the name of its field."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellwall.errors import InvalidSpec
from cellwall.model.network import Network, default_mac


def test_defaults_are_the_reference_models() -> None:
    network = Network()
    network.validate()
    assert (network.bridge, network.veth_prefix) == ("b9_br0", "b9h")
    assert (str(network.subnet4), str(network.gateway4)) == ("192.168.0.0/20", "192.168.0.1")
    assert (str(network.subnet6), str(network.gateway6)) == ("fd00:abcd::/64", "fd00:abcd::1")


@pytest.mark.parametrize(
    ("field", "changed"),
    [
        ("subnet4", {"subnet4": "10.0.0.0/11", "gateway4": "10.0.0.1"}),
        ("subnet4", {"subnet4": "10.0.0.0/30", "gateway4": "10.0.0.1"}),
        ("subnet4", {"subnet4": "127.0.0.0/20", "gateway4": "127.0.0.1"}),
        ("subnet4", {"subnet4": "169.254.0.0/20", "gateway4": "169.254.0.1"}),
        ("subnet4", {"subnet4": "224.0.0.0/20", "gateway4": "224.0.0.1"}),
        ("subnet4", {"subnet4": "240.0.0.0/20", "gateway4": "240.0.0.1"}),
        ("subnet4", {"subnet4": "0.0.0.0/20", "gateway4": "0.0.0.1"}),
        ("subnet6", {"subnet6": "fe80::/64", "gateway6": "fe80::1"}),
        ("subnet6", {"subnet6": "ff02::/64", "gateway6": "ff02::1"}),
        ("subnet6", {"subnet6": "::/64", "gateway6": "::1"}),
        ("subnet6", {"subnet6": "fd00::/120", "gateway6": "fd00::1"}),
        ("gateway4", {"gateway4": "10.0.0.1"}),
        ("gateway4", {"gateway4": "192.168.0.0"}),
        ("gateway4", {"gateway4": "192.168.15.255"}),
        ("gateway6", {"gateway6": "fd00:abce::1"}),
        ("gateway6", {"gateway6": "fd00:abcd::"}),
        ("mtu", {"mtu": 1279}),
        ("mtu", {"mtu": 65536}),
        ("mtu", {"mtu": -1}),
        ("veth_prefix", {"veth_prefix": "b9"}),
        ("veth_prefix", {"veth_prefix": "b9h0"}),
        ("veth_prefix", {"veth_prefix": "b9*"}),
        ("veth_prefix", {"veth_prefix": "b9é"}),
        ("bridge", {"bridge": "b9h0"}),
    ],
)
def test_what_cannot_work_is_refused_by_its_field(field: str, changed: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpec) as refused:
        network(**changed).validate()
    assert refused.value.field == f"network.{field}"


@pytest.mark.parametrize(
    "changed",
    [
        {"subnet4": "10.0.0.0/12", "gateway4": "10.0.0.1"},
        {"subnet4": "10.0.0.0/29", "gateway4": "10.0.0.6"},
        {"subnet6": "fd00:1::/116", "gateway6": "fd00:1::1"},
        {"mtu": 1280},
        {"mtu": 65535},
    ],
)
def test_the_outermost_values_work(changed: dict[str, Any]) -> None:
    network(**changed).validate()


def network(**changed: Any) -> Network:
    parse: dict[str, Any] = {
        "subnet4": IPv4Network,
        "subnet6": IPv6Network,
        "gateway4": IPv4Address,
        "gateway6": IPv6Address,
    }
    return Network(**{name: parse.get(name, lambda value: value)(value) for name, value in changed.items()})


@given(offset=st.integers(0, 4095))
def test_ipv6_host_part_is_the_ipv4_offset(offset: int) -> None:
    network = Network()
    own = network.address6(network.subnet4[offset])
    assert own == network.subnet6[offset]
    assert own in network.subnet6


def test_the_gateways_own_addresses_follow_the_bridge_mac() -> None:
    assert Network().gateway_link_local == IPv6Address("fe80::ff:fe00:1")


@given(one=st.ip_addresses(v=4), other=st.ip_addresses(v=4))
def test_default_mac_is_local_unicast_and_as_unique_as_the_address(one: IPv4Address, other: IPv4Address) -> None:
    mac = default_mac(one)
    assert mac >> 40 & 0b11 == 0b10  # locally administered, unicast (IEEE 802)
    assert mac & 0xFFFFFFFF == int(one)
    assert (mac == default_mac(other)) is (one == other)


def test_a_record_of_another_program_is_of_the_same_network_where_all_that_both_know_is_equal() -> None:
    network = Network(bridge="b9_new", mtu=1400)
    record = network.fields()
    assert network.is_as_recorded(record)
    assert network.is_as_recorded(msgspec.json.decode(msgspec.json.encode(record), type=dict[str, int | str]))
    assert network.is_as_recorded({**record, "a field of later": 3})
    older = {name: value for name, value in record.items() if name != "name"}
    assert network.is_as_recorded(older)
    assert not msgspec.structs.replace(network, name="other").is_as_recorded(older)
    for name, value in record.items():
        assert network.is_as_recorded({**record, name: f"not {value}"}) == (name == "mtu")  # which links follow


@pytest.mark.parametrize(
    ("configured", "uplink", "before", "expected"),
    [
        (0, 1420, 0, 1420),
        (0, 1420, 1500, 1420),
        (0, 0, 0, 1500),
        (0, 0, 9000, 9000),
        (0, 576, 0, 1280),
        (0, 65536, 0, 65535),
        (1300, 9000, 9000, 1300),
        (9000, 1300, 0, 9000),
    ],
)
def test_links_are_as_wide_as_configured_or_as_the_node_interface_where_that_can_be(
    configured: int, uplink: int, before: int, expected: int
) -> None:
    assert Network(mtu=configured).link_mtu(uplink, before) == expected
