"""Bridge ports that are shut: up and locked, and nothing passes either way until they are let in."""

import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address

import msgspec
import pytest

from cellwall.adapters.interfaces.links import LinkLayer
from cellwall.adapters.netlink.rtnetlink import is_running
from cellwall.adapters.netlink.sockets import Message, Netlink, Reply
from cellwall.engine.contracts import LinkPlan, PortPlan
from cellwall.errors import KernelError
from cellwall.model.network import Network, default_mac

from .conftest import Namespace

pytestmark = pytest.mark.root
NETWORK = Network()
LINK = "b9h000000000007"


@pytest.fixture
def port(links: LinkLayer, make_namespace: Callable[[], Namespace]) -> PortPlan:
    """One that is up and shut, whose other end is up."""
    return shut_port(links, make_namespace(), 7)


def shut_port(links: LinkLayer, inside: Namespace, number: int) -> PortPlan:
    """The same of the sandbox of that number."""
    bridge = links.ensure_bridge(NETWORK, ipv6=True, mtu=1500)
    address = IPv4Address("192.168.0.0") + number
    mac = default_mac(address)
    link = LinkPlan(LINK[:-1] + str(number), "eth0", mac, 1500, bridge)
    plan = PortPlan(links.create_pair(link, inside.fd), bridge, mac, address, shut=True)
    links.lock_port(plan)
    inside.run("ip link set eth0 up")
    links.open_port(plan.host_index)
    return plan


def entries(node: Namespace) -> list[str]:
    """What the bridge forwards by that port, but for the address of the host end itself."""
    return [line for line in node.run(f"bridge fdb show brport {LINK}").splitlines() if "permanent" not in line]


def test_a_shut_port_is_up_and_has_no_entry_until_it_is_let_in(
    links: LinkLayer, node: Namespace, port: PortPlan
) -> None:
    assert is_running(links._route, LINK) and entries(node) == []
    assert links.port_differences([port]) == {}
    for _ in range(2):  # as often as one likes
        links.let_in(NETWORK.bridge, port.host_index, LINK, port.mac)
        (entry,) = entries(node)
        assert "static" in entry and "sticky" in entry
    assert links.port_differences([msgspec.structs.replace(port, shut=False)]) == {}


def test_one_that_was_let_in_before_its_time_is_told(links: LinkLayer, port: PortPlan) -> None:
    links.let_in(NETWORK.bridge, port.host_index, LINK, port.mac)
    ((line,),) = links.port_differences([port]).values()
    assert "lets it in" in line
    links.relock_port(port)
    assert links.port_differences([port]) == {}


def test_one_that_was_not_let_in_is_told(links: LinkLayer, port: PortPlan) -> None:
    let_in = msgspec.structs.replace(port, shut=False)
    ((line,),) = links.port_differences([let_in]).values()
    assert "is missing" in line
    links.relock_port(let_in)
    assert links.port_differences([let_in]) == {}


@pytest.mark.parametrize("meanwhile", [["down"], ["down", "up"], ["mode dormant", "down", "up"]])
def test_one_whose_host_end_somebody_put_down_is_up_as_soon_as_it_was_let_in(
    links: LinkLayer, node: Namespace, make_namespace: Callable[[], Namespace], meanwhile: Sequence[str]
) -> None:
    node.run("ip link add beside type veth peer name other")
    node.run("ip link set other up")
    links.ensure_bridge(NETWORK, ipv6=True, mtu=1500)
    node.run(f"ip link set beside master {NETWORK.bridge} up")  # so that it is the port alone that may be late
    for number in range(8):
        plan = shut_port(links, make_namespace(), number)
        link = LINK[:-1] + str(number)
        for change in meanwhile:
            node.run(f"ip link set {link} {change}")
            links.find(link)  # to read it settles it
        links.let_in(NETWORK.bridge, plan.host_index, link, plan.mac)
        assert is_running(links._route, link)  # which settles nothing, as no packet does


@pytest.mark.parametrize("meanwhile", [["down", "up"], ["down", "mode dormant state up", "mode default", "up"]])
def test_one_whose_other_end_was_put_down_is_up_as_soon_as_it_was_let_in_behind_it(
    links: LinkLayer, make_namespace: Callable[[], Namespace], meanwhile: Sequence[str]
) -> None:
    for number in range(8):
        inside = make_namespace()
        plan = shut_port(links, inside, number)
        for change in meanwhile:
            inside.run(f"ip link set eth0 {change}")
        link = LINK[:-1] + str(number)
        links.let_in(NETWORK.bridge, plan.host_index, link, plan.mac)
        assert is_running(links._route, link)


def test_the_first_port_of_a_bridge_takes_it_along_while_it_is_shut(links: LinkLayer, port: PortPlan) -> None:
    """A bridge without an open port has no carrier, and what it sends is dropped."""
    assert is_running(links._route, NETWORK.bridge)


class Counted(Netlink):
    """How often the kernel was asked, and for how much."""

    asked = 0
    messages = 0

    def transact(self, messages: Sequence[Message], operation: str) -> list[Reply]:
        self.asked += 1
        self.messages += len(messages)
        return super().transact(messages, operation)


def test_one_is_let_in_with_one_question(links: LinkLayer, node: Namespace, port: PortPlan) -> None:
    """Which is what it stands there for."""
    links._route.close()
    links._route = route = Counted(socket.NETLINK_ROUTE)
    links.let_in(NETWORK.bridge, port.host_index, LINK, port.mac)
    assert (route.asked, route.messages) == (1, 1)
    assert len(entries(node)) == 1


def test_one_whose_bridge_does_not_run_is_settled_with_it(links: LinkLayer, node: Namespace, port: PortPlan) -> None:
    """As a bridge whose only port was put down and up a moment before: what it sends is dropped, without an error."""
    node.run(f"ip link set {NETWORK.bridge} down")
    assert is_running(links._route, LINK)
    links._route.close()
    links._route = route = Counted(socket.NETLINK_ROUTE)
    links.let_in(NETWORK.bridge, port.host_index, LINK, port.mac)
    assert route.asked > 1


def test_one_that_somebody_took_off_the_bridge_is_let_in_when_it_is_back(
    links: LinkLayer, node: Namespace, port: PortPlan
) -> None:
    """By a repair, as that of any endpoint."""
    node.run(f"ip link set {LINK} nomaster")
    links.let_in(NETWORK.bridge, port.host_index, LINK, port.mac)
    links.enslave(port.host_index, port.bridge_index)
    let_in = msgspec.structs.replace(port, shut=False)
    assert links.port_differences([let_in])
    links.relock_port(let_in)
    assert links.port_differences([let_in]) == {}


def test_one_that_is_gone_is_not_let_in(links: LinkLayer, node: Namespace, port: PortPlan) -> None:
    node.run(f"ip link delete {LINK}")
    with pytest.raises(KernelError):
        links.let_in(NETWORK.bridge, port.host_index, LINK, port.mac)


def test_the_host_end_of_a_shut_one_says_nothing_of_itself(links: LinkLayer, node: Namespace, port: PortPlan) -> None:
    """Once it was let in, either: with IPv6 it would solicit and report there, in every sandbox that is claimed."""
    for _ in range(2):
        assert "inet6" not in node.run(f"ip -6 address show dev {LINK}")
        assert node.run(f"sysctl -n net.ipv6.conf.{LINK}.disable_ipv6").strip() == "1"
        links.let_in(NETWORK.bridge, port.host_index, LINK, port.mac)
