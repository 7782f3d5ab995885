"""The base of the data plane's ratios: a bridge and masquerading, and not one rule that filters.

The same addresses, the same kind of links and the same NAT as the walled node has, since the lab's Internet answers
no private address. So what a ratio tells is what the wall costs, not what a bridge or a connection tracker does.
"""

from bench.crowd import add_crowd
from cellwall.lab import Host, Lab
from cellwall.model.network import Network

_BRIDGE = "plain0"
_MASQUERADE = """
table inet plain {
    chain leave {
        type nat hook postrouting priority srcnat
        ip saddr %s oifname "eth0" masquerade
        ip6 saddr %s oifname "eth0" masquerade
    }
}
"""


class NoFirewall:
    """Attaches as a script would; nobody times that."""

    name = "no firewall"
    samples_a_round = 1
    cycles_a_sample = 1

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._network = Network()

    def prepare(self) -> None:
        network = self._network
        lines = [
            f"link add {_BRIDGE} type bridge mcast_snooping 0",
            f"address add {network.gateway4}/{network.subnet4.prefixlen} dev {_BRIDGE}",
            f"address add {network.gateway6}/{network.subnet6.prefixlen} dev {_BRIDGE} nodad",
            f"link set {_BRIDGE} up",
        ]
        self.lab.node.ip(lines)
        self.lab.node.run(["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"])
        text = _MASQUERADE % (network.subnet4, network.subnet6)
        self.lab.node.run(["nft", "-f", "-"], input=text.encode())

    def attach(self, name: str, sandbox: Host) -> None:
        network = self._network
        address4 = network.gateway4 + 1
        pair = f"link add plain1 master {_BRIDGE} up type veth peer name eth0 netns {sandbox.netns.name}"
        self.lab.node.ip([pair])
        inside = [
            "link set eth0 up",
            f"address add {address4}/{network.subnet4.prefixlen} dev eth0",
            f"address add {network.address6(address4)}/{network.subnet6.prefixlen} dev eth0 nodad",
            f"route add default via {network.gateway4}",
            f"route add default via {network.gateway6}",
        ]
        sandbox.ip(inside)

    def detach(self, name: str, sandbox: Host) -> None:
        self.lab.node.run(["ip", "link", "delete", "plain1"])

    def populate(self, count: int) -> None:
        add_crowd(self.lab, _BRIDGE, count)

    def close(self) -> None:
        """Nothing lives longer than a call."""
