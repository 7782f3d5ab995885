"""Our bridge: recognised, corrected, never mistaken for somebody else's."""

from ipaddress import IPv4Address, IPv4Network

import msgspec
import pytest

from cellwall.adapters.interfaces.links import LinkLayer
from cellwall.errors import Conflict
from cellwall.model.addresses import mac_text
from cellwall.model.network import Network

from .conftest import Namespace

pytestmark = pytest.mark.root

NETWORK = Network()
DUAL_STACK = {"192.168.0.1/20", "fd00:abcd::1/64", "fe80::ff:fe00:1/64"}


def _state(node: Namespace) -> tuple[object, ...]:
    (link,) = node.json(f"ip -j -d link show dev {NETWORK.bridge}")
    settings = link["linkinfo"]["info_data"]
    names = ("stp_state", "mcast_snooping", "mcast_querier", "mcast_router", "group_fwd_mask", "vlan_filtering")
    return (
        link["address"],
        link["mtu"],
        link["ifalias"],
        "UP" in link["flags"],
        link["inet6_addr_gen_mode"],
        *(int(str(settings[name]), 0) for name in names),
    )


def test_bridge_is_up_silent_and_ours(links: LinkLayer, node: Namespace) -> None:
    index = links.ensure_bridge(NETWORK, ipv6=True, mtu=1400)
    found = links.find(NETWORK.bridge)
    assert found is not None
    assert (found.index, found.kind) == (index, "bridge")
    assert _state(node) == (mac_text(NETWORK.bridge_mac), 1400, "cellwall", True, "none", 0, 0, 0, 0, 0, 0)
    assert node.addresses(NETWORK.bridge) == DUAL_STACK


def test_no_address_of_the_bridge_is_ever_tentative(links: LinkLayer, node: Namespace) -> None:
    links.ensure_bridge(NETWORK, ipv6=True, mtu=1500)
    (shown,) = node.json(f"ip -j address show dev {NETWORK.bridge}")
    assert not [entry for entry in shown["addr_info"] if entry.get("tentative")]


def test_ensuring_twice_changes_nothing(links: LinkLayer, node: Namespace) -> None:
    first = links.ensure_bridge(NETWORK, ipv6=True, mtu=1500)
    before = node.run(f"ip -j -d address show dev {NETWORK.bridge}")
    assert links.ensure_bridge(NETWORK, ipv6=True, mtu=1500) == first
    after = node.run(f"ip -j -d address show dev {NETWORK.bridge}")
    # The collector's timer runs on by itself.
    assert _without_timer(before) == _without_timer(after)


def test_what_was_changed_underneath_is_set_right(links: LinkLayer, node: Namespace) -> None:
    links.ensure_bridge(NETWORK, ipv6=True, mtu=1500)
    right = _state(node)
    for command in (
        "ip link set dev b9_br0 down mtu 1300 address 02:00:00:00:00:77",
        "ip link set dev b9_br0 type bridge stp_state 1 mcast_snooping 1 group_fwd_mask 8",
        "ip address flush dev b9_br0",
        "ip address add 10.1.2.3/24 dev b9_br0",
    ):
        node.run(command)
    links.ensure_bridge(NETWORK, ipv6=True, mtu=1500)
    assert _state(node) == right
    assert node.addresses(NETWORK.bridge) == DUAL_STACK


def test_another_subnet_replaces_the_gateway_address(links: LinkLayer, node: Namespace) -> None:
    links.ensure_bridge(NETWORK, ipv6=False, mtu=1500)
    moved = msgspec.structs.replace(NETWORK, subnet4=IPv4Network("10.88.0.0/16"), gateway4=IPv4Address("10.88.0.1"))
    links.ensure_bridge(moved, ipv6=False, mtu=1500)
    assert node.addresses(NETWORK.bridge) == {"10.88.0.1/16"}


def test_without_ipv6_the_bridge_has_none_at_all(links: LinkLayer, node: Namespace) -> None:
    links.ensure_bridge(NETWORK, ipv6=True, mtu=1500)
    links.ensure_bridge(NETWORK, ipv6=False, mtu=1500)
    assert node.addresses(NETWORK.bridge) == {"192.168.0.1/20"}
    assert node.run("sysctl -n net.ipv6.conf.b9_br0.disable_ipv6").strip() == "1"
    links.ensure_bridge(NETWORK, ipv6=True, mtu=1500)
    assert node.addresses(NETWORK.bridge) == DUAL_STACK


@pytest.mark.parametrize(
    "command",
    ["ip link add b9_br0 type bridge", "ip link add b9_br0 type veth peer name other"],
    ids=["bridge", "veth"],
)
def test_a_foreign_link_of_that_name_is_refused_and_untouched(links: LinkLayer, node: Namespace, command: str) -> None:
    node.run(command)
    before = node.run("ip -j address show dev b9_br0")
    with pytest.raises(Conflict):
        links.ensure_bridge(NETWORK, ipv6=True, mtu=1500)
    with pytest.raises(Conflict):
        links.delete_bridge(NETWORK)
    assert node.run("ip -j address show dev b9_br0") == before


def test_a_bridge_whose_maker_was_killed_before_it_was_named_is_finished(links: LinkLayer, node: Namespace) -> None:
    node.run("ip link add b9_br0 group 184 type bridge")
    links.ensure_bridge(NETWORK, ipv6=True, mtu=1500)
    found = links.find(NETWORK.bridge)
    assert found is not None
    assert (found.alias, found.group, found.up) == ("cellwall", 0, True)


def test_deleting_tolerates_absence(links: LinkLayer) -> None:
    links.delete_bridge(NETWORK)
    links.ensure_bridge(NETWORK, ipv6=True, mtu=1500)
    links.delete_bridge(NETWORK)
    assert links.find(NETWORK.bridge) is None


def _without_timer(shown: str) -> object:
    (link,) = msgspec.json.decode(shown)
    link["linkinfo"]["info_data"].pop("gc_timer")
    return link
