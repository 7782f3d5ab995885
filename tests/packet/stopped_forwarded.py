"""Packets that are forwarded, or that the node sends to a sandbox, and a single rule stops; like `stopped`."""

import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from cellwall.attack.frames import frame, packet, scapy
from cellwall.lab import addresses as at
from packet.stopped import (
    EXPOSED,
    GATEWAY,
    INSIDE,
    PUBLISHED,
    SPORT,
    Attempt,
    arrives,
    comes_in,
    goes_out,
    inject,
    say,
    survivor,
)
from world import Sandbox, World, public


def to_a_neighbour(world: World, family: int) -> Attempt:
    tenant, victim = world.attach("tenant"), world.attach("victim")
    return partial(comes_in, world, victim, family, partial(say, tenant.host, victim.address(family), 9))


def by_another_interface(world: World, family: int) -> Attempt:
    tenant = world.attach("tenant")
    world.lab.node.run(["ip", "route", "add", public(family), "via", at.INFRA[family]])

    def attempt() -> bool:
        with world.lab.infra.capture("eth0", outgoing=False) as capture:
            last = partial(say, world.lab.node, at.INFRA[family], 9)
            return arrives(world, capture, partial(say, tenant.host, public(family), 9), last)

    return attempt


def without_a_flow(world: World, family: int) -> Attempt:
    """A reset of no connection: conntrack calls it invalid, and nothing translates its source."""
    tenant = world.attach("tenant")

    def send(token: bytes) -> None:
        body = packet(tenant.address(family), public(family), "tcp", token)
        body[scapy().TCP].flags = "R"
        inject(tenant, body)

    return partial(goes_out, world, tenant, family, send)


def to_the_floor(*targets: str) -> Callable[[World, int], Attempt]:
    def scenario(world: World, family: int) -> Attempt:
        tenant = world.attach("tenant")
        (target,) = (target for target in targets if (":" in target) == (family == 6))
        return partial(goes_out, world, tenant, family, partial(say, tenant.host, target, 9))

    return scenario


def straight_to_an_exposed_port(world: World, family: int) -> Attempt:
    victim = world.attach("victim", expose=EXPOSED)
    world.lab.lan.run(["ip", "route", "add", victim.address(family), "via", at.NODE[family]])
    return partial(comes_in, world, victim, family, partial(say, world.lab.lan, victim.address(family), INSIDE))


def led_by_others(port: int, *exposed: str) -> Callable[[World, int], Attempt]:
    """Another table leads a client to a port of the sandbox that is not exposed to it."""

    def scenario(world: World, family: int) -> Attempt:
        victim = world.attach("victim", expose=exposed)
        ip, address = ("ip", victim.address(4)) if family == 4 else ("ip6", f"[{victim.address(6)}]")
        rule = f"meta nfproto ipv{family} udp dport {PUBLISHED} dnat {ip} to {address}:{port}"
        text = f"table inet other {{ chain c {{ type nat hook prerouting priority -120; {rule}; }}; }}"
        world.lab.node.run(["nft", "-f", "-"], input=text.encode())
        return partial(comes_in, world, victim, family, partial(say, world.lab.lan, at.NODE[family], PUBLISHED))

    return scenario


def former_flow_to_an_exposed_port(world: World, family: int) -> Attempt:
    def ask(inside: Sandbox) -> bool:
        send = partial(say, world.lab.lan, at.NODE[family], PUBLISHED, sport=SPORT)
        return comes_in(world, inside, family, send)

    def opened(former: Sandbox) -> list[str]:
        assert ask(former)
        return ["--orig-src", at.LAN[family], "--sport", str(SPORT)]

    return partial(ask, survivor(world, family, opened, EXPOSED))


def exposed_without_an_endpoint(world: World, family: int) -> Attempt:
    """Sets that disagree: a port is exposed of an address that has no policy version."""
    victim = world.attach("victim", expose=EXPOSED)
    element = f"{{ {victim.address(family)} }}"
    world.lab.node.run(["nft", "delete", "element", "inet", "cellwall", f"version{family}", element])
    return partial(comes_in, world, victim, family, partial(say, world.lab.lan, at.NODE[family], PUBLISHED))


def stray_segment(source: str, target: str, port: int, token: bytes) -> object:
    """Of a connection that nobody knows."""
    body = packet(source, target, "tcp", token, dport=port)
    body[scapy().TCP].flags = "PA"
    return body


def amid_a_clients_connection(world: World, family: int) -> Attempt:
    victim, lan = world.attach("victim", expose=EXPOSED), world.lab.lan
    macs = lan.mac("eth0"), world.lab.node.mac("eth0")

    def send(token: bytes) -> None:
        lan.inject("eth0", [frame(*macs, stray_segment(at.LAN[family], at.NODE[family], PUBLISHED, token))])

    return partial(comes_in, world, victim, family, send)


def amid_a_connection_of_the_nodes(world: World, family: int) -> Attempt:
    victim, node = world.attach("victim"), world.lab.node

    def send(token: bytes) -> None:
        body = stray_segment(GATEWAY[family], victim.address(family), 9, token)
        inet = socket.AF_INET if family == 4 else socket.AF_INET6
        with node.socket(inet, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock, suppress(PermissionError):
            sock.sendto(bytes(body), (victim.address(family), 0))

    return partial(comes_in, world, victim, family, send)


def elsewhere(world: World, family: int, sandbox: Sandbox, send: Callable[[bytes], None]) -> bool:
    """Whether it arrives in the infrastructure, where a route of the operator's leads the sandbox's address."""
    with world.lab.infra.capture("eth0", outgoing=False) as capture:
        return arrives(world, capture, send, partial(say, world.lab.node, at.INFRA[family], 9))


def led_elsewhere_by_a_route(world: World, family: int) -> Sandbox:
    victim = world.attach("victim", expose=EXPOSED)
    world.lab.node.run(["ip", "route", "add", victim.address(family), "via", at.INFRA[family]])
    return victim


def of_the_node_elsewhere(world: World, family: int) -> Attempt:
    victim = led_elsewhere_by_a_route(world, family)
    return partial(elsewhere, world, family, victim, partial(say, world.lab.node, victim.address(family), 9))


def of_a_client_elsewhere(world: World, family: int) -> Attempt:
    victim = led_elsewhere_by_a_route(world, family)
    return partial(elsewhere, world, family, victim, partial(say, world.lab.lan, at.NODE[family], PUBLISHED))


def error_about_a_flow_of_another_policy(world: World, family: int) -> Attempt:
    """The tenant's own flow, which no packet took over into the policy that is in force now."""
    tenant, internet = world.attach("tenant", expose=EXPOSED), world.lab.internet
    opening = world.token()
    with internet.capture("eth0", outgoing=False) as capture:
        say(tenant.host, public(family), 9, opening, sport=SPORT)
        sent = capture.read_until(opening)[-1]
    macs, quoted = (internet.mac("eth0"), world.lab.node.mac("eth0")), sent[14:]
    for binding in tenant.endpoint.bindings:
        world.wall.unexpose(tenant.name, binding)

    def send(token: bytes) -> None:
        s = scapy()
        error = s.ICMP(type=3, code=1) if family == 4 else s.ICMPv6DestUnreach(code=3)
        ip = (s.IP if family == 4 else s.IPv6)(src=public(family), dst=at.NODE[family])
        internet.inject("eth0", [frame(*macs, ip / error / s.Raw(quoted[: -len(opening)] + token.ljust(len(opening))))])

    return partial(comes_in, world, tenant, family, send)
