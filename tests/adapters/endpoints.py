"""Endpoints as the tests of links wire them."""

import socket

from cellwall.adapters.interfaces.links import LinkLayer
from cellwall.engine.contracts import LinkPlan, PortPlan, SandboxPlan
from cellwall.model.network import Network, default_mac

from .conftest import Namespace

NETWORK = Network()


class Attached:
    """An endpoint wired by hand, step by step as an attach does it."""

    def __init__(self, links: LinkLayer, sandbox: Namespace, number: int, *, ipv6: bool = True) -> None:
        self.sandbox = sandbox
        self.address4 = NETWORK.subnet4.network_address + number
        self.address6 = NETWORK.address6(self.address4) if ipv6 else None
        self.mac = default_mac(self.address4)
        self.name = f"b9h{number:012x}"
        bridge = links.ensure_bridge(NETWORK, ipv6=ipv6, mtu=1500)
        self.index = links.create_pair(LinkPlan(self.name, "eth0", self.mac, 1500, bridge), sandbox.fd)
        self.port = PortPlan(self.index, bridge, self.mac, self.address4, self.address6)

    def open(self, links: LinkLayer) -> "Attached":
        links.lock_port(self.port)
        links.configure_sandbox(self.plan(), self.sandbox.fd)
        links.open_port(self.index)
        return self

    def plan(self) -> SandboxPlan:
        gateway6 = None if self.address6 is None else NETWORK.gateway6
        return SandboxPlan("eth0", self.address4, 20, NETWORK.gateway4, NETWORK.bridge_mac, self.address6, 64, gateway6)

    def frame(self, destination: int, *, source: int | None = None, payload: bytes = b"") -> bytes:
        """A raw frame of a protocol that no stack answers."""
        mac = self.mac if source is None else source
        return destination.to_bytes(6, "big") + mac.to_bytes(6, "big") + b"\x88\xb5" + payload.ljust(50, b"\0")

    def inject(self, frame: bytes) -> None:
        with self.sandbox.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind(("eth0", 0))
            raw.send(frame)
