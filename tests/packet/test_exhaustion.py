"""What one sandbox can make the node remember: flows beyond its limit, also those that it closes again."""

import re
import socket
import struct
from typing import Literal

import msgspec
import pytest

from cellwall.lab import Host
from cellwall.model.settings import Settings, parse_openings
from world import Sandbox, Stream, World, open_world, public

pytestmark = pytest.mark.root
LIMIT = 64
SOON = 10
"""Seconds. The kernel's own time for a TCP flow that ended in order is 120."""


def open_and_close(host: Host, address: str, *, reset: bool) -> None:
    """One TCP connection to the end, by both sides' FIN or by a reset."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with host.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(5.0)
        sock.connect((address, 80))
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(1) == b""


def remembered(world: World, sandbox: Sandbox, family: int) -> list[tuple[str, int]]:
    """The state and the seconds left of every TCP flow that the sandbox opened."""
    query = ["conntrack", "-L", "-f", f"ipv{family}", "-p", "tcp", "--orig-src", sandbox.address(family)]
    found = re.findall(r"^tcp +6 (\d+) (\S+) ", world.lab.node.run(query).text, re.MULTILINE)
    return [(state, int(left)) for left, state in found]


GATEWAY = {4: "192.168.0.1", 6: "fd00:abcd::1"}
SETTINGS = Settings(
    connections=LIMIT,
    services=tuple(
        opening for gateway in GATEWAY.values() for opening in parse_openings(f"web {gateway} tcp/80", "node.services")
    ),
)


@pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("to", ["the Internet", "a service of the node"])
@pytest.mark.parametrize("backend", ["nftables", "iptables"])
def test_flows_that_a_sandbox_closes_are_soon_forgotten(
    backend: Literal["nftables", "iptables"], to: str, family: int
) -> None:
    """The limit is one of flows that are open (nf_conncount passes over TIME_WAIT and CLOSE). What is closed must not
    pile up beside it: for two minutes of TIME_WAIT, one sandbox fills the table that all share."""
    with open_world(settings=msgspec.structs.replace(SETTINGS, backend=backend)) as world:
        target, server = {
            "the Internet": (public(family), world.lab.internet),
            "a service of the node": (GATEWAY[family], world.lab.node),
        }[to]
        server.serve(tcp=[80])
        tenant = world.attach("tenant")
        for number in range(4 * LIMIT):
            open_and_close(tenant.host, target, reset=number % 2 == 1)
        with Stream(tenant.host, target, 80) as kept:
            assert kept.ask(world.token())
            flows = remembered(world, tenant, family)
        assert "ESTABLISHED" in {state for state, _ in flows}
        assert [flow for flow in flows if flow[0] in ("TIME_WAIT", "CLOSE") and flow[1] > SOON] == []
        assert len([flow for flow in flows if flow[1] > SOON]) <= LIMIT
