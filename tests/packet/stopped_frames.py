"""Frames that a single rule of the wall stops; like `stopped`, one layer below."""

import socket
from collections.abc import Callable
from functools import partial

from cellwall.attack.frames import BROADCAST, arp, frame, group_mac, packet, scapy, solicited_group
from cellwall.lab import Host, ping
from cellwall.lab import addresses as at
from cellwall.lab.capture import one_cpu
from cellwall.model.addresses import LISTENER_REPORTS, LISTENER_REPORTS_MAC, mac_text
from packet.stopped import GATEWAY, GATEWAY_MAC, SERVED, Attempt, NodeSocket, comes_in, goes_out, inject, say
from world import Sandbox, World, public, write_setting

FLOOD = 100
PARTED = 150


def mac_of(sandbox: Sandbox) -> str:
    return mac_text(sandbox.endpoint.mac)


class NodeEar:
    """Every ICMPv6 message that the node's IP layer takes for its own."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._sock = world.lab.node.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        self._sock.settimeout(5.0)

    def heard(self) -> list[bytes]:
        """All that came before now."""
        sentinel, found = self._world.token("sentinel"), []
        lan, node = self._world.lab.lan, self._world.lab.node
        body = packet(at.LAN[6], at.NODE[6], "icmp", sentinel)
        lan.inject("eth0", [frame(lan.mac("eth0"), node.mac("eth0"), body)])
        while sentinel not in (data := self._sock.recv(1 << 12)):
            found.append(data)
        return found


def heard_by_the_node(world: World, body: Callable[[Sandbox, bytes], object], *, to: str = GATEWAY_MAC) -> Attempt:
    tenant, ear = world.attach("tenant"), NodeEar(world)

    def attempt() -> bool:
        token = world.token()
        tenant.host.inject("eth0", [frame(mac_of(tenant), to, body(tenant, token))])
        return any(token in data for data in ear.heard())

    return attempt


# ---------------------------------------------------------------- IPv6


def extension_header(world: World, family: int) -> Attempt:
    tenant = world.attach("tenant")

    def send(token: bytes) -> None:
        s = scapy()
        ip = s.IPv6(src=tenant.address(6), dst=public(6)) / s.IPv6ExtHdrHopByHop()
        inject(tenant, ip / s.UDP(sport=9, dport=9) / s.Raw(token))

    return partial(goes_out, world, tenant, family, send)


def redirect(world: World, family: int) -> Attempt:
    def body(tenant: Sandbox, token: bytes) -> object:
        s = scapy()
        ip = s.IPv6(src=tenant.address(6), dst=GATEWAY[6], hlim=255)
        return ip / s.ICMPv6ND_Redirect(tgt=tenant.address(6), dst=public(6)) / s.Raw(token)

    return heard_by_the_node(world, body)


def to_a_group(world: World, family: int) -> Attempt:
    """The group that solicitations for the gateway go to, with something else in it."""
    tenant, node = world.attach("tenant"), NodeSocket(world, 6)
    group = solicited_group(GATEWAY[6])

    def attempt() -> bool:
        token = world.token()
        body = packet(tenant.address(6), group, "udp", token, dport=SERVED)
        tenant.host.inject("eth0", [frame(mac_of(tenant), group_mac(group), body)])
        return token in node.heard()

    return attempt


def solicitation(tenant: Sandbox, token: bytes, *, asked: str = GATEWAY[6], hops: int = 255) -> object:
    """Which has the token in an option that nobody knows."""
    s = scapy()
    ip = s.IPv6(src=tenant.address(6), dst=solicited_group(GATEWAY[6]), hlim=hops)
    padded = token.ljust(-(-(len(token) + 2) // 8) * 8 - 2, b"\0")
    return ip / s.ICMPv6ND_NS(tgt=asked) / s.Raw(bytes([253, (len(padded) + 2) // 8]) + padded)


TO_GROUP = group_mac(solicited_group(GATEWAY[6]))


def forwarded_solicitation(world: World, family: int) -> Attempt:
    return heard_by_the_node(world, partial(solicitation, hops=64), to=TO_GROUP)


def other_solicitation(world: World, family: int) -> Attempt:
    return heard_by_the_node(world, partial(solicitation, asked=at.NODE[6]), to=TO_GROUP)


def solicitation_flood(world: World, family: int) -> Attempt:
    tenant, ear = world.attach("tenant"), NodeEar(world)

    def attempt() -> bool:
        token = world.token()
        tenant.host.inject("eth0", [frame(mac_of(tenant), TO_GROUP, solicitation(tenant, token))] * FLOOD)
        arrived = sum(token in data for data in ear.heard())
        assert arrived >= 10
        return arrived == FLOOD

    return attempt


# ---------------------------------------------------------------- ARP, and what is bridged


def question(tenant: Sandbox) -> bytes:
    return arp(1, mac_of(tenant), tenant.address(4), "00:00:00:00:00:00", GATEWAY[4])


def arp_to_a_neighbour(world: World, family: int) -> Attempt:
    """A question that the gateway may be asked, and that the bridge would carry to a port that is not isolated."""
    tenant, victim = world.attach("tenant"), world.attach("victim")
    for sandbox in (tenant, victim):
        world.lab.node.run(["bridge", "link", "set", "dev", sandbox.endpoint.host_link, "isolated", "off"])

    def send(token: bytes) -> None:
        tenant.host.inject("eth0", [frame(mac_of(tenant), mac_of(victim), question(tenant) + token, kind=0x0806)])

    return partial(comes_in, world, victim, 4, send)


def fragment_flood(world: World, family: int) -> Attempt:
    """More datagrams in two parts each than a sandbox may have on their way at once."""
    tenant, internet = world.attach("tenant"), world.lab.internet

    def attempt() -> bool:
        token, sentinel = world.token(), world.token("sentinel")
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        with tenant.host.socket(kind, socket.SOCK_DGRAM) as sender, internet.capture("eth0", outgoing=False) as capture:
            with one_cpu():
                for _ in range(PARTED):
                    sender.sendto(token.ljust(2000, b"."), (public(family), 9))
                say(world.lab.node, public(family), 9, sentinel)
            arrived = sum(token in data for data in capture.read_until(sentinel))
        assert arrived >= 10
        return arrived == PARTED

    return attempt


def arp_flood(world: World, family: int) -> Attempt:
    tenant = world.attach("tenant")

    def attempt() -> bool:
        sentinel = world.token("sentinel")
        with tenant.host.capture("eth0", outgoing=False) as capture:
            tenant.host.inject("eth0", [frame(mac_of(tenant), BROADCAST, question(tenant), kind=0x0806)] * FLOOD)
            with one_cpu():
                say(world.lab.node, tenant.address(4), 9, sentinel)
            answers = sum(data[12:14] == b"\x08\x06" for data in capture.read_until(sentinel))
        assert answers >= 10
        return answers == FLOOD

    return attempt


def to_a_foreign_port(world: World, family: int) -> Attempt:
    """Of a bridge port that somebody else put on the bridge, and that is not isolated."""
    tenant = world.attach("tenant")

    def made(token: bytes, guest: Host) -> bytes:
        return frame(mac_of(tenant), guest.mac("eth0"), packet(tenant.address(family), public(family), "udp", token))

    return _heard_by_a_foreign_port(world, tenant, made)


def listener_report_to_a_foreign_port(world: World, family: int) -> Attempt:
    tenant = world.attach("tenant")

    def made(token: bytes, guest: Host) -> bytes:
        s = scapy()
        header = s.IPv6ExtHdrHopByHop(options=[s.RouterAlert()])
        ip = s.IPv6(src=tenant.address(6), dst=str(LISTENER_REPORTS), hlim=1) / header
        return frame(mac_of(tenant), mac_text(LISTENER_REPORTS_MAC), ip / s.ICMPv6MLReport2() / s.Raw(token))

    return _heard_by_a_foreign_port(world, tenant, made)


def _heard_by_a_foreign_port(world: World, tenant: Sandbox, made: Callable[[bytes, Host], bytes]) -> Attempt:
    guest, node = world.host("guest"), world.lab.node
    for table in ("iptables", "ip6tables"):  # otherwise the IP hooks judge what is bridged, too
        write_setting(node, f"net/bridge/bridge-nf-call-{table}", "0")
    node.ip(
        [f"link add foreign0 type veth peer name eth0 netns {guest.netns.name}", "link set foreign0 master b9_br0 up"]
    )
    guest.ip(["link set eth0 up"])

    def attempt() -> bool:
        token = world.token()
        with guest.capture("eth0", outgoing=False) as capture:
            tenant.host.inject("eth0", [made(token, guest)])
            settle(world)
            return any(token in data for data in capture.drain())

    return attempt


def settle(world: World) -> None:
    """What was sent before, from the same CPU, is where it goes: there is no open way behind it for a sentinel."""
    with one_cpu():
        assert ping(world.lab.lan, at.NODE[4])


def arrives_behind_a_link(world: World, host: Host, send: Callable[[bytes], None]) -> bool:
    token = world.token()
    with host.capture("eth0", outgoing=False) as capture:
        with one_cpu():
            send(token)
        settle(world)
        return any(token in data for data in capture.drain())


def to_a_port_without_an_endpoint(world: World, family: int) -> Attempt:
    """A link that is on the bridge still, though its endpoint is gone from the sets."""
    victim, node = world.attach("victim"), world.lab.node
    node.run(["nft", "delete", "element", "bridge", "cellwall", "ports", f'{{ "{victim.endpoint.host_link}" }}'])

    return partial(arrives_behind_a_link, world, victim.host, partial(say, node, victim.address(family), 9))


# ---------------------------------------------------------------- a link by the name of ours that is no bridge's

BESIDE = {4: "8.7.7.7", 6: "2a00:77::7"}
"""Whoever is behind that link."""


def loose_link(world: World) -> Host:
    """Which forwards, as after another program's hand."""
    host, node = world.host("loose"), world.lab.node
    node.ip([f"link add b9hloose type veth peer name eth0 netns {host.netns.name}", "link set b9hloose up"])
    host.ip(["link set eth0 up"])
    write_setting(node, "net/ipv4/conf/b9hloose/forwarding", "1")
    node.run(["sysctl", "-qw", "net.ipv6.conf.b9hloose.force_forwarding=1"], check=False)
    for address in BESIDE.values():
        node.run(["ip", "route", "add", address, "dev", "b9hloose"])
        node.run(["ip", "neighbour", "add", address, "lladdr", host.mac("eth0"), "dev", "b9hloose"])
    return host


def from_beside(world: World, host: Host, family: int, target: str, token: bytes, port: int = 9) -> None:
    macs = host.mac("eth0"), world.lab.node.mac("b9hloose")
    host.inject("eth0", [frame(*macs, packet(BESIDE[family], target, "udp", token, dport=port))])


def arp_beside_the_bridge(world: World, family: int) -> Attempt:
    host = loose_link(world)

    def attempt() -> bool:
        mac = host.mac("eth0")
        with host.capture("eth0", outgoing=False) as capture:
            host.inject("eth0", [frame(mac, BROADCAST, arp(1, mac, "0.0.0.0", BROADCAST, at.NODE[4]), kind=0x0806)])
            settle(world)
            return any(data[12:14] == b"\x08\x06" for data in capture.drain())

    return attempt


def from_beside_to_the_node(world: World, family: int) -> Attempt:
    host, node = loose_link(world), NodeSocket(world, family)

    def attempt() -> bool:
        token = world.token()
        from_beside(world, host, family, at.NODE[family], token, SERVED)
        return token in node.heard()

    return attempt


def from_beside_to_the_internet(world: World, family: int) -> Attempt:
    host, tenant = loose_link(world), world.attach("tenant")
    return partial(goes_out, world, tenant, family, partial(from_beside, world, host, family, public(family)))


def of_the_node_to_beside(world: World, family: int) -> Attempt:
    return partial(arrives_behind_a_link, world, loose_link(world), partial(say, world.lab.node, BESIDE[family], 9))


def of_the_lan_to_beside(world: World, family: int) -> Attempt:
    world.lab.lan.run(["ip", "route", "add", BESIDE[family], "via", at.NODE[family]])
    return partial(arrives_behind_a_link, world, loose_link(world), partial(say, world.lab.lan, BESIDE[family], 9))
