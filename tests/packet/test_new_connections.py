"""How many flows a sandbox may open in a second, on the wire: the rest of a flood neither leaves nor is remembered."""

from ipaddress import ip_network
from time import monotonic
from typing import Literal

import msgspec
import pytest

from cellwall.attack.frames import frame, packet
from cellwall.model.addresses import mac_text
from cellwall.model.policy import Policy, Rule
from cellwall.model.settings import Settings
from world import Sandbox, Stream, World, assert_connection, open_world, public

pytestmark = pytest.mark.root
RATE, FLOOD = 5, 300
BOUND = Settings(new_connections=RATE)
DENIES = Policy(rules=(Rule("deny", ip_network("9.9.9.9/32"), "udp", (9, 9)),))
MECHANISMS = pytest.mark.parametrize("backend", ["nftables", "iptables"])
FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
Backend = Literal["nftables", "iptables"]


def flood(world: World, sandbox: Sandbox, family: int, flow: Stream) -> tuple[int, float]:
    """So many flows, of one datagram each, beside one that is open: how many the node remembers, and after how many
    seconds."""
    source, network = sandbox.address(family), world.wall.settings.network
    bodies = [packet(source, public(family), "udp", b"flood", sport=10000 + n, dport=9) for n in range(FLOOD)]
    macs = mac_text(sandbox.endpoint.mac), mac_text(network.bridge_mac)
    begun = monotonic()
    sandbox.host.inject("eth0", [frame(*macs, body) for body in bodies])
    assert flow.ask(world.token())
    query = ["conntrack", "-L", "-f", f"ipv{family}", "-p", "udp", "--orig-src", source, "--dport", "9"]
    return len(world.lab.node.run(query).text.splitlines()), monotonic() - begun


@pytest.mark.parametrize("policy", [None, DENIES], ids=["no policy", "a policy"])
@FAMILIES
@MECHANISMS
def test_a_flood_of_new_flows_is_cut_to_the_rate_and_nobody_else_is(
    backend: Backend, family: int, policy: Policy | None
) -> None:
    with open_world(settings=msgspec.structs.replace(BOUND, backend=backend)) as world:
        world.lab.internet.serve(tcp=[80])
        tenant, other = world.attach("tenant", policy=policy), world.attach("other")
        with Stream(tenant.host, public(family), 80) as flow:
            passed, seconds = flood(world, tenant, family, flow)
            assert_connection(other.host, public(family), 80)
        assert 0 < passed <= RATE * (2 + seconds + 1) < FLOOD


@pytest.mark.parametrize("settings", [Settings(), msgspec.structs.replace(BOUND, watched=("new_connections",))])
@FAMILIES
@MECHANISMS
def test_without_the_bound_and_where_it_is_only_watched_the_same_flood_passes(
    backend: Backend, family: int, settings: Settings
) -> None:
    with open_world(settings=msgspec.structs.replace(settings, backend=backend)) as world:
        world.lab.internet.serve(tcp=[80])
        tenant = world.attach("tenant")
        with Stream(tenant.host, public(family), 80) as flow:
            assert flood(world, tenant, family, flow)[0] == FLOOD
        assert world.wall.status().drift == ()
