"""Where the attack takes place: attacker, victim, node and the world around, and what each of them sees.

Owns: the observers (a capture on every host's link, sockets of every protocol on the node) and the sentinel. All
frames of a volley go out in one go and the sentinel after them: a legitimate packet that crosses the node, by at
least as many links as any probe can take, from the same CPU. What had not been seen when the sentinel arrived, does
not arrive.
"""

import itertools
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from ipaddress import IPv6Address, IPv6Network
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgspec

from cellwall.attack import frames
from cellwall.attack.observers import Observers, Sight
from cellwall.attack.probe import Place, Shot, Volley
from cellwall.lab import Host, Lab

if TYPE_CHECKING:
    from cellwall.api import Wall

SENTINEL_TARGET = "151.101.1.69"


class Seat(msgspec.Struct, frozen=True):
    """A container: its host, what it was given, and the name of the node's end of its link."""

    host: Host
    mac: str
    ip4: str
    ip6: str
    port: str
    ifname: str = "eth0"

    def ip(self, family: int) -> str:
        """Its address of a family."""
        return self.ip4 if family == 4 else self.ip6


class Gateway(msgspec.Struct, frozen=True):
    """The node as containers see it."""

    bridge: str
    mac: str
    ip4: str
    ip6: str
    link_local: str

    def ip(self, family: int) -> str:
        """Its address of a family."""
        return self.ip4 if family == 4 else self.ip6


class World:
    """A lab with an attacker and a victim that somebody attached."""

    def __init__(
        self,
        lab: Lab,
        attacker: Seat,
        victim: Seat,
        gateway: Gateway,
        families: frozenset[int],
        wall: "Wall | None" = None,
    ) -> None:
        self.lab, self.wall = lab, wall
        self.attacker, self.victim, self.gateway = attacker, victim, gateway
        self.families = families
        self.guest = lab.sandbox("guest")
        self._numbers = itertools.count(1)
        self._senders: dict[Place, socket.socket] = {}
        self._shots: dict[str, tuple[Shot, ...]] = {}
        self._links: dict[Place, tuple[Host, str]] = {
            "attacker": (attacker.host, attacker.ifname),
            "victim": (victim.host, victim.ifname),
            "guest": (self.guest, "eth0"),
            "internet": (lab.internet, "eth0"),
            "lan": (lab.lan, "eth0"),
            "infra": (lab.infra, "eth0"),
            "other": (lab.other, "eth0"),
            "bridge": (lab.node, gateway.bridge),
        }
        self._put_guest_on_bridge()
        self.warm_up()
        self.observers = Observers(lab.node, self._links)

    def _put_guest_on_bridge(self) -> None:
        """A port that somebody else put on the bridge, with a name of its own."""
        self.lab.node.run(
            ["ip", "link", "add", "foreign0", "type", "veth", "peer", "name", "eth0", "netns", self.guest.netns.name]
        )
        self.lab.node.run(["ip", "link", "set", "foreign0", "master", self.gateway.bridge, "up"])
        self.guest.run(["ip", "link", "set", "eth0", "up"])

    @property
    def guest_mac(self) -> str:
        """The MAC behind the foreign bridge port."""
        return self.guest.mac("eth0")

    def warm_up(self) -> None:
        """Have the node know its neighbours: a packet that waits for ARP would come after the sentinel."""
        from cellwall.lab import addresses as at

        for address in (at.LAN4, at.INTERNET4, at.INFRA4, at.OTHER4, at.LAN6, at.INTERNET6, at.INFRA6, at.OTHER6):
            with self.lab.node.enter():
                _poke(self.lab.node, address)

    def shots(self, probe: Volley) -> tuple[Shot, ...]:
        """The frames of a probe, made once: every run of it sends the identical ones."""
        if probe.id not in self._shots:
            self._shots[probe.id] = tuple(probe.shots(self, probe.token))
        return self._shots[probe.id]

    def fire(self, shots: Iterable[Shot]) -> Sight:
        """Send all frames, in order, and the sentinel; what everybody saw until it arrived."""
        self.observers.discard()
        for origin, group in itertools.groupby(shots, key=lambda shot: shot.origin):
            self.inject(origin, [shot.frame for shot in group])
        return self.settle()

    def inject(self, origin: Place, raw: Sequence[bytes]) -> None:
        """Send frames out of somebody's link, without waiting for anything."""
        host, ifname = self._links[origin]
        if origin not in self._senders:
            # Kept: the kernel waits out a grace period whenever a packet socket is closed.
            self._senders[origin] = host.socket(socket.AF_PACKET, socket.SOCK_RAW)
            self._senders[origin].bind((ifname, 0))
        with one_cpu():
            for data in raw:
                self._senders[origin].send(data)

    def settle(self) -> Sight:
        """Send the sentinel; what everybody saw from the last `discard` until it arrived."""
        token = b"<sentinel-%d>" % next(self._numbers)
        body = frames.packet(self.attacker.ip4, SENTINEL_TARGET, "udp", token, sport=45000, dport=9)
        self.inject("attacker", [frames.frame(self.attacker.mac, self.gateway.mac, body)])
        return self.observers.look(token)

    def node_neighbours(self) -> dict[str, str]:
        """IP → MAC, as the node has it on the bridge."""
        shown = self._show("ip", "neigh", "show", "dev", self.gateway.bridge)
        return {entry["dst"]: entry["lladdr"] for entry in shown if "lladdr" in entry}

    def forwarding_entries(self) -> set[str]:
        """Every MAC the bridge knows."""
        return {entry["mac"] for entry in self._show("bridge", "fdb", "show", "br", self.gateway.bridge)}

    def node_believes_prefix(self, prefix: str) -> bool:
        """Whether the node took an address or a route of an advertised prefix on the bridge."""
        wanted = IPv6Network(f"{prefix}/64")
        (link,) = self._show("ip", "-6", "address", "show", "dev", self.gateway.bridge)
        addresses = [entry["local"] for entry in link["addr_info"]]
        routes = self._show("ip", "-6", "route", "show", "dev", self.gateway.bridge)
        taken = [address for address in addresses if IPv6Address(address) in wanted]
        routed = any(route["dst"] == str(wanted) for route in routes)
        # What one probe achieved must not count for the same probe's next run.
        for address in taken:
            self.lab.node.run(["ip", "address", "del", f"{address}/64", "dev", self.gateway.bridge], check=False)
        if routed or taken:
            self.lab.node.run(["ip", "-6", "route", "del", str(wanted), "dev", self.gateway.bridge], check=False)
        return routed or bool(taken)

    def node_sends(self, address: str, token: bytes, port: int = 9999) -> None:
        """A datagram of the node's own, from the CPU that all injected frames take."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with one_cpu(), self.lab.node.socket(family, socket.SOCK_DGRAM) as sock, suppress(OSError):
            sock.sendto(token, (address, port))

    def _show(self, program: str, *argv: str) -> list[dict[str, Any]]:
        done = self.lab.node.run([program, "-json", *argv])
        return msgspec.json.decode(done.stdout or b"[]", type=list[dict[str, Any]])

    def close(self) -> None:
        """Close the observers."""
        self.observers.close()
        for sock in self._senders.values():
            sock.close()

    def __enter__(self) -> "World":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def one_cpu() -> Iterator[None]:
    """The calling thread on the first of its CPUs: a veth delivers through a queue per CPU, and a sentinel from
    another one could overtake the volley before it."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _poke(host: Host, address: str) -> None:
    from cellwall.lab import ping

    ping(host, address, timeout=0.5)
