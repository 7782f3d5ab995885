"""The whole wall from its concerns."""

from ipaddress import ip_network
from typing import Literal

from cellwall.compile.bounds import bounds_of
from cellwall.compile.forward import forward_stages
from cellwall.compile.guard import guard_stages
from cellwall.compile.pins import frame_stages
from cellwall.compile.reports import with_subjects
from cellwall.compile.translate import translate_stages
from cellwall.compile.usage import Usage
from cellwall.compile.wall import OpenedService, Scene, Wall
from cellwall.model.addresses import PROTOCOL_NUMBERS, Prefix
from cellwall.model.facts import NodeFacts
from cellwall.model.floor import floor_prefixes, stranger_prefixes
from cellwall.model.settings import Opening, Settings


def compile_wall(settings: Settings, facts: NodeFacts, usage: Usage, *, uplink: str) -> Wall:
    """The wall of this node. `uplink` is the node interface in force (see `uplink_of`)."""
    routers: tuple[tuple[Literal[4, 6], bool], ...] = ((4, facts.forwarding4), (6, facts.forwarding6))
    floor4, floor6 = floor_prefixes(denied_prefixes(settings, facts))
    strangers4, strangers6 = stranger_prefixes(map(ip_network, settings.public_addresses))
    stages = (
        *frame_stages(),
        *guard_stages(bounds_of(settings), usage.policies),
        *forward_stages(
            bounds_of(settings),
            usage,
            settings.smtp,
            no_router=tuple(version for version, was_router in routers if not was_router),
        ),
        *translate_stages(settings.nat_ports, ranges=usage.ranges),
    )
    tells = settings.audit.log and facts.features.packet_log
    return Wall(
        scene=_scene(settings, uplink),
        stages=with_subjects(stages) if tells else stages,
        floor4=floor4,
        floor6=floor6,
        strangers4=strangers4,
        strangers6=strangers6,
        exceptions=_opened(settings.exceptions),
        services=_opened(settings.services),
        policies=usage.policies,
        reports=settings.audit if tells else None,
    )


def _scene(settings: Settings, uplink: str) -> Scene:
    network = settings.network
    return Scene(
        bridge=network.bridge,
        veth_prefix=network.veth_prefix,
        uplink=uplink,
        gateway_mac=network.bridge_mac,
        gateway4=network.gateway4,
        gateway6=network.gateway6,
        gateway_link_local=network.gateway_link_local,
        subnet4=network.subnet4,
        subnet6=network.subnet6,
        mark=settings.mark,
    )


def uplink_of(settings: Settings, facts: NodeFacts) -> str:
    """The node interface: configured, else the IPv4 default route's, else the IPv6 one's, else ""."""
    return settings.interface or facts.default4 or facts.default6


def ipv6_enabled(settings: Settings, facts: NodeFacts, *, carried: bool) -> bool:
    """Whether endpoints get IPv6: only where the kernel has it and what holds the wall can filter and translate it
    (`carried`)."""
    return settings.ipv6 != "off" and facts.features.ipv6 and carried


def denied_prefixes(settings: Settings, facts: NodeFacts) -> tuple[Prefix, ...]:
    """What this node adds to the floor: its addresses, its networks, their routers and what lies behind those that are
    not the Internet's, and what the operator named."""
    return (*facts.own_prefixes(settings.network.bridge, uplink_of(settings, facts)), *settings.denied)


def _opened(openings: tuple[Opening, ...]) -> tuple[OpenedService, ...]:
    services = {
        OpenedService(row.address.version, int(row.address), PROTOCOL_NUMBERS[row.protocol], row.port)
        for row in openings
    }
    return tuple(sorted(services))
