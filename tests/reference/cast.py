"""Who takes part in the packet halves: a hostile tenant, its neighbour, and services wherever a hole could lead.

What passed is judged by what arrived somewhere. Each denial has its control: with the layers that hold it taken away,
and nothing else changed, the same attempt arrives.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from cellwall.attack.probe import Layer
from cellwall.attack.removal import Footing
from cellwall.lab import connect, ping
from cellwall.lab.host import Host
from cellwall.lab.services import Services
from cellwall.model.addresses import mac_text
from world import PUBLIC4, Sandbox, World, public

GATEWAY_MAC = "02:00:00:00:00:01"
EVERYTHING = {"tcp", "udp", "icmp"}
_MOMENT, _TRIES = 0.1, 100
SUBNET = {4: "192.168.0.0/20", 6: "fd00:abcd::/64"}


class Cast:
    """The people of one world. `attacker` and `victim` are different tenants; the victim publishes 8080."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.attacker = world.attach("attacker", tenant="red")
        self.victim = world.attach("victim", tenant="blue", expose=["8080:80", "8080:80/udp"])
        lab = world.lab
        self.hosts: tuple[Host, ...] = (lab.internet, lab.lan, lab.infra, lab.other, lab.node, self.victim.host)
        self.services: list[Services] = [host.serve(tcp=[53, 80], udp=[53, 80]) for host in self.hosts]

    def close(self) -> None:
        for services in self.services:
            services.close()

    def saw(self, token: bytes) -> bool:
        """Whether anybody's service was reached with this."""
        return any(services.saw(token) for services in self.services)

    def arrives(self, client: Host, address: str, port: int = 80, *, expected: Collection[str] = ()) -> set[str]:
        """By what `client` reaches `address`: tcp, udp, icmp. What is expected is tried for as long as a busy machine
        may take, anything else for a moment."""
        ways = {
            "tcp": lambda: self._passes(client, address, port, udp=False),
            "udp": lambda: self._passes(client, address, port, udp=True),
            "icmp": lambda: ping(client, address, timeout=_MOMENT).kind == "answer",
        }
        return {name for name, way in ways.items() if any(way() for _ in range(_TRIES if name in expected else 1))}

    def reaches(self, client: Host, address: str) -> bool:
        """Whether it does by all of them."""
        return self.arrives(client, address, expected=EVERYTHING) == EVERYTHING

    def _passes(self, client: Host, address: str, port: int, *, udp: bool) -> bool:
        token = self.world.token("udp" if udp else "tcp")
        answer = connect(client, address, port, udp=udp, payload=token, timeout=_MOMENT)
        return answer.kind == "answer" or self.saw(token)

    def volley(self, frames: Sequence[Packet], *, at: Host, ifname: str = "eth0") -> list[int]:
        """Send frames from the attacker's interface; the numbers of those that `at` came to see on its link."""
        marks = [self.world.token("volley") for _ in frames]
        raw = [bytes(frame / Raw(mark)) for frame, mark in zip(frames, marks, strict=True)]
        # An honest datagram behind them, by the same queue and over as many links as any: when it is there, the
        # others were judged and delivered.
        sentinel = self.world.token("sentinel")
        with (
            at.capture(ifname, outgoing=False) as capture,
            self.world.lab.internet.capture("eth0", outgoing=False) as beyond,
        ):
            self.attacker.host.inject("eth0", [*raw, bytes(self.frame(PUBLIC4) / Raw(sentinel))])
            beyond.read_until(sentinel)
            seen = b"".join(capture.drain())
        return [number for number, mark in enumerate(marks) if mark in seen]

    def frame(
        self,
        to: str,
        *,
        source: str | None = None,
        source_mac: str | None = None,
        mac: str = GATEWAY_MAC,
    ) -> Packet:
        """A datagram from the attacker, or from whom it claims to be."""
        family = 6 if ":" in to else 4
        ip = IPv6 if family == 6 else IP
        ether = Ether(src=source_mac or mac_text(self.attacker.endpoint.mac), dst=mac)
        return ether / ip(src=source or self.attacker.address(family), dst=to) / UDP(sport=40000, dport=80)

    def honest(self) -> bool:
        """What a tenant may do still works: a denial is no accident of a broken network."""
        return all(self.reaches(self.attacker.host, public(family)) for family in (4, 6))


@contextmanager
def without(cast: Cast, *layers: Layer) -> Iterator[None]:
    """The same wall without these layers, for the block."""
    footing = Footing(cast.world.wall, cast.world.lab.node)
    footing.remove(frozenset(layers))
    try:
        yield
    finally:
        footing.restore()


@contextmanager
def routed(host: Host, prefix: str, via: str) -> Iterator[None]:
    """The host believes that `prefix` is behind `via`."""
    host.run(["ip", "route", "add", prefix, "via", via])
    try:
        yield
    finally:
        host.run(["ip", "route", "del", prefix, "via", via])


def sandbox_mac(sandbox: Sandbox) -> str:
    return mac_text(sandbox.endpoint.mac)
