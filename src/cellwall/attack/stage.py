"""The stage of the suite against cellwall itself: a lab, the wall up, attacker and victim attached."""

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_network

import msgspec

from cellwall.api import Wall
from cellwall.attack.ground import lab_world
from cellwall.attack.world import Gateway, Seat, World
from cellwall.lab import Host, Lab
from cellwall.model.addresses import mac_text
from cellwall.model.endpoint import Endpoint
from cellwall.model.settings import Settings

HIDDEN_PUBLIC4, HIDDEN_PUBLIC6 = "151.101.65.9", "2a04:4e42:65::9"
PROTECTED4, PROTECTED6 = "151.101.129.0/24", "2a04:4e42:129::/64"
SETTINGS = Settings(
    public_addresses=(ip_address(HIDDEN_PUBLIC4), ip_address(HIDDEN_PUBLIC6)),
    protect=(ip_network(PROTECTED4), ip_network(PROTECTED6)),
    connections=512,
)
"""A node behind a cloud's 1:1 translation, with a cluster network that its operator named."""

ATTACKER_PORTS = ("8443:8443", "8443:8443/udp")
VICTIM_PORTS = ("8080:80", "8080:80/udp")


class Stage(msgspec.Struct, frozen=True):
    """Everything an attack and its controls need."""

    lab: Lab
    wall: Wall
    world: World


@contextmanager
def walled_stage() -> Iterator[Stage]:
    """A lab whose node is walled."""
    with Lab() as lab:
        attacker, victim = lab.sandboxes(["attacker", "victim"])
        with lab.node.enter(), Wall.open(root=lab.root, settings=SETTINGS) as wall:
            wall.up()
            first = wall.attach("attacker", netns=attacker.netns, expose=ATTACKER_PORTS)
            second = wall.attach("victim", netns=victim.netns, expose=VICTIM_PORTS)
            network = wall.settings.network
            gateway = Gateway(
                bridge=network.bridge,
                mac=mac_text(network.bridge_mac),
                ip4=str(network.gateway4),
                ip6=str(network.gateway6),
                link_local=str(network.gateway_link_local),
            )
            with lab_world(lab, seat(attacker, first), seat(victim, second), gateway, wall=wall) as world:
                yield Stage(lab, wall, world)


def seat(host: Host, endpoint: Endpoint) -> Seat:
    """Where an attached endpoint sits."""
    return Seat(
        host=host,
        mac=mac_text(endpoint.mac),
        ip4=str(endpoint.address4),
        ip6=str(endpoint.address6),
        port=endpoint.host_link,
        ifname=endpoint.key.ifname,
    )
