"""The floor against a list that was written down independently of it, from the registries themselves.

IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890 and its updates), RFC 5771, RFC 1112; IANA's IPv6
address space registry assigns global unicast from 2000::/3 only (RFC 4291 2.4, RFC 3513).
"""

from ipaddress import IPv4Address, IPv6Address, collapse_addresses, ip_address, ip_network
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellwall.model.floor import (
    GLOBAL6,
    METADATA,
    SPECIAL_PURPOSE,
    always_denied,
    floor_denies,
    floor_prefixes,
    metadata_address,
)

CLOSED4 = {
    "0.0.0.0/8": "RFC 791",
    "10.0.0.0/8": "RFC 1918",
    "100.64.0.0/10": "RFC 6598",
    "127.0.0.0/8": "RFC 1122",
    "169.254.0.0/16": "RFC 3927",
    "172.16.0.0/12": "RFC 1918",
    "192.0.0.0/24": "RFC 6890",
    "192.0.2.0/24": "RFC 5737",
    "192.31.196.0/24": "RFC 7535",
    "192.52.193.0/24": "RFC 7450",
    "192.88.99.0/24": "RFC 7526",
    "192.168.0.0/16": "RFC 1918",
    "192.175.48.0/24": "RFC 7534",
    "198.18.0.0/15": "RFC 2544",
    "198.51.100.0/24": "RFC 5737",
    "203.0.113.0/24": "RFC 5737",
    "224.0.0.0/4": "RFC 5771",
    "240.0.0.0/4": "RFC 1112",
    "168.63.129.16/32": "Azure's wire server, in public address space",
}
CLOSED6 = {
    "::/3": "unassigned but for the rows that follow",
    "::/128": "RFC 4291: unspecified",
    "::1/128": "RFC 4291: loopback",
    "::/96": "RFC 4291: IPv4-compatible, deprecated",
    "::ffff:0:0/96": "RFC 4291: IPv4-mapped",
    "64:ff9b::/96": "RFC 6052: NAT64, an IPv4 address inside",
    "64:ff9b:1::/48": "RFC 8215: local NAT64",
    "100::/64": "RFC 6666: discard",
    "2001::/32": "RFC 4380: Teredo",
    "2001:2::/48": "RFC 5180: benchmarking",
    "2001:20::/28": "RFC 7343: ORCHIDv2",
    "2001::/23": "RFC 2928: IETF protocol assignments",
    "2001:db8::/32": "RFC 3849: documentation",
    "2002::/16": "RFC 3056: 6to4",
    "2620:4f:8000::/48": "RFC 7534: AS112",
    "3fff::/20": "RFC 9637: documentation",
    "4000::/3": "unassigned",
    "5f00::/16": "RFC 9602: SRv6 SIDs",
    "6000::/3": "unassigned",
    "8000::/1": "unassigned, and all that follows",
    "fc00::/7": "RFC 4193: unique local",
    "fe80::/10": "RFC 4291: link-local",
    "fec0::/10": "RFC 3879: site-local, deprecated",
    "ff00::/8": "RFC 4291: multicast",
}
METADATA_SERVICES = {
    "169.254.169.254": "all clouds",
    "169.254.170.2": "ECS",
    "169.254.170.23": "EKS",
    "169.254.42.42": "Scaleway",
    "168.63.129.16": "Azure",
    "100.100.100.200": "Alibaba",
    "192.0.0.192": "Oracle",
    "fd00:ec2::254": "AWS",
    "fd00:ec2::23": "EKS",
    "fd20:ce::254": "GCP",
    "fd00:42::42": "Scaleway",
    "fe80::a9fe:a9fe": "OpenStack, Hetzner",
}
PUBLIC = (
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
    "168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0",
    "191.255.255.255", "192.0.1.0", "192.0.3.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0",
    "203.0.112.255", "203.0.114.0", "223.255.255.255",
    "2000::", "2001:200::", "2001:4860:4860::8888", "2001:db7:ffff::1", "2001:db9::", "2003::", "2606:4700:4700::1111",
    "2620:4f:7fff::1", "2620:4f:8001::", "2a04:4e42::1", "3ffe:ffff::", "3fff:1000::",
)  # fmt: skip

FOUR = [ip_network(text) for text in CLOSED4]
SIX = [ip_network(text) for text in CLOSED6]


@pytest.mark.parametrize("text", [*CLOSED4, *CLOSED6])
def test_special_range_is_closed_from_its_first_to_its_last_address(text: str) -> None:
    row = ip_network(text)
    for address in (row.network_address, row.broadcast_address, row[row.num_addresses // 2]):
        assert floor_denies(address), address


@pytest.mark.parametrize("text", PUBLIC)
def test_the_address_beside_a_special_range_is_open(text: str) -> None:
    assert not floor_denies(ip_address(text))


@given(address=st.one_of([st.ip_addresses(v=4, network=str(row)) for row in FOUR]))
def test_every_ipv4_address_of_a_special_range_is_closed(address: IPv4Address) -> None:
    assert floor_denies(address)


@given(address=st.one_of([st.ip_addresses(v=6, network=str(row)) for row in SIX]))
def test_every_ipv6_address_of_a_special_range_is_closed(address: IPv6Address) -> None:
    assert floor_denies(address)


@given(address=st.ip_addresses(v=4))
def test_ipv4_is_closed_where_the_registries_say_so_and_nowhere_else(address: IPv4Address) -> None:
    assert floor_denies(address) is any(address in row for row in FOUR)


@given(address=st.one_of(st.ip_addresses(v=6), st.ip_addresses(v=6, network="2000::/3")))
def test_ipv6_is_closed_where_the_registries_say_so_and_nowhere_else(address: IPv6Address) -> None:
    assert floor_denies(address) is any(address in row for row in SIX)


def test_the_table_is_exactly_the_independent_list() -> None:
    four, six = floor_prefixes(())
    assert four == tuple(collapse_addresses(FOUR))
    assert six == tuple(collapse_addresses(row for row in SIX if row.subnet_of(GLOBAL6)))


def test_every_row_names_what_it_is_and_where_that_is_laid_down() -> None:
    for row in SPECIAL_PURPOSE + METADATA:
        assert row.name
        assert row.source


@pytest.mark.parametrize("text", METADATA_SERVICES)
def test_metadata_service_is_known_and_closed(text: str) -> None:
    assert metadata_address(ip_address(text))
    assert floor_denies(ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        "::ffff:169.254.169.254",  # mapped (RFC 4291 2.5.5.2)
        "::169.254.169.254",  # compatible (RFC 4291 2.5.5.1)
        "64:ff9b::169.254.169.254",  # NAT64 (RFC 6052)
        "64:ff9b::168.63.129.16",
        "64:ff9b:1::169.254.169.254",  # NAT64 of the site's own (RFC 8215)
        "2002:a9fe:a9fe::1",  # 6to4 (RFC 3056)
    ],
)
def test_metadata_service_is_known_in_an_ipv6_address_that_carries_it(text: str) -> None:
    assert metadata_address(ip_address(text))
    assert floor_denies(ip_address(text))


@pytest.mark.parametrize("text", ["169.254.169.253", "10.0.0.2", "8.8.8.8", "64:ff9b::8.8.8.8", "fd00:ec2::253"])
def test_other_addresses_are_no_metadata_service(text: str) -> None:
    assert not metadata_address(ip_address(text))


def test_what_the_node_and_the_operator_add_is_closed_too() -> None:
    extra = [ip_network("93.184.216.0/24"), ip_network("2606:2800:220:1::/64")]
    for text in ("93.184.216.10", "2606:2800:220:1::10"):
        assert floor_denies(ip_address(text), extra)
        assert not floor_denies(ip_address(text))


def test_rows_are_merged_so_that_an_interval_set_accepts_them() -> None:
    four, six = floor_prefixes([ip_network("10.1.0.0/16"), ip_network("11.0.0.0/8"), ip_network("fd00::/8")])
    assert ip_network("10.0.0.0/7") in four  # 10/8 and 11/8, as one interval
    for rows in (four, six):
        assert list(rows) == sorted(set(rows))
        assert not [1 for one, two in pairwise(rows) if one.overlaps(two)]
    assert all(row.overlaps(GLOBAL6) for row in six)  # the rest falls by the allow-list


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("10.0.0.0/8", True),
        ("10.255.255.0/24", True),
        ("224.0.0.0/3", True),  # two rows of the table, side by side
        ("168.63.129.16/32", True),
        ("168.63.129.0/24", False),
        ("8.0.0.0/6", False),
        ("0.0.0.0/0", False),
        ("11.0.0.0/8", False),
        ("192.0.0.0/23", False),
        ("fc00::/7", True),
        ("8000::/1", True),
        ("2001:db8:5::/48", True),
        ("2001:db8::/31", False),
        ("2000::/3", False),
        ("::/0", False),
        ("2a04:4e42::/32", False),
    ],
)
def test_a_prefix_that_every_floor_denies_whole(text: str, whole: bool) -> None:
    prefix = ip_network(text)
    assert always_denied(prefix.version, int(prefix.network_address), prefix.prefixlen) is whole
