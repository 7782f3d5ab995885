"""Settings that cannot work, and the grammar of what an operator opens."""

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from cellwall.errors import InvalidSpec
from cellwall.model.floor import METADATA
from cellwall.model.settings import Opening, Settings, parse_openings


@pytest.mark.parametrize(
    ("field", "changed"),
    [
        ("node.nat_ports", {"nat_ports": (1023, 29999)}),
        ("node.nat_ports", {"nat_ports": (29999, 10240)}),
        ("node.nat_ports", {"nat_ports": (10240, 11262)}),  # 1023 ports
        ("node.nat_ports", {"nat_ports": (65000, 66000)}),
        ("node.mark", {"mark": 0}),
        ("node.mark", {"mark": 0x3000}),
        ("node.mark", {"mark": 1 << 32}),
        ("limits.connections", {"connections": 0}),
        ("limits.connections", {"connections": (1 << 20) + 1}),
    ],
)
def test_what_cannot_work_is_refused_by_its_field(field: str, changed: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpec) as refused:
        Settings(**changed).validate()
    assert refused.value.field == field


@pytest.mark.parametrize(
    "changed", [{}, {"nat_ports": (1024, 2047)}, {"mark": 1}, {"mark": 1 << 31}, {"connections": 1 << 20}]
)
def test_the_outermost_values_work(changed: dict[str, Any]) -> None:
    Settings(**changed).validate()


@pytest.mark.parametrize("field", ["exceptions", "services"])
@pytest.mark.parametrize(
    "opening",
    [
        Opening("imds", ip_address("169.254.169.254"), "tcp", 80),
        Opening("imds", ip_address("64:ff9b::a9fe:a9fe"), "tcp", 80),
        Opening("any", ip_address("10.0.0.2"), "icmp", 53),  # type: ignore[arg-type]
        Opening("any", ip_address("10.0.0.2"), "tcp", 0),
        Opening("any", ip_address("10.0.0.2"), "udp", 65536),
        Opening("a;b", ip_address("10.0.0.2"), "udp", 53),
        Opening("own", ip_address("127.0.0.1"), "udp", 53),
        Opening("sandbox", ip_address("192.168.0.9"), "udp", 53),
    ],
    ids=str,
)
def test_an_opening_that_was_not_parsed_is_judged_all_the_same(field: str, opening: Opening) -> None:
    """A program that uses the Python API makes its settings itself."""
    with pytest.raises(InvalidSpec) as refused:
        Settings(**{field: (opening,)}).validate()  # type: ignore[arg-type]
    assert refused.value.field == {"exceptions": "network.exceptions", "services": "node.services"}[field]
    Settings(**{field: (Opening("names", ip_address("169.254.169.254"), "udp", 53),)}).validate()  # type: ignore[arg-type]


def test_a_wrong_network_is_a_wrong_setting() -> None:
    from cellwall.model.network import Network

    with pytest.raises(InvalidSpec, match=r"network\.subnet4"):
        Settings(network=Network(subnet4=ip_network("10.0.0.0/8"))).validate()


def test_opening_is_one_address_a_protocol_and_a_port() -> None:
    resolver = ip_address("10.0.0.2")
    assert parse_openings("resolver 10.0.0.2 udp,tcp/53", "x") == (
        Opening("resolver", resolver, "udp", 53),
        Opening("resolver", resolver, "tcp", 53),
    )
    assert parse_openings(" gw  fd00::1\ttcp/443 ", "x") == (Opening("gw", ip_address("fd00::1"), "tcp", 443),)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "resolver",
        "resolver 10.0.0.2",
        "resolver 10.0.0.2 udp/53 more",
        "1st 10.0.0.2 udp/53",
        "a;b 10.0.0.2 udp/53",
        "resolver 10.0.0.0/8 udp/53",
        "resolver 10.0.0.2/32 udp/53",
        "resolver 10.0.0.2-10.0.0.9 udp/53",
        "resolver host.example udp/53",
        "resolver 10.0.0.2 udp",
        "resolver 10.0.0.2 udp/",
        "resolver 10.0.0.2 udp/53-54",
        "resolver 10.0.0.2 udp/0",
        "resolver 10.0.0.2 /53",
        "resolver 10.0.0.2 udp,/53",
        "resolver 10.0.0.2 icmp/53",
        "resolver 10.0.0.2 any/53",
        "resolver 10.0.0.2 */53",
        "resolver fe80::1%eth0 udp/53",
    ],
)
def test_what_is_wider_than_one_service_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        parse_openings(text, "network.exceptions")
    assert refused.value.field == "network.exceptions"


SERVICES = [row.prefix.network_address for row in METADATA]


@pytest.mark.parametrize("address", [*map(str, SERVICES), "64:ff9b::a9fe:a9fe"])
def test_metadata_service_can_be_opened_for_names_only(address: str) -> None:
    assert len(parse_openings(f"resolver {address} udp,tcp/53", "x")) == 2
    for port in (1, 52, 54, 80, 443, 32526):
        with pytest.raises(InvalidSpec, match="metadata"):
            parse_openings(f"resolver {address} tcp/{port}", "x")
