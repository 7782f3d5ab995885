"""A node without a wall: a bridge and masquerading, and not one rule that filters, as many hosts still have it.

The same addresses, the same kind of links and the same NAT as a walled node has: what differs is the wall.
"""

from ipaddress import IPv4Address, IPv6Address
from itertools import count

from cellwall.lab.host import Host
from cellwall.model.addresses import mac_text
from cellwall.model.network import Network

PLAIN_BRIDGE = "plain0"
_MASQUERADE = """
table inet plain {
    chain leave {
        type nat hook postrouting priority srcnat
        ip saddr %s oifname != %s masquerade
        ip6 saddr %s oifname != %s masquerade
    }
}
"""


class PlainBridge:
    """The bridge of a node. `multicast_snooping`: as the kernel has it by itself; a walled node's bridge does none."""

    def __init__(self, node: Host, network: Network, *, multicast_snooping: bool = True) -> None:
        self._node = node
        self._network = network
        self._links: dict[str, str] = {}
        self._numbers = count()
        # A bridge whose MAC nobody chose takes the lowest of its ports', and another one with every new port.
        mac, snooping = mac_text(network.bridge_mac), int(multicast_snooping)
        node.ip(
            [
                f"link add {PLAIN_BRIDGE} address {mac} type bridge mcast_snooping {snooping}",
                f"address add {network.gateway4}/{network.subnet4.prefixlen} dev {PLAIN_BRIDGE}",
                f"address add {network.gateway6}/{network.subnet6.prefixlen} dev {PLAIN_BRIDGE} nodad",
                f"link set {PLAIN_BRIDGE} up",
            ]
        )
        node.run(["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"])
        text = _MASQUERADE % (network.subnet4, PLAIN_BRIDGE, network.subnet6, PLAIN_BRIDGE)
        node.run(["nft", "-f", "-"], input=text.encode())

    def wire(
        self, host: Host, address4: IPv4Address, address6: IPv6Address | None = None, *, mac: int | None = None
    ) -> None:
        """A link to the host's namespace, there `eth0` with these addresses and the bridge as its way out. `address6`
        None: the one that belongs to `address4`."""
        network, link = self._network, f"plain-{next(self._numbers)}"
        own = f"address {mac_text(mac)} " if mac is not None else ""
        peer = f"type veth peer name eth0 {own}netns {host.netns.name}"
        self._node.ip([f"link add {link} master {PLAIN_BRIDGE} up {peer}"])
        self._links[host.name] = link
        host.ip(
            [
                "link set lo up",
                f"address add {address4}/{network.subnet4.prefixlen} dev eth0",
                f"address add {address6 or network.address6(address4)}/{network.subnet6.prefixlen} dev eth0 nodad",
                "link set eth0 up",
                f"route add default via {network.gateway4}",
                f"route add default via {network.gateway6}",
            ]
        )

    def unwire(self, host: Host) -> None:
        """Delete the host's link."""
        self._node.run(["ip", "link", "delete", self._links.pop(host.name)])
