"""Bridge ports that are held: up, settled, and shut by the kernel until they are opened."""

import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address

import pytest

from cellwall.adapters.interfaces.links import LinkLayer
from cellwall.adapters.netlink.nlattr import attribute_u8, attributes, u32_of
from cellwall.adapters.netlink.rtnetlink import (
    IFLA_LINKMODE,
    LINK_HEADER_SIZE,
    LINK_MODE_DORMANT,
    get_link,
    is_running,
)
from cellwall.adapters.netlink.sockets import Message, Netlink, Reply
from cellwall.engine.contracts import LinkPlan, PortPlan
from cellwall.model.network import Network, default_mac

from .conftest import Namespace

pytestmark = pytest.mark.root
NETWORK = Network()
LINK = "b9h000000000007"
DORMANT = attribute_u8(IFLA_LINKMODE, LINK_MODE_DORMANT)
IFLA_CARRIER_UP_COUNT = 47


@pytest.fixture
def port(links: LinkLayer, make_namespace: Callable[[], Namespace]) -> PortPlan:
    """A locked one whose other end is up."""
    bridge = links.ensure_bridge(NETWORK, ipv6=True, mtu=1500)
    address, inside = IPv4Address("192.168.0.7"), make_namespace()
    mac = default_mac(address)
    plan = PortPlan(links.create_pair(LinkPlan(LINK, "eth0", mac, 1500, bridge), inside.fd), bridge, mac, address)
    links.lock_port(plan)
    inside.run("ip link set eth0 up")
    return plan


def state(links: LinkLayer, node: Namespace) -> tuple[bool, bool, str]:
    """Up, dormant, and the bridge's own word."""
    link = links.find(LINK)
    assert link is not None
    words = node.run(f"bridge link show dev {LINK}").split()
    return link.up, link.dormant, words[words.index("state") + 1] if "state" in words else ""


def test_a_held_port_is_up_and_shut_until_it_is_opened(links: LinkLayer, node: Namespace, port: PortPlan) -> None:
    for _ in range(2):  # as often as one likes
        links.hold_port(port.host_index)
        assert state(links, node) == (True, True, "disabled")
    links.open_port(port.host_index)
    assert state(links, node) == (True, False, "forwarding")


@pytest.mark.parametrize("meanwhile", [["down"], ["down", "up"]])
def test_a_held_port_that_somebody_put_down_forwards_as_soon_as_it_was_opened(
    links: LinkLayer, node: Namespace, make_namespace: Callable[[], Namespace], meanwhile: Sequence[str]
) -> None:
    """The bridge has an open port already, so that it is the port alone that may be late: every other one was."""
    bridge = links.ensure_bridge(NETWORK, ipv6=True, mtu=1500)
    node.run("ip link add beside type veth peer name other")
    node.run("ip link set other up")
    node.run(f"ip link set beside master {NETWORK.bridge} up")
    for number in range(8):
        inside, mac = make_namespace(), default_mac(IPv4Address("192.168.0.8") + number)
        index = links.create_pair(LinkPlan(f"{LINK[:-1]}{number}", "eth0", mac, 1500, bridge), inside.fd)
        inside.run("ip link set eth0 up")
        links.hold_port(index)
        for change in meanwhile:
            node.run(f"ip link set {LINK[:-1]}{number} {change}")
            links.find(f"{LINK[:-1]}{number}")  # to read it settles it
        links.open_port(index)
        assert is_running(links._route, f"{LINK[:-1]}{number}")  # which settles nothing, as no packet does


@pytest.mark.parametrize("meanwhile", [[], ["up", "down"]])
def test_one_whose_other_end_was_put_down_forwards_as_soon_as_it_was_opened_behind_it(
    links: LinkLayer, node: Namespace, make_namespace: Callable[[], Namespace], meanwhile: Sequence[str]
) -> None:
    """Down when it was held, or since: what was settled then is not any more."""
    bridge = links.ensure_bridge(NETWORK, ipv6=True, mtu=1500)
    for number in range(8):
        inside, mac = make_namespace(), default_mac(IPv4Address("192.168.0.8") + number)
        index = links.create_pair(LinkPlan(f"{LINK[:-1]}{number}", "eth0", mac, 1500, bridge), inside.fd)
        for change in meanwhile[:1]:
            inside.run(f"ip link set eth0 {change}")
        links.hold_port(index)
        for change in [*meanwhile[1:], "up"]:
            inside.run(f"ip link set eth0 {change}")
        links.open_port(index)
        assert is_running(links._route, f"{LINK[:-1]}{number}")


def test_the_first_port_of_a_bridge_takes_it_along_when_it_is_opened(
    links: LinkLayer, node: Namespace, make_namespace: Callable[[], Namespace]
) -> None:
    """A bridge without an open port has no carrier, and what it sends is dropped."""
    bridge = links.ensure_bridge(NETWORK, ipv6=True, mtu=1500)
    for number in range(8):
        inside, mac = make_namespace(), default_mac(IPv4Address("192.168.0.8") + number)
        link = f"{LINK[:-1]}{number}"
        index = links.create_pair(LinkPlan(link, "eth0", mac, 1500, bridge), inside.fd)
        inside.run("ip link set eth0 up")
        links.hold_port(index)
        assert not is_running(links._route, NETWORK.bridge)
        links.open_port(index)
        assert is_running(links._route, NETWORK.bridge)
        node.run(f"ip link delete {link}")
        links.find(NETWORK.bridge)  # to read it settles it


class Older(Netlink):
    """The kernel of one that takes no mode of a link."""

    def transact(self, messages: Sequence[Message], operation: str) -> list[Reply]:
        return super().transact([one for one in messages if DORMANT not in one.body], operation)


def came_up(links: LinkLayer) -> int:
    """How often the host end had a carrier."""
    (reply,) = links._route.transact([get_link(LINK)], "read it")
    return u32_of(attributes(reply.body, LINK_HEADER_SIZE)[IFLA_CARRIER_UP_COUNT])


def test_where_no_link_is_dormant_what_is_held_is_down_all_the_time(
    links: LinkLayer, node: Namespace, port: PortPlan
) -> None:
    """Were it up for a moment, the bridge would forward what comes by it."""
    links._route.close()
    links._route = Older(socket.NETLINK_ROUTE)
    before = came_up(links)
    links.hold_port(port.host_index)
    assert (state(links, node), came_up(links)) == ((False, False, "disabled"), before)
    links.open_port(port.host_index)
    assert state(links, node) == (True, False, "forwarding")


class Counted(Netlink):
    """How often the kernel was asked."""

    asked = 0

    def transact(self, messages: Sequence[Message], operation: str) -> list[Reply]:
        self.asked += 1
        return super().transact(messages, operation)


def test_one_that_is_held_is_opened_with_one_question_where_the_bridge_has_another(
    links: LinkLayer, node: Namespace, port: PortPlan
) -> None:
    """Which is what it is held for."""
    node.run("ip link add beside type veth peer name other")
    node.run("ip link set other up")
    node.run(f"ip link set beside master {NETWORK.bridge} up")
    links.hold_port(port.host_index)
    for link in ("beside", NETWORK.bridge):
        links.find(link)  # to read it settles it
    assert is_running(links._route, NETWORK.bridge)
    links._route.close()
    links._route = route = Counted(socket.NETLINK_ROUTE)
    links.open_port(port.host_index)
    assert route.asked == 1
    assert state(links, node) == (True, False, "forwarding")


def test_one_who_did_not_make_it_holds_it_as_well(links: LinkLayer, node: Namespace, port: PortPlan) -> None:
    with LinkLayer() as another:
        another.hold_port(port.host_index)
        assert state(links, node) == (True, True, "disabled")
        another.open_port(port.host_index)
    assert state(links, node) == (True, False, "forwarding")


def test_one_who_does_not_know_that_it_is_held_opens_it_as_well(
    links: LinkLayer, node: Namespace, port: PortPlan
) -> None:
    links.hold_port(port.host_index)
    with node.entered(), LinkLayer() as another:
        another.open_port(port.host_index)
    assert state(links, node) == (True, False, "forwarding")


@pytest.mark.parametrize("by", ["who made it", "another"])
def test_what_is_not_held_by_that_is_down(links: LinkLayer, node: Namespace, port: PortPlan, by: str) -> None:
    """As of a kernel whose bridge would enable the port all the same."""
    node.run(f"ip link set {LINK} nomaster")
    with LinkLayer() as another:
        (links if by == "who made it" else another).hold_port(port.host_index)
    link = links.find(LINK)
    assert link is not None and not link.up


def test_one_that_was_retired_is_not_remembered(links: LinkLayer, port: PortPlan) -> None:
    """Its index may be another's one day."""
    links.hold_port(port.host_index)
    links.retire(port, LINK)
    assert not links._held


def test_the_host_end_of_a_held_one_says_nothing_of_itself(links: LinkLayer, node: Namespace, port: PortPlan) -> None:
    """As it opens, either: with IPv6 it would solicit and report there, in every sandbox that is claimed."""
    links.hold_port(port.host_index)
    links.open_port(port.host_index)
    assert "inet6" not in node.run(f"ip -6 address show dev {LINK}")
    assert node.run(f"sysctl -n net.ipv6.conf.{LINK}.disable_ipv6").strip() == "1"
