"""Connections that begin although their tenant keeps too many ended ones, which is noted by hand."""

import socket
from typing import Literal

import msgspec

from cellwall.attack.frames import packet
from cellwall.lab import addresses as at
from cellwall.lower.nft.sets import FULL_SETS
from cellwall.model.settings import parse_openings
from cellwall.model.versions import tenant_label
from cellwall.names import TABLE
from cellwall.ruleset.scalars import spell
from packet.stopped import EXPOSED, GATEWAY, PUBLISHED, SERVED, SETTINGS, Attempt, arrived_inside
from world import Sandbox, World

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
