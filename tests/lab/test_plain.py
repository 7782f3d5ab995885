"""The node without a wall that everything is compared with."""

from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from cellwall.lab import Host, Lab, connect
from cellwall.lab.addresses import PUBLIC4, PUBLIC6
from cellwall.lab.plain import PlainBridge
from cellwall.model.network import Network

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def wired(lab: Lab) -> Iterator[tuple[Host, Host]]:
    bridge, hosts = PlainBridge(lab.node, Network()), lab.sandboxes(["one", "two"])
    for number, host in enumerate(hosts, 2):
        bridge.wire(host, IPv4Address(f"192.168.0.{number}"))
    for server in (lab.internet, hosts[1]):
        server.serve(tcp=[80])
    yield hosts[0], hosts[1]
    for host in hosts:
        bridge.unwire(host)


@pytest.mark.parametrize("address", [PUBLIC4[2], PUBLIC6[2]])
def test_a_sandbox_reaches_the_internet(wired: tuple[Host, Host], address: str) -> None:
    assert connect(wired[0], address, 80, timeout=5).data


@pytest.mark.parametrize("address", ["192.168.0.3", "fd00:abcd::3"])
def test_a_sandbox_reaches_its_neighbour(wired: tuple[Host, Host], address: str) -> None:
    assert connect(wired[0], address, 80, timeout=5).data
