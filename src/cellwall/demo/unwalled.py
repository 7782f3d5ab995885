"""The same node without a wall: a plain bridge and masquerading, as many hosts still give their containers.

Everything has the addresses and MACs that it had behind the wall, so that the attempts are the same frames.
"""

import time

from cellwall.demo.servers import fetch
from cellwall.demo.town import Cast
from cellwall.errors import LabError
from cellwall.lab import Host
from cellwall.lab.addresses import PUBLIC4, PUBLIC6
from cellwall.lab.plain import PlainBridge
from cellwall.model.network import Network


def seat_without_wall(cast: Cast, network: Network) -> None:
    """Wire both tenants to a plain bridge of the node; returns when both reach the Internet."""
    bridge = PlainBridge(cast.town.lab.node, network)
    for seat in (cast.attacker, cast.victim):
        bridge.wire(seat.host, seat.address4, seat.address6, mac=seat.mac)
        _await_internet(seat.host)


def _await_internet(host: Host) -> None:
    deadline = time.monotonic() + 5
    # A veth carries when the kernel's link watcher has seen it, and nothing tells when that is.
    while not all(fetch(host, address, 80, timeout=0.2).text for address in (PUBLIC4[2], PUBLIC6[2])):
        if time.monotonic() > deadline:
            raise LabError(f"{host.name} does not reach the Internet without the wall")
