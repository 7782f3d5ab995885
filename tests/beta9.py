"""A lab node as beta9's own networking leaves it: bridge, pairs, accepts, published ports."""

from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import NamedTuple

from cellwall.lab import Lab
from cellwall.lab.host import Host
from cellwall.model.network import Network

NETWORK = Network()


class Shape(NamedTuple):
    """Two generations of it: the names of links, the bridge's addresses, the first container's number."""

    veth: str
    gateway4: str
    prefixlen: int
    first: int
    namespaced: bool
    program: str = "iptables-nft"


NEW = Shape("b9h", "192.168.0.1", 20, 2, namespaced=True)
OLD = Shape("b9_veth_h_", "192.168.1.1", 24, 0x102, namespaced=False)
LEGACY = NEW._replace(program="iptables-legacy")


class Container(NamedTuple):
    host: Host
    name: str
    veth: str
    address4: str
    address6: str


def leave_beta9(lab: Lab, shape: Shape, count: int = 2) -> list[Container]:
    """What is on the node when beta9's worker was there and `count` containers run."""
    node = lab.node
    node.ip(
        [
            "link add b9_br0 address 02:b9:b9:b9:b9:b9 type bridge",
            "link set b9_br0 up",
            f"address add {shape.gateway4}/{shape.prefixlen} dev b9_br0",
            "address add fd00:abcd::1/64 dev b9_br0 nodad",
        ]
    )
    node.run(["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"])
    subnet = "192.168.0.0/20" if shape.prefixlen == 20 else "192.168.1.0/24"
    for version, source in ((4, subnet), (6, "fd00:abcd::/64")):
        rule(lab, shape, version, f"-t nat -A POSTROUTING -s {source} -o eth0 -j MASQUERADE")
        rule(lab, shape, version, "-I FORWARD 1 -i b9_br0 -o eth0 -j ACCEPT")
        rule(lab, shape, version, "-I FORWARD 1 -i eth0 -o b9_br0 -j ACCEPT")
    return [run_container(lab, shape, number) for number in range(shape.first, shape.first + count)]


def run_container(lab: Lab, shape: Shape, number: int) -> Container:
    """One container of beta9's: a pair, addresses and routes."""
    host = lab.sandbox(f"job-{number}")
    name = host.netns.name
    address4 = str(IPv4Address(int(NETWORK.subnet4.network_address) + number))
    address6 = f"fd00:abcd::{number if shape.prefixlen == 20 else number & 0xFF:x}"
    veth = f"{shape.veth}{number:05x}"
    inner = f"b9_veth_c_{number:05x}"
    lab.node.ip(
        [
            f"link add {veth} type veth peer name {inner} netns {name}",
            f"link set {veth} master b9_br0",
            f"link set {veth} up",
        ]
    )
    host.ip(
        [
            "link set lo up",
            f"link set {inner} up",
            f"address add {address4}/{shape.prefixlen} dev {inner}",
            f"address add {address6}/64 dev {inner} nodad",
            f"route add default via {shape.gateway4} dev {inner}",
            f"route add default via fd00:abcd::1 dev {inner}",
        ]
    )
    return Container(host, name, veth, address4, address6)


def publish(lab: Lab, shape: Shape, container: Container, host_port: int, port: int) -> None:
    """As its worker publishes a port."""
    comment = f"{container.veth}:{container.name}" + f":{container.name}" * shape.namespaced
    note = f'-m comment --comment "{comment}"'
    for version, address, target in (
        (4, container.address4, f"{container.address4}:{port}"),
        (6, container.address6, f"[{container.address6}]:{port}"),
    ):
        dnat = f"-p tcp --dport {host_port} -j DNAT --to-destination {target} {note}"
        rule(lab, shape, version, f"-t nat -I PREROUTING 1 {dnat}")
        rule(lab, shape, version, f"-A FORWARD -p tcp -d {address} --dport {port} -j ACCEPT {note}")


def rule(lab: Lab, shape: Shape, version: int, text: str) -> None:
    program = shape.program if version == 4 else shape.program.replace("ip", "ip6", 1)
    lab.node.run(["sh", "-ec", f"{program} --wait 10 {text}"])


def rules_of(lab: Lab, shape: Shape) -> Sequence[str]:
    """All rules that iptables has, both families."""
    return [
        line
        for program in (shape.program, shape.program.replace("ip", "ip6", 1))
        for line in lab.node.run([f"{program}-save"]).text.splitlines()
        if line.startswith("-A")
    ]
