"""Named openings: exceptions of the floor, and services of the node. Each opens one address, protocol and port."""

import socket
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Literal

import msgspec
import pytest

from cellwall.lab import connect
from cellwall.lab.addresses import NODE4
from cellwall.model.settings import Settings, parse_openings
from world import Sandbox, World, assert_connection, assert_no_connection, open_world

pytestmark = pytest.mark.root
BOTH = pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
OPENED = {4: "10.0.0.5", 6: "fc00:9::9"}
GATEWAY = {4: "192.168.0.1", 6: "fd00:abcd::1"}
EXCEPTIONS = ("resolver 10.0.0.5 udp,tcp/53", "resolver fc00:9::9 udp,tcp/53", "metadata 169.254.169.254 udp/53",
              "infra 172.20.0.20 tcp/443")  # fmt: skip
SERVICES = ("cache 192.168.0.1 tcp,udp/5353", "cache fd00:abcd::1 tcp,udp/5353")


def settings() -> Settings:
    return Settings(
        exceptions=tuple(row for text in EXCEPTIONS for row in parse_openings(text, "network.exceptions")),
        services=tuple(row for text in SERVICES for row in parse_openings(text, "node.services")),
    )


@pytest.fixture(scope="module")
def opened() -> Iterator[World]:
    with open_world(settings=settings()) as world:
        for host in (world.lab.internet, world.lab.node, world.lab.infra):
            host.serve(tcp=[80, 443, 5353], udp=[80, 443, 5353])
        world.lab.internet.serve(tcp=[53, 54], udp=[53, 54])
        yield world


@pytest.fixture(scope="module")
def tenant(opened: World) -> Sandbox:
    return opened.attach("tenant")


@BOTH
def test_an_exception_opens_exactly_its_address_protocol_and_port(tenant: Sandbox, family: int) -> None:
    address = OPENED[family]
    for udp in (False, True):
        assert assert_connection(tenant.host, address, 53, udp=udp).startswith(b"internet ")
        for port in (54, 80):
            assert_no_connection(tenant.host, address, port, udp=udp)
    beside = str(ip_address(address) + 1)
    assert_no_connection(tenant.host, beside, 53, udp=True)


@BOTH
def test_an_exception_opens_what_its_address_is_translated_to(opened: World, tenant: Sandbox, family: int) -> None:
    """The resolver of a cluster: a service address in front of servers that nobody can list."""
    ip, server = ("ip", "10.9.9.9") if family == 4 else ("ip6", "fc00:9::53")
    inside = {4: "100.64.0.9", 6: "fec0::9"}[family]
    rules = f"{ip} daddr {OPENED[family]} dnat {ip} to {inside}; {ip} daddr {server} dnat {ip} to {inside}"
    text = f"table inet other {{ chain c {{ type nat hook prerouting priority dstnat; {rules}; }}; }}"
    opened.lab.node.run(["nft", "-f", "-"], input=text.encode())
    try:
        assert assert_connection(tenant.host, OPENED[family], 53, udp=True).startswith(b"internet ")
        assert_no_connection(tenant.host, OPENED[family], 80)
        assert_no_connection(tenant.host, server, 53, udp=True)
        assert_no_connection(tenant.host, inside, 53, udp=True)
    finally:
        opened.lab.node.run(["nft", "delete", "table", "inet", "other"])


def test_an_exception_of_one_protocol_opens_not_the_other(tenant: Sandbox) -> None:
    assert assert_connection(tenant.host, "169.254.169.254", 53, udp=True)
    assert connect(tenant.host, "169.254.169.254", 53).kind == "refused"
    assert connect(tenant.host, "169.254.169.254", 80).kind == "refused"


def test_an_exception_does_not_open_another_interface(tenant: Sandbox) -> None:
    """Egress is by the node interface only, whatever is opened: infrastructure behind eth1 stays out of reach."""
    assert connect(tenant.host, "172.20.0.20", 443).kind == "refused"


@BOTH
def test_a_node_service_is_reached_and_nothing_beside_it(opened: World, tenant: Sandbox, family: int) -> None:
    for udp in (False, True):
        assert assert_connection(tenant.host, GATEWAY[family], 5353, udp=udp).startswith(b"node ")
        for port in (80, 443):
            assert_no_connection(tenant.host, GATEWAY[family], port, udp=udp)
    assert connect(tenant.host, NODE4, 5353).kind == "refused"


def test_openings_are_not_for_the_lan(opened: World) -> None:
    opened.lab.lan.run(["ip", "route", "add", "192.168.0.0/20", "via", NODE4])
    assert connect(opened.lab.lan, GATEWAY[4], 5353, timeout=0.1).kind == "timeout"


def test_a_resolver_that_is_opened_is_told(opened: World) -> None:
    configured = settings()
    with open_world(settings=Settings(dns=(ip_address("10.0.0.5"),), exceptions=configured.exceptions)) as world:
        assert world.report is not None
        assert world.report.dns == (ip_address("10.0.0.5"),)


@pytest.mark.parametrize("backend", ["nftables", "iptables"])
def test_a_service_has_all_that_is_asked_of_it_before_it_answers(backend: Literal["nftables", "iptables"]) -> None:
    """Who looks up a name asks for addresses of both families from one socket, one right after the other."""
    with open_world(settings=msgspec.structs.replace(settings(), backend=backend)) as world:
        tenant, node, asked = world.attach("tenant"), world.lab.node, [b"A", b"AAAA", b"HTTPS"]
        for family, kind in ((4, socket.AF_INET), (6, socket.AF_INET6)):
            with (
                node.socket(kind, socket.SOCK_DGRAM) as service,
                tenant.host.socket(kind, socket.SOCK_DGRAM) as asking,
            ):
                for one in (service, asking):
                    one.settimeout(2.0)
                service.bind((GATEWAY[family], 5353))
                asking.connect((GATEWAY[family], 5353))
                for name in asked:
                    asking.send(name)
                came = [service.recvfrom(100) for _ in asked]
                for name, client in came:
                    service.sendto(name, client)
                assert [asking.recv(100) for _ in asked] == asked
