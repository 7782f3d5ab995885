"""The same node without a wall: a plain bridge and masquerading, as many hosts still give their containers.

Everything has the addresses and MACs that it had behind the wall, so that the attempts are the same frames.
"""

import time
from pathlib import Path

from cellwall.demo.servers import fetch
from cellwall.demo.town import Cast, Seat
from cellwall.errors import LabError
from cellwall.lab.addresses import PUBLIC4, PUBLIC6
from cellwall.model.addresses import mac_text
from cellwall.model.network import Network

_BRIDGE = "plain0"
_MASQUERADE = """
table ip plain { chain nat { type nat hook postrouting priority srcnat; oifname != "plain0" masquerade; }; }
table ip6 plain { chain nat { type nat hook postrouting priority srcnat; oifname != "plain0" masquerade; }; }
"""


def seat_without_wall(cast: Cast, network: Network) -> None:
    """Wire both tenants to a plain bridge of the node; returns when both reach the Internet."""
    node = cast.town.lab.node
    seats = (cast.attacker, cast.victim)
    lines = [
        f"link add {_BRIDGE} address {mac_text(network.bridge_mac)} type bridge",
        f"address add {network.gateway4}/{network.subnet4.prefixlen} dev {_BRIDGE}",
        f"address add {network.gateway6}/{network.subnet6.prefixlen} dev {_BRIDGE} nodad",
        f"link set {_BRIDGE} up",
    ]
    for number, seat in enumerate(seats):
        peer = f"name eth0 address {mac_text(seat.mac)} netns {seat.host.netns.name}"
        lines.append(f"link add plain-{number} master {_BRIDGE} type veth peer {peer}")
        lines.append(f"link set plain-{number} up")
    node.ip(lines)
    node.run(["nft", "-f", "-"], input=_MASQUERADE.encode())
    with node.enter():
        for setting in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            Path("/proc/sys/net", setting).write_text("1")
    for seat in seats:
        _settle_in(seat, network)


def _settle_in(seat: Seat, network: Network) -> None:
    lines = [
        "link set lo up",
        f"address add {seat.address4}/{network.subnet4.prefixlen} dev eth0",
        f"address add {seat.address6}/{network.subnet6.prefixlen} dev eth0 nodad",
        "link set eth0 up",
        f"route add default via {network.gateway4}",
        f"route add default via {network.gateway6}",
    ]
    seat.host.ip(lines)
    deadline = time.monotonic() + 5
    # A veth carries when the kernel's link watcher has seen it, and nothing tells when that is.
    while not all(fetch(seat.host, address, 80, timeout=0.2).text for address in (PUBLIC4[2], PUBLIC6[2])):
        if time.monotonic() > deadline:
            raise LabError(f"{seat.host.name} does not reach the Internet without the wall")
