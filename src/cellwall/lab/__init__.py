"""Throw-away worlds of network namespaces: a node, a hostile neighbour, an Internet, and real packets between
them.

    with Lab() as lab:
        web = lab.node.serve(tcp=[80])
        assert connect(lab.lan, NODE4, 80).data == b"node hello"

Nothing of a lab touches the machine's own network; `cellwall.lab.safety` refuses and verifies.
"""

from cellwall.lab.capture import Capture
from cellwall.lab.client import Answer, connect, ping
from cellwall.lab.host import Host
from cellwall.lab.services import Seen, Services
from cellwall.lab.world import Lab

__all__ = ["Answer", "Capture", "Host", "Lab", "Seen", "Services", "connect", "ping"]
