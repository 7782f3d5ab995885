"""Where the attack takes place: attacker, victim, node and the world around, and what each of them sees.

Owns: the observers (a capture on every host's link, sockets of every protocol on the node) and the moment of looking.
The frames of a volley go out and the sentinel after them: a legitimate packet that crosses the node, by at
least as many links as any probe can take, from the same CPU. What had not been seen when the sentinel arrived, does
not arrive. Knows neither who attached the two nor what is around the node: see `ground` and `live`.
"""

import itertools
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv6Address, IPv6Network
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgspec

from cellwall.attack import wire
from cellwall.attack.observers import Observers, Sight, View
from cellwall.attack.probe import Place, Probe, Shot, Volley
from cellwall.errors import LabError, TooBusy
from cellwall.lab import Host, Lab
from cellwall.lab.capture import one_cpu

if TYPE_CHECKING:
    from cellwall.api import Wall

_ATTEMPTS = 5


class Missing(LabError):
    """There is no such address here."""


def present(address: str, name: str, family: int) -> str:
    """The address, if there is one."""
    if not address:
        raise Missing(f"{name}: has no IPv{family} address here")
    return address


class Seat(msgspec.Struct, frozen=True):
    """A container: its host, what it was given, and the name of the node's end of its link."""

    host: Host
    mac: str
    ip4: str
    ip6: str
    port: str
    ifname: str = "eth0"

    def ip(self, family: int) -> str:
        """Its address of a family; Missing where it has none."""
        return present(self.ip4 if family == 4 else self.ip6, self.host.name, family)


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


Sentinel = Callable[[int], tuple[bytes, bytes]]
"""A number → a frame that the attacker may send, and bytes of what comes of it."""


class Ground(msgspec.Struct, frozen=True):
    """What is around attacker and victim. `views`: where tokens are looked for; a place that is not there cannot be
    attacked. `uplink4`, `uplink6`: the node's addresses on its default interface. `sentinels`: by the place where it
    comes to be seen after everything before it was delivered. `around`: other addresses by name, of IPv4 and IPv6, ""
    where there is none. `node_link`: where not empty, only what comes
    from that link to sockets of the node is looked at."""

    node: Host
    views: Mapping[Place, View]
    uplink4: str
    uplink6: str
    sentinels: Mapping[Place, Sentinel]
    around: Mapping[str, tuple[str, str]] = {}
    node_link: str = ""


class World:
    """Attacker and victim as somebody attached them, and all that is to be seen of what they do."""

    def __init__(
        self,
        ground: Ground,
        attacker: Seat,
        victim: Seat,
        gateway: Gateway,
        families: frozenset[int],
        *,
        lab: Lab | None = None,
        wall: "Wall | None" = None,
    ) -> None:
        self.ground, self.node, self.wall = ground, ground.node, wall
        self.attacker, self.victim, self.gateway = attacker, victim, gateway
        self.families = families
        self._lab = lab
        self._numbers = itertools.count(1)
        self._senders: dict[Place, socket.socket] = {}
        self._shots: dict[str, tuple[Shot, ...]] = {}
        self.observers = Observers(ground.node, ground.views, node_link=ground.node_link)

    @property
    def lab(self) -> Lab:
        """The lab around the node; LabError on a live node, which has none."""
        if self._lab is None:
            raise LabError("this is a live node: there is no lab around it")
        return self._lab

    @property
    def guest(self) -> Host:
        """Who sits behind the bridge port that somebody else put on the bridge."""
        return self.ground.views["guest"].host

    def uplink(self, family: int) -> str:
        """The node's address on its default interface; Missing where there is none."""
        return present(self.ground.uplink4 if family == 4 else self.ground.uplink6, "uplink", family)

    def around(self, name: str, family: int) -> str:
        """An address around the node by its name; Missing where there is none."""
        four, six = self.ground.around.get(name, ("", ""))
        return present(four if family == 4 else six, name, family)

    def applies(self, probe: Probe) -> bool:
        """Whether the probe makes sense here: families, addresses, a wall of ours, somebody to see what arrives."""
        if not probe.families <= self.families or (probe.wall_only and self.wall is None):
            return False
        if isinstance(probe, Volley) and not {"node", "daemon", *self.ground.views} & set(probe.at):
            return False
        try:
            if probe.needs:
                for family in probe.families or (4,):
                    self.around(probe.needs, family)
            if isinstance(probe, Volley):
                self.shots(probe)
        except Missing:
            return False
        return True

    @property
    def guest_mac(self) -> str:
        """The MAC behind the foreign bridge port."""
        return self.guest.mac("eth0")

    def shots(self, probe: Volley) -> tuple[Shot, ...]:
        """The frames of a probe, made once: every run of it sends the identical ones."""
        if probe.id not in self._shots:
            self._shots[probe.id] = tuple(probe.shots(self, probe.token))
        return self._shots[probe.id]

    def fire(self, shots: Iterable[Shot]) -> Sight:
        """Send all frames, in order, and the sentinel after every few, also after none; what everybody saw until the
        last one arrived. Where the machine lost packets meanwhile they are sent again; TooBusy where it goes on so."""
        self.observers.discard()
        waiting = list(shots)
        sight = self._fire_few(waiting[: wire.AT_ONCE])
        for start in range(wire.AT_ONCE, len(waiting), wire.AT_ONCE):
            sight = sight.joined(self._fire_few(waiting[start : start + wire.AT_ONCE]))
        return sight

    def _fire_few(self, shots: Sequence[Shot]) -> Sight:
        def send() -> None:
            for origin, group in itertools.groupby(shots, key=lambda shot: shot.origin):
                self.inject(origin, [shot.frame for shot in group])

        return self.seen_of(send)

    def seen_of(self, act: Callable[[], None]) -> Sight:
        """Act, and send the sentinels; what everybody saw until they arrived. All of it again where the machine lost
        packets meanwhile: one that was lost was not stopped by anybody. TooBusy where it goes on so."""
        sight = Sight({})
        for _ in range(_ATTEMPTS):
            lost = wire.lost()
            act()
            try:
                sight = sight.joined(self.settle())
            except LabError:
                if wire.lost() == lost:
                    raise
            else:
                if wire.lost() == lost:
                    return sight
        raise TooBusy("it loses packets, and nothing can be said about them")

    def inject(self, origin: Place, raw: Sequence[bytes]) -> None:
        """Send frames out of somebody's link, without waiting for anything."""
        view = self.ground.views[origin]
        if origin not in self._senders:
            # Kept: the kernel waits out a grace period whenever a packet socket is closed.
            self._senders[origin] = view.host.socket(socket.AF_PACKET, socket.SOCK_RAW)
            self._senders[origin].bind((view.ifname, 0))
        wire.send(self._senders[origin], raw)

    def settle(self) -> Sight:
        """Send the sentinels; what everybody saw from the last `discard` until they arrived."""
        sentinels = {place: build(next(self._numbers)) for place, build in self.ground.sentinels.items()}
        self.inject("attacker", [sent for sent, _ in sentinels.values()])
        return self.observers.look({place: expected for place, (_, expected) in sentinels.items()})

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
            self.node.run(["ip", "address", "del", f"{address}/64", "dev", self.gateway.bridge], check=False)
        if routed or taken:
            self.node.run(["ip", "-6", "route", "del", str(wanted), "dev", self.gateway.bridge], check=False)
        return routed or bool(taken)

    def node_sends(self, address: str, token: bytes, port: int = 9999) -> None:
        """A datagram of the node's own, from the CPU that all injected frames take."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with one_cpu(), self.node.socket(family, socket.SOCK_DGRAM) as sock, suppress(OSError):
            sock.sendto(token, (address, port))

    def _show(self, program: str, *argv: str) -> list[dict[str, Any]]:
        done = self.node.run([program, "-json", *argv])
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
