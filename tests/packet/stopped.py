"""Packets that a single rule of the wall stops, as seen from outside: each scenario sends one, again and again.

A scenario sets the stage in a world whose wall is whole and gives an attempt: it sends the packet, and tells whether it
came where it should not. Nothing is said by silence: a sentinel follows each packet by a way that is open.
"""

import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Address
from itertools import count

import msgspec
import pytest

from cellwall.attack.frames import frame, packet
from cellwall.lab import Capture, Host
from cellwall.lab import addresses as at
from cellwall.lab.capture import one_cpu
from cellwall.model.addresses import mac_text
from cellwall.model.settings import Settings, parse_openings
from world import Sandbox, Stream, World, public

pytestmark = pytest.mark.root
LIMIT, SERVED, PUBLISHED, INSIDE, SPORT = 32, 5300, 8080, 80, 40090
MUCH = 300  # packets of 1,000 bytes: more than twice what any bound of bytes lets by at once
GATEWAY_MAC = "02:00:00:00:00:01"
GATEWAY = {4: "192.168.0.1", 6: "fd00:abcd::1"}
SETTINGS = Settings(
    connections=LIMIT,
    services=tuple(
        opening
        for gateway in GATEWAY.values()
        for opening in parse_openings(f"echo {gateway} udp/{SERVED}", "node.services")
    ),
)
CROWDED = msgspec.structs.replace(SETTINGS, connections=1024, tenant_connections=LIMIT)
HURRIED = msgspec.structs.replace(SETTINGS, connections=1024, new_connections=LIMIT // 4)
NARROW = msgspec.structs.replace(SETTINGS, bytes=1000)
PARTED = msgspec.structs.replace(NARROW, connections=1024)
BUSY = msgspec.structs.replace(SETTINGS, connections=1024, packets=MUCH // 2)
"""A bound of a tenant's connections, of those that begin in a second, of bytes and of packets, of each alone."""
EXPOSED = (f"{PUBLISHED}:{INSIDE}", f"{PUBLISHED}:{INSIDE}/udp")

Attempt = Callable[[], bool]
"""Sends something; whether it came where it should not. Can be made again."""


# ---------------------------------------------------------------- what is sent, and what arrives


def say(host: Host, address: str, port: int, token: bytes, *, sport: int = 0) -> None:
    """One datagram; refused by the sender's own node is not arrived."""
    with suppress(OSError), Stream(host, address, port, udp=True, source_port=sport) as stream:
        stream.say(token)


def arrives(world: World, capture: Capture, send: Callable[[bytes], None], last: Callable[[bytes], None]) -> bool:
    """Whether what `send` sends is captured before what `last` sends, which takes a way that is open."""
    token, sentinel = world.token(), world.token("sentinel")
    with one_cpu():
        send(token)
        last(sentinel)
    return any(token in data for data in capture.read_until(sentinel))


def comes_in(world: World, inside: Sandbox, family: int, send: Callable[[bytes], None]) -> bool:
    """Whether it arrives in a sandbox."""
    with inside.host.capture("eth0", outgoing=False) as capture:
        return arrives(world, capture, send, partial(say, world.lab.node, inside.address(family), 9))


def goes_out(world: World, tenant: Sandbox, family: int, send: Callable[[bytes], None]) -> bool:
    """Whether it arrives on the Internet."""
    with world.lab.internet.capture("eth0", outgoing=False) as capture:
        return arrives(world, capture, send, partial(say, tenant.host, public(family), 9))


def inject(sandbox: Sandbox, *bodies: object) -> None:
    mac = mac_text(sandbox.endpoint.mac)
    sandbox.host.inject("eth0", [frame(mac, GATEWAY_MAC, body) for body in bodies])


def meet(world: World, family: int) -> None:
    """A packet that waits for an answer to ARP would come after the sentinel."""
    for host in (world.lab.lan, world.lab.infra):
        with host.serve(udp=[9]):
            with Stream(host, at.NODE[family], 9, udp=True) as stream:
                stream.say(b"")
            with Stream(world.lab.node, (at.LAN if host is world.lab.lan else at.INFRA)[family], 9, udp=True) as stream:
                assert stream.ask(world.token())


# ---------------------------------------------------------------- the node's guard


def echo_flood(world: World, family: int) -> Attempt:
    tenant = world.attach("tenant")
    runs = iter(range(1000, 60000, 1000))

    def attempt() -> bool:
        first, count = next(runs), 6 * 10
        sentinel = world.token("sentinel")
        asked = [
            packet(tenant.address(family), GATEWAY[family], "icmp", b"<echo>", sport=first + n) for n in range(count)
        ]
        with tenant.host.capture("eth0", outgoing=False) as capture:
            inject(tenant, *asked)
            say(world.lab.node, tenant.address(family), 9, sentinel)
            answers = sum(b"<echo>" in data for data in capture.read_until(sentinel))
        assert answers >= 10
        return answers == count

    return attempt


_SO_RCVBUFFORCE = 33


class NodeSocket:
    """A socket of the node that answers nothing, so that flows to it stay new."""

    def __init__(self, world: World, family: int) -> None:
        self._world, self._family = world, family
        self._sock = world.lab.node.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 21)
        self._sock.settimeout(5.0)
        self._sock.bind(("", SERVED))

    def say(self, address: str, port: int) -> None:
        self._sock.sendto(b"answer", (address, port))

    def heard(self) -> list[bytes]:
        """All that came before now."""
        sentinel, found = self._world.token("sentinel"), []
        with one_cpu():
            say(self._world.lab.lan, at.NODE[self._family], SERVED, sentinel)
        while (data := self._sock.recv(1 << 12)) != sentinel:
            found.append(data)
        return found


def flows_to_a_service(world: World, family: int) -> Attempt:
    tenant, node = world.attach("tenant"), NodeSocket(world, family)
    runs = iter(range(1000, 60000, 1000))

    def attempt() -> bool:
        first, count, token = next(runs), LIMIT + 20, world.token()
        source, target = tenant.address(family), GATEWAY[family]
        inject(tenant, *(packet(source, target, "udp", token, sport=first + n, dport=SERVED) for n in range(count)))
        return node.heard().count(token) > LIMIT

    return attempt


def bytes_to_a_service(world: World, family: int) -> Attempt:
    """More of one flow than may come at once."""
    tenant, node = world.attach("tenant"), NodeSocket(world, family)

    def attempt() -> bool:
        body = world.token().ljust(1000, b".")
        inject(
            tenant, *[packet(tenant.address(family), GATEWAY[family], "udp", body, sport=SPORT, dport=SERVED)] * MUCH
        )
        return node.heard().count(body) == MUCH

    return attempt


def flows_of_clients(world: World, family: int) -> Attempt:
    """More flows to a published port than any bound here lets be."""
    tenant, runs = world.attach("tenant", expose=EXPOSED), iter(range(1000, 60000, 1000))

    def attempt() -> bool:
        first, token = next(runs), world.token()
        bodies = [client_packet(family, token, sport=first + n) for n in range(LIMIT + 20)]
        return arrived_inside(world, tenant, token, bodies) > LIMIT

    return attempt


def bytes_of_a_client(world: World, family: int) -> Attempt:
    """More of one flow to a published port than may come at once."""
    tenant = world.attach("tenant", expose=EXPOSED)

    def attempt() -> bool:
        token = world.token()
        bodies = [client_packet(family, token.ljust(1000, b"."), sport=SPORT)] * MUCH
        return arrived_inside(world, tenant, token, bodies) == MUCH

    return attempt


def first_packets_of_clients(world: World, family: int) -> Attempt:
    """More that begin a flow to a published port, of as many bytes, than may come at once."""
    tenant, ports = world.attach("tenant", expose=EXPOSED), count(20000)

    def attempt() -> bool:
        token = world.token()
        body = token.ljust(1000, b".")
        first = [client_packet(family, body, sport=next(ports)) for _ in range(MUCH)]
        return arrived_inside(world, tenant, token, first) == MUCH

    return attempt


def bytes_of_a_sandbox(world: World, family: int) -> Attempt:
    """More of one flow to the Internet than may leave at once."""
    tenant, internet = world.attach("tenant"), world.lab.internet

    def attempt() -> bool:
        token, sentinel = world.token(), world.token("sentinel")
        body = packet(tenant.address(family), public(family), "udp", token.ljust(1000, b"."), sport=SPORT, dport=9)
        with internet.capture("eth0", outgoing=False) as capture, one_cpu():
            inject(tenant, *[body] * MUCH)
            say(world.lab.node, public(family), 9, sentinel)
            return sum(token in data for data in capture.read_until(sentinel)) == MUCH

    return attempt


def client_packet(family: int, token: bytes, *, sport: int) -> object:
    return packet(at.LAN[family], at.NODE[family], "udp", token, sport=sport, dport=PUBLISHED)


def arrived_inside(world: World, tenant: Sandbox, token: bytes, bodies: list[object]) -> int:
    """How many of the packets of a client arrive in a sandbox."""
    lan, sentinel = world.lab.lan, world.token("sentinel")
    macs = lan.mac("eth0"), world.lab.node.mac("eth0")
    with tenant.host.capture("eth0", outgoing=False) as capture, one_cpu():
        lan.inject("eth0", [frame(*macs, body) for body in bodies])
        say(world.lab.node, tenant.address(4), 9, sentinel)
        return sum(token in data for data in capture.read_until(sentinel))


def hide(world: World, family: int, ends: list[str], mark: int) -> None:
    """Give a flow another mark, by which it is purged or not."""
    world.lab.node.run(["conntrack", "-U", "-f", f"ipv{family}", "-p", "udp", *ends, "--mark", str(mark)])


ADDRESS = IPv4Address("192.168.9.60")


def survivor(
    world: World, family: int, opened: Callable[[Sandbox], list[str]], expose: tuple[str, ...] = ()
) -> Sandbox:
    """The next holder of an address, with a flow of the former one's that was not purged."""
    former = world.attach("former", address4=ADDRESS, expose=expose)
    ends = opened(former)
    hide(world, family, ends, 0)
    world.detach(former)
    holder = world.attach("holder", address4=ADDRESS, expose=expose)
    assert holder.address(family) == former.address(family)
    hide(world, family, ends, former.endpoint.generation)
    return holder


def former_flow_to_a_service(world: World, family: int, *, answered: bool) -> Attempt:
    """What is established is left to the input path; what is not, would be the holder's own after the early guard."""
    node = NodeSocket(world, family)

    def opened(former: Sandbox) -> list[str]:
        token = world.token()
        say(former.host, GATEWAY[family], SERVED, token, sport=SPORT)
        assert token in node.heard()
        if answered:
            node.say(former.address(family), SPORT)
        return ["--orig-src", former.address(family), "--sport", str(SPORT)]

    holder = survivor(world, family, opened)

    def attempt() -> bool:
        token = world.token()
        say(holder.host, GATEWAY[family], SERVED, token, sport=SPORT)
        return token in node.heard()

    return attempt
