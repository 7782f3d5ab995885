"""Addresses, networks and MACs: what is parsed, what is refused, what follows from a MAC."""

from ipaddress import IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellwall.errors import InvalidSpec
from cellwall.model.addresses import (
    link_local,
    mac_text,
    parse_address,
    parse_mac,
    parse_prefix,
    solicited_node_mac,
)


@pytest.mark.parametrize("text", ["192.168.0.2", "0.0.0.0", "fd00:abcd::2", "64:ff9b::1.2.3.4"])
def test_address_is_parsed(text: str) -> None:
    assert parse_address(text, "ip") == ip_address(text)


@pytest.mark.parametrize(
    "text",
    ["", "192.168.0", "192.168.0.256", "192.168.0.02", "1.2.3.4/32", "1.2.3.4 ", "fe80::1%eth0", "host", "1:2", "1\n"],
)
def test_what_is_no_address_is_refused_by_field_and_value(text: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        parse_address(text, "ip")
    assert (refused.value.field, refused.value.value) == ("ip", text)


@pytest.mark.parametrize("text", ["10.0.0.0/8", "0.0.0.0/0", "fd00::/8", "::/0", "10.0.0.1/32"])
def test_network_is_parsed(text: str) -> None:
    assert parse_prefix(text, "net") == ip_network(text)


def test_bare_address_is_a_network_of_one() -> None:
    assert parse_prefix("10.0.0.1", "net") == ip_network("10.0.0.1/32")
    assert parse_prefix("fd00::1", "net") == ip_network("fd00::1/128")


@pytest.mark.parametrize(
    "text", ["", "10.0.0.1/8", "10.0.0.0/33", "fd00::1/64", "10/8", "net", "fe80::%eth0/64", "2001:db8::%x\ny/64"]
)
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        parse_prefix(text, "net")
    assert refused.value.field == "net"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("02:00:00:00:00:01", 0x020000000001),
        ("0A:58:c0:a8:00:02", 0x0A58C0A80002),
        ("fe:ff:ff:ff:ff:ff", 0xFEFFFFFFFFFF),
    ],
)
def test_mac_is_parsed_and_written_back_in_lower_case(text: str, number: int) -> None:
    assert parse_mac(text) == number
    assert mac_text(number) == text.lower()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("00:00:00:00:00:00", "zero"),
        ("01:00:5e:00:00:01", "group"),
        ("ff:ff:ff:ff:ff:ff", "group"),
        ("33:33:00:00:00:01", "group"),
        ("02-00-00-00-00-01", "form"),
        ("02:00:00:00:00", "form"),
        ("02:00:00:00:00:01\n", "form"),
        ("", "form"),
        (2, "form"),
    ],
)
def test_mac_that_no_sandbox_can_have_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidSpec, match=reason):
        parse_mac(text)


@pytest.mark.parametrize(
    ("mac", "address"),
    [
        ("02:00:00:00:00:01", "fe80::ff:fe00:1"),  # the universal/local bit is turned around (RFC 4291 appendix A)
        ("34:56:78:9a:bc:de", "fe80::3656:78ff:fe9a:bcde"),
    ],
)
def test_link_local_address_is_the_modified_eui_64(mac: str, address: str) -> None:
    assert link_local(parse_mac(mac)) == IPv6Address(address)


def test_solicited_node_group_has_the_last_three_bytes() -> None:
    assert mac_text(solicited_node_mac(IPv6Address("4037::01:800:200e:8c6c"))) == "33:33:ff:0e:8c:6c"  # RFC 4291 2.7.1


@given(mac=st.integers(1, (1 << 48) - 1).filter(lambda mac: not mac >> 40 & 1))
def test_text_of_a_mac_is_read_back(mac: int) -> None:
    assert parse_mac(mac_text(mac)) == mac
    assert link_local(mac).is_link_local
