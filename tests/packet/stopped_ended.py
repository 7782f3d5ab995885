"""Connections that begin although their tenant keeps too many ended ones, which is noted by hand."""

import socket
import struct
from contextlib import suppress
from typing import Literal

import msgspec

from cellwall.attack.frames import packet
from cellwall.lab import Host
from cellwall.lab import addresses as at
from cellwall.lower.nft.sets import FULL_SETS
from cellwall.model.settings import parse_openings
from cellwall.model.versions import tenant_label
from cellwall.names import TABLE
from cellwall.ruleset.scalars import spell
from packet.stopped import EXPOSED, GATEWAY, PUBLISHED, SERVED, SETTINGS, Attempt, arrived_inside
from world import Sandbox, World, public

WITH_SERVICE = msgspec.structs.replace(
    SETTINGS,
    services=tuple(
        opening
        for gateway in GATEWAY.values()
        for opening in parse_openings(f"web {gateway} tcp/{SERVED}", "node.services")
    ),
)


def note(world: World, sandbox: Sandbox, crowd: Literal["ended", "ended-clients"]) -> None:
    label = spell("ct_label", tenant_label(sandbox.endpoint.tenant_number))
    element = ["{", label, "timeout", "10m", "}"]
    world.lab.node.run(["nft", "add", "element", "inet", TABLE, FULL_SETS[crowd], *element])


def connection_begun_again(world: World, family: int) -> Attempt:
    """From the port of one that its server has just reset."""
    tenant, ports = world.attach("tenant").host, iter(range(20000, 30000))
    kind = socket.AF_INET if family == 4 else socket.AF_INET6

    def bound(host: Host, address: str, port: int) -> socket.socket:
        sock = host.socket(kind, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        return sock

    def attempt() -> bool:
        port = next(ports)
        with bound(world.lab.internet, public(family), SERVED) as server:
            server.listen()
            with bound(tenant, "", port) as first:
                first.connect((public(family), SERVED))
                with server.accept()[0] as theirs:
                    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                with suppress(ConnectionResetError):
                    first.recv(1)
            with bound(tenant, "", port) as again:
                again.settimeout(0.5)
                return again.connect_ex((public(family), SERVED)) == 0

    return attempt


def connection_to_a_service(world: World, family: int) -> Attempt:
    tenant = world.attach("tenant")
    world.lab.node.serve(tcp=[SERVED])
    note(world, tenant, "ended")

    def attempt() -> bool:
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        with tenant.host.socket(kind, socket.SOCK_STREAM) as sock:
            sock.settimeout(0.5)
            try:
                sock.connect((GATEWAY[family], SERVED))
            except TimeoutError:
                return False
            return True

    return attempt


def connection_of_a_client(world: World, family: int) -> Attempt:
    tenant, ports = world.attach("tenant", expose=EXPOSED), iter(range(20000, 30000))
    note(world, tenant, "ended-clients")

    def attempt() -> bool:
        token = world.token()
        first = packet(at.LAN[family], at.NODE[family], "tcp", token, sport=next(ports), dport=PUBLISHED)
        return arrived_inside(world, tenant, token, [first]) == 1

    return attempt
