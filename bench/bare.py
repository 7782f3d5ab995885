"""The base of the data plane's ratios: a bridge and masquerading, and not one rule that filters.

The same addresses, the same kind of links and the same NAT as the walled node has, since the lab's Internet answers
no private address. So what a ratio tells is what the wall costs, not what a bridge or a connection tracker does.
"""

from bench.crowd import add_crowd
from cellwall.lab import Host, Lab
from cellwall.lab.plain import PLAIN_BRIDGE, PlainBridge
from cellwall.model.network import Network


class NoFirewall:
    """Attaches as a script would; nobody times that."""

    name = "no firewall"
    samples_a_round = 1
    cycles_a_sample = 1

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._network = Network()
        self._bridge: PlainBridge | None = None

    def prepare(self) -> None:
        self._bridge = PlainBridge(self.lab.node, self._network, multicast_snooping=False)

    def attach(self, name: str, sandbox: Host) -> None:
        assert self._bridge is not None
        self._bridge.wire(sandbox, self._network.gateway4 + 1)

    def detach(self, name: str, sandbox: Host) -> None:
        assert self._bridge is not None
        self._bridge.unwire(sandbox)

    def populate(self, count: int) -> None:
        add_crowd(self.lab, PLAIN_BRIDGE, count)

    def close(self) -> None:
        """Nothing lives longer than a call."""
