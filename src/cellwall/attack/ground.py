"""The ground in a lab: a capture for everybody around the node, and a bridge port that somebody else put there."""

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
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

HIDDEN_PUBLIC = ("151.101.65.9", "2a04:4e42:65::9")
PROTECTED = ("151.101.129.0/24", "2a04:4e42:129::/64")
"""What the operator of the lab's node says of it: a public address behind a cloud's 1:1 translation, and a network."""


def places(hidden: tuple[str, str], protected: tuple[str, str]) -> dict[str, tuple[str, str]]:
    """What an operator says of a node, as addresses by name; "" for what is not said."""
    found = {"hidden-public": hidden}
    for name, number in (("protected", 9), ("protected-first", 0), ("protected-last", -1)):
        four, six = (str(ip_network(network)[number]) if network else "" for network in protected)
        found[name] = (four, six)
    return found


AROUND = {
    **places(HIDDEN_PUBLIC, PROTECTED),
    **{name: (addresses[4], addresses[6]) for name, addresses in at.AROUND.items()},
    "router": (at.INTERNET4, at.INTERNET6),
}


@contextmanager
def lab_world(
    lab: Lab, attacker: Seat, victim: Seat, gateway: Gateway, *, wall: "Wall | None" = None
) -> Iterator[World]:
    """The world of a lab in which somebody attached attacker and victim."""

    def sentinel(number: int) -> tuple[bytes, bytes]:
        token = b"<sentinel-%d>" % number
        body = frames.packet(attacker.ip4, SENTINEL_TARGET, "udp", token, sport=45000, dport=9)
        return frames.frame(attacker.mac, gateway.mac, body), token

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
    ground = Ground(lab.node, views, at.NODE4, at.NODE6, {"internet": sentinel}, AROUND)
    with World(ground, attacker, victim, gateway, frozenset({4, 6}), lab=lab, wall=wall) as world:
        yield world


def _foreign_port(lab: Lab, bridge: str) -> Host:
    """A host behind a bridge port that is not the wall's, with a name of its own."""
    guest = lab.sandbox("guest")
    peer = f"type veth peer name eth0 netns {guest.netns.name}"
    lab.node.ip([f"link add foreign0 {peer}", f"link set foreign0 master {bridge} up"])
    guest.run(["ip", "link", "set", "eth0", "up"])
    return guest


def _meet_neighbours(node: Host) -> None:
    """Have the node know its neighbours: a packet that waits for ARP would come after the sentinel."""
    others = (*at.LAN.values(), *at.INFRA.values(), *at.OTHER.values())
    for address in (at.INTERNET4, at.INTERNET6, *others):
        with node.enter():
            ping(node, address, timeout=0.5)


def _report_every_error(node: Host) -> None:
    """A probe whose vehicle is an error of the node's must not be silenced by those before it."""
    with node.enter():
        for name, value in _UNLIMITED.items():
            Path("/proc/sys", name).write_text(value)
