"""The ground in a lab: a capture for everybody around the node, and a bridge port that somebody else put there."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cellwall.attack import frames
from cellwall.attack.observers import View
from cellwall.attack.probe import Place
from cellwall.attack.world import Gateway, Ground, Seat, World
from cellwall.lab import Host, Lab, ping
from cellwall.lab import addresses as at

if TYPE_CHECKING:
    from cellwall.api import Wall

SENTINEL_TARGET = "151.101.1.69"

_UNLIMITED = {
    "net/ipv4/icmp_ratelimit": "0",
    "net/ipv4/icmp_msgs_per_sec": "1000000",
    "net/ipv4/icmp_msgs_burst": "100000",
    "net/ipv6/icmp/ratelimit": "0",
}


@contextmanager
def lab_world(
    lab: Lab, attacker: Seat, victim: Seat, gateway: Gateway, *, wall: "Wall | None" = None
) -> Iterator[World]:
    """The world of a lab in which somebody attached attacker and victim."""

    def sentinel(token: bytes) -> bytes:
        body = frames.packet(attacker.ip4, SENTINEL_TARGET, "udp", token, sport=45000, dport=9)
        return frames.frame(attacker.mac, gateway.mac, body)

    views: dict[Place, View] = {
        "attacker": View(attacker.host, attacker.ifname),
        "victim": View(victim.host, victim.ifname),
        "guest": View(_foreign_port(lab, gateway.bridge), "eth0"),
        "internet": View(lab.internet, "eth0"),
        "lan": View(lab.lan, "eth0"),
        "infra": View(lab.infra, "eth0"),
        "other": View(lab.other, "eth0"),
        "bridge": View(lab.node, gateway.bridge),
    }
    _meet_neighbours(lab.node)
    _report_every_error(lab.node)
    ground = Ground(lab.node, views, at.NODE4, at.NODE6, {"internet": sentinel})
    with World(ground, attacker, victim, gateway, frozenset({4, 6}), lab=lab, wall=wall) as world:
        yield world


def _foreign_port(lab: Lab, bridge: str) -> Host:
    """A host behind a bridge port that is not the wall's, with a name of its own."""
    guest = lab.sandbox("guest")
    peer = f"type veth peer name eth0 netns {guest.netns.name}"
    lines = [f"link add foreign0 {peer}", f"link set foreign0 master {bridge} up"]
    lab.node.run(["ip", "-batch", "-"], input="".join(f"{line}\n" for line in lines).encode())
    guest.run(["ip", "link", "set", "eth0", "up"])
    return guest


def _meet_neighbours(node: Host) -> None:
    """Have the node know its neighbours: a packet that waits for ARP would come after the sentinel."""
    for address in (at.LAN4, at.INTERNET4, at.INFRA4, at.OTHER4, at.LAN6, at.INTERNET6, at.INFRA6, at.OTHER6):
        with node.enter():
            ping(node, address, timeout=0.5)


def _report_every_error(node: Host) -> None:
    """A probe whose vehicle is an error of the node's must not be silenced by those before it."""
    with node.enter():
        for name, value in _UNLIMITED.items():
            Path("/proc/sys", name).write_text(value)
