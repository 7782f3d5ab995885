"""Stages for the same frames against somebody else: what today's hosts give their containers.

Everybody gets the addresses that cellwall's containers have, the same two sandboxes and the same published ports, and
is called the way its users call it.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from cellwall.adapters import process
from cellwall.attack.ground import lab_world
from cellwall.attack.stage import PUBLISHED, PUBLISHED_TO, Stage
from cellwall.attack.world import Gateway, Seat
from cellwall.errors import LabError, Unsupported
from cellwall.lab import Host, Lab
from cellwall.lab.plain import PLAIN_BRIDGE, PlainBridge
from cellwall.model.network import Network

CNI_PLUGINS = "/usr/lib/cni"
NETAVARK = "/usr/lib/podman/netavark"
_SUBNET4, _SUBNET6 = "192.168.0.0/20", "fd00:abcd::/64"
_GATEWAY4, _GATEWAY6 = "192.168.0.1", "fd00:abcd::1"
_PROTOCOLS = ("tcp", "udp")

Attach = Callable[[Host, bool], None]
"""Attach a sandbox, with the published ports or without."""


class Peer(NamedTuple):
    """Somebody else's network layer. `layer`: how it attaches on the node of a lab; `needs`: a program."""

    bridge: str
    layer: Callable[[Lab], Attach]
    needs: str
    version: Callable[[], str]


@contextmanager
def _stage(peer: Peer) -> Iterator[Stage]:
    if peer.needs and not os.access(peer.needs, os.X_OK):
        raise Unsupported(f"{peer.needs} is not installed")
    with Lab() as lab:
        attacker, victim = lab.sandboxes(["attacker", "victim"])
        attach = peer.layer(lab)

        def seated(host: Host, *, published: bool = False) -> Seat:
            attach(host, published)
            return _seat(lab.node, peer.bridge, host)

        seats = (seated(attacker), seated(victim, published=True))
        _await_addresses(lab.node, attacker, victim)
        # A neighbour entry younger than a second does not move: a matter of timing, no protection.
        _write(lab.node, f"ipv4/neigh/{peer.bridge}/locktime", "0")
        with lab_world(lab, *seats, _gateway(lab.node, peer.bridge)) as world:
            yield Stage(lab, world, seated)


def _await_addresses(*hosts: Host, timeout: float = 30.0) -> None:
    """Wait for the end of duplicate address detection: nobody is said to drop what could not arrive yet."""
    deadline = time.monotonic() + timeout
    for host in hosts:
        while host.run(["ip", "-6", "address", "show", "tentative"]).stdout.strip():
            if time.monotonic() > deadline:
                raise LabError(f"{host.name}: an IPv6 address stays tentative for {timeout:g} s")
            time.sleep(0.05)  # the kernel tells nobody when an address becomes usable but a netlink listener


def _seat(node: Host, bridge: str, host: Host) -> Seat:
    ip4, ip6, *_ = host.addresses("eth0")
    mac = host.mac("eth0")
    entries = _show(node, "bridge", "fdb", "show", "br", bridge)
    ports = [entry["ifname"] for entry in entries if entry["mac"] == mac]
    return Seat(host=host, mac=mac, ip4=ip4, ip6=ip6, port=ports[0] if ports else "")


def _gateway(node: Host, bridge: str) -> Gateway:
    addresses = node.addresses(bridge)
    link_local = next(address for address in addresses if address.startswith("fe80"))
    return Gateway(bridge=bridge, mac=node.mac(bridge), ip4=_GATEWAY4, ip6=_GATEWAY6, link_local=link_local)


def _show(node: Host, program: str, *argv: str) -> list[dict[str, Any]]:
    done = node.run([program, "-json", *argv])
    return msgspec.json.decode(done.stdout or b"[]", type=list[dict[str, Any]])


def _write(node: Host, name: str, value: str) -> None:
    with node.enter():
        Path("/proc/sys/net", name).write_text(value)


# ---------------------------------------------------------------- the reference plugins of CNI


def _reference_chain(lab: Lab) -> Attach:
    """bridge, portmap and firewall, one process each, as libcni calls them."""
    ipam = {
        "type": "host-local",
        "dataDir": str(lab.root / "ipam"),
        "ranges": [[{"subnet": _SUBNET4, "gateway": _GATEWAY4}], [{"subnet": _SUBNET6, "gateway": _GATEWAY6}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
    }
    mappings = [{"hostPort": PUBLISHED, "containerPort": PUBLISHED_TO, "protocol": name} for name in _PROTOCOLS]
    chain: list[dict[str, Any]] = [
        {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True, "ipam": ipam},
        {"type": "portmap", "capabilities": {"portMappings": True}},
        {"type": "firewall"},
    ]

    def attach(host: Host, published: bool) -> None:
        result: Any = None
        for plugin in chain:
            request = {"cniVersion": "1.0.0", "name": "net", **plugin}
            if result is not None:
                request["prevResult"] = result
            if published and plugin["type"] == "portmap":
                request["runtimeConfig"] = {"portMappings": mappings}
            result = _call_plugin(lab.node, request, host)

    return attach


def _call_plugin(node: Host, request: Mapping[str, Any], host: Host) -> Any:
    environment = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": host.name,
        "CNI_NETNS": str(host.netns),
        "CNI_IFNAME": "eth0",
        "CNI_PATH": CNI_PLUGINS,
    }
    argv = [f"{CNI_PLUGINS}/{request['type']}"]
    done = node.run(argv, input=msgspec.json.encode(request), env=environment, timeout=30)
    return msgspec.json.decode(done.stdout)


def _cni_version() -> str:
    # Debian's build does not know its own version.
    query = ["dpkg-query", "--show", "--showformat", "${Version}", "containernetworking-plugins"]
    if process.find_program("dpkg-query") is not None and (packaged := process.run(query, check=False).text.strip()):
        return packaged
    return process.run([f"{CNI_PLUGINS}/bridge", "--version"], check=False).stderr.decode().partition("\n")[0]


# ---------------------------------------------------------------- netavark


def _netavark(lab: Lab) -> Attach:
    """Podman's network layer; nftables, no name server."""
    directory = lab.root / "netavark"
    directory.mkdir()
    numbers = iter(range(2, 4095))  # Podman itself is its address pool

    def attach(host: Host, published: bool) -> None:
        request = msgspec.json.encode(_netavark_request(host.name, next(numbers), published))
        argv = [NETAVARK, "--config", str(directory), "setup", str(host.netns)]
        lab.node.run(argv, input=request, env={"NETAVARK_FW": "nftables"}, timeout=30)

    return attach


def _netavark_version() -> str:
    return process.run([NETAVARK, "--version"]).text.strip()


def _netavark_request(name: str, number: int, published: bool) -> dict[str, Any]:
    network = {
        "name": "podman",
        "id": "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9",
        "driver": "bridge",
        "network_interface": "podman0",
        "subnets": [{"subnet": _SUBNET4, "gateway": _GATEWAY4}, {"subnet": _SUBNET6, "gateway": _GATEWAY6}],
        "ipv6_enabled": True,
        "internal": False,
        "dns_enabled": False,
        "ipam_options": {"driver": "host-local"},
    }
    ports = [
        {"host_ip": "", "host_port": PUBLISHED, "container_port": PUBLISHED_TO, "protocol": protocol, "range": 1}
        for protocol in _PROTOCOLS
    ]
    addresses = [f"192.168.{number >> 8}.{number & 255}", f"fd00:abcd::{number:x}"]
    return {
        "container_id": name,
        "container_name": name,
        "networks": {"podman": {"interface_name": "eth0", "static_ips": addresses}},
        "network_info": {"podman": network},
        "port_mappings": ports if published else [],
    }


# ---------------------------------------------------------------- nothing but a bridge and NAT

_PUBLISH = """
table inet published {
  chain publish {
    fib daddr type local meta nfproto ipv4 meta l4proto { tcp, udp } th dport 8080 dnat ip to VICTIM4:80
    fib daddr type local meta nfproto ipv6 meta l4proto { tcp, udp } th dport 8080 dnat ip6 to [VICTIM6]:80
  }
  chain in { type nat hook prerouting priority dstnat; jump publish; }
  chain own { type nat hook output priority dstnat; jump publish; }
}
"""


def _plain_bridge(lab: Lab) -> Attach:
    """A bridge, masquerading and published ports, and no filter at all."""
    network = Network()
    bridge, numbers = PlainBridge(lab.node, network), iter(range(1, 255))

    def attach(host: Host, published: bool) -> None:
        ip4 = network.gateway4 + next(numbers)
        ip6 = network.address6(ip4)
        if published:
            text = _PUBLISH.replace("VICTIM4", str(ip4)).replace("VICTIM6", str(ip6))
            lab.node.run(["nft", "-f", "-"], input=text.encode())
        bridge.wire(host, ip4, ip6)

    return attach


# ---------------------------------------------------------------- all of them

PEERS: Mapping[str, Peer] = {
    "cni": Peer(
        "cni0", _reference_chain, f"{CNI_PLUGINS}/bridge", lambda: f"CNI bridge+portmap+firewall {_cni_version()}"
    ),
    "netavark": Peer("podman0", _netavark, NETAVARK, _netavark_version),
    "none": Peer(PLAIN_BRIDGE, _plain_bridge, "", lambda: "a plain bridge with NAT"),
}


def peer_stage(name: str) -> AbstractContextManager[Stage]:
    """A lab whose node gives its containers what that peer gives them; Unsupported where it is not installed."""
    return _stage(PEERS[name])


def peer_version(name: str) -> str:
    """What is attacked, with its version."""
    return PEERS[name].version()
