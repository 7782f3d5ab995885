"""The stage of the suite against cellwall itself: a lab, the wall up, attacker and victim attached."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_network

import msgspec

from cellwall.api import Wall
from cellwall.attack.ground import HIDDEN_PUBLIC, PROTECTED, lab_world
from cellwall.attack.world import Gateway, Seat, World
from cellwall.lab import Host, Lab
from cellwall.model.addresses import mac_text
from cellwall.model.endpoint import Endpoint
from cellwall.model.settings import Settings

SETTINGS = Settings(
    public_addresses=tuple(ip_address(address) for address in HIDDEN_PUBLIC),
    protect=tuple(ip_network(network) for network in PROTECTED),
    connections=256,
    new_connections=1000,
    packets=5000,
    bytes=10_000_000,
    tenant_connections=320,
)
"""A node behind a cloud's 1:1 translation, with a cluster network that its operator named. Rates that no probe but a
flood comes near."""

SHIFTED, SHIFTED_TO = 8446, 9446
"""A port of the attacker's whose translation shows."""
ATTACKER_PORTS = ("8443:8443", "8443:8443/udp", f"{SHIFTED}:{SHIFTED_TO}/udp")
VICTIM_PORTS = ("8080:80", "8080:80/udp")
PUBLISHED, PUBLISHED_TO = 8080, 80
"""The victim's port, as every stage that can publish one publishes it, TCP and UDP."""


class Stage(msgspec.Struct, frozen=True):
    """Everything an attack needs. `attach` gives one more sandbox a seat, as late as the network layer itself lets a
    container start; `publishes`: whether the victim's port can be reached from outside."""

    lab: Lab
    world: World
    attach: Callable[[Host], Seat]
    publishes: bool = True


class WalledStage(Stage, frozen=True, kw_only=True):
    """A stage whose wall is cellwall's, so that layers can be taken away."""

    wall: Wall


@contextmanager
def walled_stage(settings: Settings = SETTINGS) -> Iterator[WalledStage]:
    """A lab whose node is walled, under these settings."""
    with Lab() as lab:
        attacker, victim = lab.sandboxes(["attacker", "victim"])
        with lab.node.enter(), Wall.open(root=lab.root, settings=settings) as wall:
            wall.up()
            first = wall.attach("attacker", netns=attacker.netns, expose=ATTACKER_PORTS)
            second = wall.attach("victim", netns=victim.netns, expose=VICTIM_PORTS)

            def attach(host: Host) -> Seat:
                return seat(host, wall.attach(host.name, netns=host.netns))

            seats = (seat(attacker, first), seat(victim, second))
            with lab_world(lab, *seats, gateway_of(wall.settings), wall=wall) as world:
                yield WalledStage(lab, world, attach, wall=wall)


def gateway_of(settings: Settings) -> Gateway:
    """The node as the containers of a walled node see it."""
    network = settings.network
    return Gateway(
        bridge=network.bridge,
        mac=mac_text(network.bridge_mac),
        ip4=str(network.gateway4),
        ip6=str(network.gateway6),
        link_local=str(network.gateway_link_local),
    )


def seat(host: Host, endpoint: Endpoint) -> Seat:
    """Where an attached endpoint sits."""
    return Seat(
        host=host,
        mac=mac_text(endpoint.mac),
        ip4=str(endpoint.address4 or ""),
        ip6=str(endpoint.address6 or ""),
        port=endpoint.host_link,
        ifname=endpoint.key.ifname,
    )
