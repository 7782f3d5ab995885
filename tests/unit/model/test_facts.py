"""What a node adds to the floor: its addresses and whatever it reaches without a gateway, its own bridge left out."""

from ipaddress import ip_network

from cellwall.model.facts import InterfaceAddress, NodeFacts, OnLinkRoute, RoutedNetwork

NODE = NodeFacts(
    addresses=(
        InterfaceAddress("lo", "127.0.0.1/8"),
        InterfaceAddress("eth0", "93.184.216.10/24"),
        InterfaceAddress("eth0", "2606:2800:220:1::10/64"),
        InterfaceAddress("docker0", "172.17.0.1/16"),
        InterfaceAddress("b9_br0", "192.168.0.1/20"),
    ),
    on_link=(
        OnLinkRoute("eth0", "93.184.216.0/24"),
        OnLinkRoute("eth0", "2606:2800:220:1::/64"),
        OnLinkRoute("docker0", "172.17.0.0/16"),
        OnLinkRoute("ppp0", "0.0.0.0/0"),  # a default route without a gateway is the Internet, not a neighbourhood
        OnLinkRoute("ppp0", "::/0"),
        OnLinkRoute("b9_br0", "192.168.0.0/20"),
        OnLinkRoute("b9_br0", "fd00:abcd::/64"),
    ),
)


def test_addresses_and_networks_of_every_other_interface_are_own() -> None:
    assert set(NODE.own_prefixes("b9_br0", "eth0")) == {
        ip_network("127.0.0.1/32"),
        ip_network("93.184.216.10/32"),
        ip_network("2606:2800:220:1::10/128"),
        ip_network("172.17.0.1/32"),
        ip_network("93.184.216.0/24"),
        ip_network("2606:2800:220:1::/64"),
        ip_network("172.17.0.0/16"),
    }


def test_a_bridge_of_another_name_is_no_exemption() -> None:
    assert ip_network("192.168.0.0/20") in set(NODE.own_prefixes("b9_br1", "eth0"))


def test_routers_are_own_and_what_is_behind_them_only_by_the_uplink() -> None:
    node = NodeFacts(
        routers=(RoutedNetwork("eth0", "93.184.216.1/32"), RoutedNetwork("tun0", "203.0.114.1/32")),
        routed=(RoutedNetwork("eth0", "151.102.0.0/16"), RoutedNetwork("tun0", "151.103.0.0/16")),
    )
    routers = {ip_network("93.184.216.1/32"), ip_network("203.0.114.1/32")}
    assert set(node.own_prefixes("b9_br0", "eth0")) == {*routers, ip_network("151.102.0.0/16")}
    assert set(node.own_prefixes("b9_br0", "")) == routers
