"""Who is measured, each on a lab node of its own and in the way its users call it.

`attach` and `detach` are what the clock sees. Everybody's node starts empty: bridges, chains and tables that a
contestant makes at its first call are part of that call, and the first call is not among the samples.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import msgspec

from bench.crowd import add_crowd, multiply_rules, populate_ipam
from cellwall.api import AttachRequest, Wall
from cellwall.cni.install import PLUGIN, install
from cellwall.lab import Host, Lab
from cellwall.model.settings import Settings
from cellwall.wire.bodies import MAX_BATCH

CNI_PLUGINS = "/usr/lib/cni"
NETAVARK = "/usr/lib/podman/netavark"
_SUBNET4, _SUBNET6 = "10.88.0.0/16", "fd00:88::/64"
_VERSION = "1.0.0"


class Contestant(Protocol):
    """A network layer under test. `samples_a_round`: the quick ones are asked more often; `cycles_a_sample`: how many
    attaches and detaches one after the other make one sample."""

    name: str
    lab: Lab
    samples_a_round: int
    cycles_a_sample: int

    def prepare(self) -> None:
        """What an operator does once per boot; not timed."""

    def attach(self, name: str, sandbox: Host) -> None:
        """Attach; called with the thread inside the node's namespace."""

    def detach(self, name: str, sandbox: Host) -> None:
        """Detach; likewise."""

    def populate(self, count: int) -> None:
        """Bring the node to `count` attached containers, beside those that are there."""

    def close(self) -> None:
        """Let go of everything but the lab."""


class InProcess:
    """`Wall.attach` in a long-lived process."""

    name = "cellwall, in process"
    samples_a_round = 5
    cycles_a_sample = 200  # beyond the number of closed endpoints whose links are deleted together
    settings: Settings | None = None

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        with lab.node.enter():
            self._wall = Wall.open(root=lab.root, settings=self.settings)

    def prepare(self) -> None:
        with self.lab.node.enter():
            self._wall.up()

    def attach(self, name: str, sandbox: Host) -> None:
        self._wall.attach(name, netns=sandbox.netns)

    def detach(self, name: str, sandbox: Host) -> None:
        self._wall.detach(name)

    def populate(self, count: int) -> None:
        _attach_crowd(self.lab, self._wall, count)

    def close(self) -> None:
        self._wall.close()


class InIptables(InProcess):
    """The same with the wall in iptables-nft and ipset."""

    name = "cellwall, iptables-nft"
    settings = Settings(backend="iptables", iptables="nft")


class InLegacyIptables(InProcess):
    """The same with the wall in iptables-legacy and ipset."""

    name = "cellwall, iptables-legacy"
    settings = Settings(backend="iptables", iptables="legacy")


class Plugin:
    """The `cellwall-cni` executable, a fresh process per call."""

    name = "cellwall-cni"
    samples_a_round = 3
    cycles_a_sample = 10

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        directory = lab.root / "bin"
        install(str(directory), str(lab.root / "conf"), root=str(lab.root))
        self._conf = {"cniVersion": _VERSION, "name": "bench", "type": PLUGIN, "root": str(lab.root)}
        self._directory = str(directory)

    def prepare(self) -> None:
        with self.lab.node.enter(), Wall.open(root=self.lab.root) as wall:
            wall.up()

    def attach(self, name: str, sandbox: Host) -> None:
        _call_plugin(self.lab, self._directory, self._conf, "ADD", name, sandbox)

    def detach(self, name: str, sandbox: Host) -> None:
        _call_plugin(self.lab, self._directory, self._conf, "DEL", name, sandbox)

    def populate(self, count: int) -> None:
        with self.lab.node.enter(), Wall.open(root=self.lab.root) as wall:
            _attach_crowd(self.lab, wall, count)

    def close(self) -> None:
        """Nothing lives longer than a call."""


class ReferenceChain:
    """bridge + portmap + firewall of the CNI project, one process each, as libcni calls them."""

    name = "CNI bridge+portmap+firewall"
    samples_a_round = 1
    cycles_a_sample = 5

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        ipam = {
            "type": "host-local",
            "dataDir": str(lab.root / "ipam"),
            "ranges": [[{"subnet": _SUBNET4}], [{"subnet": _SUBNET6}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        }
        self._confs: list[dict[str, Any]] = [
            {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True, "ipam": ipam},
            {"type": "portmap", "capabilities": {"portMappings": True}},
            {"type": "firewall"},
        ]
        self._results: dict[str, Any] = {}

    def prepare(self) -> None:
        """Nothing: the plugins have no notion of a node."""

    def attach(self, name: str, sandbox: Host) -> None:
        result: Any = None
        for conf in self._confs:
            result = self._call(conf, "ADD", name, sandbox, result)
        self._results[name] = result

    def detach(self, name: str, sandbox: Host) -> None:
        result = self._results.pop(name)
        for conf in reversed(self._confs):
            self._call(conf, "DEL", name, sandbox, result)

    def populate(self, count: int) -> None:
        seed, (name, result) = self.lab.node, next(iter(self._results.items()))
        own = [entry["address"].split("/")[0] for entry in result["ips"]]
        add_crowd(self.lab, "cni0", count)
        multiply_rules(seed, name, own, count)
        populate_ipam(self.lab.root / "ipam" / "bench", count)

    def close(self) -> None:
        """Nothing lives longer than a call."""

    def _call(self, conf: Mapping[str, Any], command: str, name: str, sandbox: Host, previous: Any) -> Any:
        whole = {"cniVersion": _VERSION, "name": "bench", **conf}
        if previous is not None:
            whole["prevResult"] = previous
        return _call_plugin(self.lab, CNI_PLUGINS, whole, command, name, sandbox)


class Netavark:
    """Podman's network layer: one process per call, nftables driver, no name server."""

    name = "netavark"
    samples_a_round = 1
    cycles_a_sample = 5

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._directory = str(lab.root / "netavark")
        os.mkdir(self._directory)
        self._requests: dict[str, bytes] = {}
        self._issued = 0

    def prepare(self) -> None:
        """Nothing: it has no notion of a node."""

    def attach(self, name: str, sandbox: Host) -> None:
        # Podman is its address pool; a counter is cheaper than whatever Podman does.
        self._issued += 1
        request = self._requests[name] = _netavark_request(name, self._issued)
        self._call("setup", sandbox, request)

    def detach(self, name: str, sandbox: Host) -> None:
        self._call("teardown", sandbox, self._requests.pop(name))

    def populate(self, count: int) -> None:
        # Its rules are per network as long as no port is published: a container more is a bridge port more.
        add_crowd(self.lab, "podman0", count)

    def close(self) -> None:
        """Nothing lives longer than a call."""

    def _call(self, command: str, sandbox: Host, request: bytes) -> None:
        argv = [NETAVARK, "--config", self._directory, command, str(sandbox.netns)]
        self.lab.node.run(argv, input=request, env={"NETAVARK_FW": "nftables"}, timeout=30)


def missing(contestant: type[Contestant]) -> str:
    """What this machine lacks to measure it; empty: nothing."""
    needed = {ReferenceChain.name: f"{CNI_PLUGINS}/bridge", Netavark.name: NETAVARK}.get(contestant.name)
    return needed if needed is not None and not os.access(needed, os.X_OK) else ""


def batches(lab: Lab, count: int) -> Iterator[list[AttachRequest]]:
    """Requests for so many new sandboxes, in lists of what one call takes."""
    sandboxes = lab.sandboxes([f"crowd{number}" for number in range(count)])
    requests = [AttachRequest(host.name, netns=str(host.netns)) for host in sandboxes]
    for first in range(0, count, MAX_BATCH):
        yield requests[first : first + MAX_BATCH]


def _attach_crowd(lab: Lab, wall: Wall, count: int) -> None:
    for batch in batches(lab, count):
        with lab.node.enter():
            wall.attach_many(batch)


def _call_plugin(lab: Lab, directory: str, conf: Mapping[str, Any], command: str, name: str, sandbox: Host) -> Any:
    environment = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": name,
        "CNI_NETNS": str(sandbox.netns),
        "CNI_IFNAME": "eth0",
        "CNI_PATH": directory,
    }
    argv = [f"{directory}/{conf['type']}"]
    done = lab.node.run(argv, input=msgspec.json.encode(conf), env=environment, timeout=30)
    return msgspec.json.decode(done.stdout) if done.stdout.strip() else None


def _netavark_request(name: str, number: int) -> bytes:
    host = number + 1  # .1 is the gateway
    subnets = [{"subnet": _SUBNET4, "gateway": "10.88.0.1"}, {"subnet": _SUBNET6, "gateway": "fd00:88::1"}]
    network = {
        "name": "podman",
        "id": "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9",
        "driver": "bridge",
        "network_interface": "podman0",
        "subnets": subnets,
        "ipv6_enabled": True,
        "internal": False,
        "dns_enabled": False,
        "ipam_options": {"driver": "host-local"},
    }
    addresses = [f"10.88.{host >> 8}.{host & 255}", f"fd00:88::{host:x}"]
    return msgspec.json.encode(
        {
            "container_id": name,
            "container_name": name,
            "networks": {"podman": {"interface_name": "eth0", "static_ips": addresses}},
            "network_info": {"podman": network},
            "port_mappings": [],
        }
    )
