"""What a bridge port, and a bridge, are told to be: every difference is seen by name, and locking again mends it."""

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address

import msgspec
import pytest

from cellwall.adapters.interfaces.links import LinkLayer
from cellwall.engine.contracts import LinkPlan, PortPlan
from cellwall.model.addresses import mac_text
from cellwall.model.network import Network, default_mac

from .conftest import Namespace

pytestmark = pytest.mark.root
NETWORK = Network()
PORT, MAC = "b9h000000000007", mac_text(default_mac(IPv4Address("192.168.0.7")))
FLAGS = {
    "hairpin": "on",
    "guard": "off",
    "root_block": "off",
    "learning": "on",
    "flood": "on",
    "mcast_flood": "on",
    "bcast_flood": "on",
    "neigh_suppress": "on",
    "isolated": "off",
    "locked": "off",
    "mcast_router": "2",
}
CHANGES = {
    **{name: (f"bridge link set dev {PORT} {name} {value}", name) for name, value in FLAGS.items()},
    "proxy_arp": (f"ip link set dev {PORT} type bridge_slave proxy_arp on", "proxy_arp is 1"),
    "proxy_arp_wifi": (f"ip link set dev {PORT} type bridge_slave proxy_arp_wifi on", "proxy_arp_wifi is 1"),
    "reserved groups": (f"ip link set dev {PORT} type bridge_slave group_fwd_mask 0", "group_fwd_mask is 0"),
    "another in its place": (f"bridge link set dev {PORT} backup_port b9h000000000008", "backup_port is"),
    "a next hop in its place": (f"bridge link set dev {PORT} backup_nhid 7", "backup_nhid is 7"),
    "closed by hand": (f"bridge link set dev {PORT} state 0", "its state is disabled, not forwarding"),
    "as STP leaves it": (f"bridge link set dev {PORT} state 1", "its state is listening, not forwarding"),
    "ARP of its own": (f"ip link set {PORT} arp on", "arp is on"),
    "no entry": (f"bridge fdb del {MAC} dev {PORT} master", f"its forwarding entry {MAC} is missing"),
    "an entry that moves": (f"bridge fdb replace {MAC} dev {PORT} master static", f"{MAC} is not static and sticky"),
    "an entry of the node's": (f"bridge fdb replace {MAC} dev {PORT} master permanent", "is not static and sticky"),
    "another entry": (f"bridge fdb add 02:00:00:00:00:99 dev {PORT} master static", "entry 02:00:00:00:00:99"),
    "no neighbour": ("ip neigh del 192.168.0.7 dev b9_br0", "its neighbour 192.168.0.7 is missing"),
    "a neighbour that ages": (f"ip neigh replace fd00:abcd::7 lladdr {MAC} dev b9_br0 nud reachable", "fd00:abcd::7"),
    "another neighbour": (
        "ip neigh replace 192.168.0.7 lladdr 02:00:00:00:00:99 dev b9_br0 nud permanent",
        f"its neighbour 192.168.0.7 is not {MAC} for good",
    ),
}


@pytest.fixture
def attach(links: LinkLayer, make_namespace: Callable[[], Namespace]) -> Iterator[Callable[[int], PortPlan]]:
    def make(number: int) -> PortPlan:
        bridge = links.ensure_bridge(NETWORK, ipv6=True, mtu=1500)
        address = IPv4Address("192.168.0.0") + number
        link = LinkPlan(f"b9h{number:012x}", "eth0", default_mac(address), 1500, bridge)
        inside = make_namespace()
        plan = PortPlan(links.create_pair(link, inside.fd), bridge, link.mac, address, NETWORK.address6(address))
        inside.run("ip link set eth0 up")
        links.lock_port(plan)
        links.open_port(plan.host_index)
        return plan

    yield make


def test_a_port_whose_addresses_wait_for_somebody_to_let_them_in_is_mended(
    links: LinkLayer, node: Namespace, attach: Callable[[int], PortPlan]
) -> None:
    """As a program of 802.1X has them (MAB). The kernel refuses what is to be one flag without the other."""
    plan = attach(7)
    for flag in ("learning", "mab"):
        node.run(f"bridge link set dev {PORT} {flag} on")
    assert {"learning is 1, not 0", "mab is 1, not 0"} <= set(links.port_differences([plan])[plan.host_index])
    links.relock_port(plan)
    assert links.port_differences([plan]) == {}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_one_port_is_named_and_mended(
    links: LinkLayer, node: Namespace, attach: Callable[[int], PortPlan], name: str
) -> None:
    command, expected = CHANGES[name]
    plans = [attach(7), attach(8)]
    assert links.port_differences(plans) == {}
    node.run(command)
    ((index, lines),) = links.port_differences(plans).items()
    assert index == plans[0].host_index
    assert len(lines) == 1
    assert expected in lines[0]
    links.relock_port(plans[0])
    assert links.port_differences(plans) == {}


def test_a_port_that_is_gone_lacks_its_entry_and_nobody_elses_is_blamed(
    links: LinkLayer, node: Namespace, attach: Callable[[int], PortPlan]
) -> None:
    plans = [attach(7), attach(8)]
    node.run(f"ip link del {PORT}")
    assert list(links.port_differences(plans)) == [plans[0].host_index]
    without_ipv6 = msgspec.structs.replace(plans[1], address6=None)
    assert links.port_differences([without_ipv6]) == {}
    assert links.port_differences([]) == {}


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("ip link set b9_br0 type bridge stp_state 1", "has stp_state 1, not 0"),
        ("ip link set b9_br0 type bridge group_fwd_mask 8", "has group_fwd_mask 8, not 0"),
        ("ip link set b9_br0 type bridge mcast_router 2", "has mcast_router 2, not 0"),
        ("ip link set b9_br0 type bridge mcast_snooping 1", "has mcast_snooping 1, not 0"),
        ("ip link set b9_br0 type bridge mcast_querier 1", "has mcast_querier 1, not 0"),
        ("ip link set b9_br0 mtu 1400", "has MTU 1400, not 1500"),
        ("ip link set b9_br0 address 02:00:00:00:00:99", "has another MAC"),
        ("ip addr del 192.168.0.1/20 dev b9_br0", "lacks its address 192.168.0.1/20"),
        ("ip addr add 10.9.9.9/32 dev b9_br0", "has an unknown address 10.9.9.9/32"),
        ("ip link set b9_br0 alias theirs", "is not the one that cellwall made"),
        ("ip link del b9_br0", "is gone"),
    ],
)
def test_a_change_of_the_bridge_is_named(links: LinkLayer, node: Namespace, command: str, expected: str) -> None:
    links.ensure_bridge(NETWORK, ipv6=True, mtu=1500)
    assert links.bridge_differences(NETWORK, ipv6=True, mtu=1500) == ()
    node.run(command)
    assert links.bridge_differences(NETWORK, ipv6=True, mtu=1500) == (expected,)
    if "theirs" not in command:
        links.ensure_bridge(NETWORK, ipv6=True, mtu=1500)
        assert links.bridge_differences(NETWORK, ipv6=True, mtu=1500) == ()


def test_a_bridge_that_is_down_has_lost_more_than_that(links: LinkLayer, node: Namespace) -> None:
    links.ensure_bridge(NETWORK, ipv6=True, mtu=1500)
    node.run("ip link set b9_br0 down")
    assert "is down" in links.bridge_differences(NETWORK, ipv6=True, mtu=1500)
    links.ensure_bridge(NETWORK, ipv6=True, mtu=1500)
    assert links.bridge_differences(NETWORK, ipv6=True, mtu=1500) == ()


def test_a_port_is_rightly_disabled_while_its_link_or_the_bridge_is_down(
    links: LinkLayer, node: Namespace, attach: Callable[[int], PortPlan]
) -> None:
    plan = attach(7)
    node.run("ip link set b9_br0 down")
    assert all("neighbour" in line for line in links.port_differences([plan])[plan.host_index])
    node.run("ip link set b9_br0 up")
    links.relock_port(plan)
    node.run(f"ip link set {PORT} down")
    assert links.port_differences([plan]) == {}


def test_locking_a_port_that_is_down_leaves_it_to_be_opened(
    links: LinkLayer, node: Namespace, attach: Callable[[int], PortPlan]
) -> None:
    plan = attach(7)
    node.run(f"ip link set {PORT} down")
    links.relock_port(plan)
    links.open_port(plan.host_index)
    assert links.port_differences([plan]) == {}
    assert "state forwarding" in node.run(f"bridge link show dev {PORT}")


def test_one_that_stp_left_listening_forwards_when_it_is_locked_again(
    links: LinkLayer, node: Namespace, attach: Callable[[int], PortPlan]
) -> None:
    plan = attach(7)
    node.run("ip link set b9_br0 type bridge stp_state 1")
    node.run(f"ip link set {PORT} down")
    links.open_port(plan.host_index)
    links.relock_port(plan)  # which the kernel refuses a state while STP is on
    assert links.port_differences([plan])
    node.run("ip link set b9_br0 type bridge stp_state 0")
    ((line,),) = links.port_differences([plan]).values()
    assert "not forwarding" in line
    links.relock_port(plan)
    assert links.port_differences([plan]) == {}
