"""Attacks on a live node, from two throw-away sandboxes, with what cannot disturb anybody.

Runs the gentle probes only: the attacker and the victim send and are sent to, nobody else's address is a source or a
target, and the node's settings stay as they are. Looks at the links of the two, at what the node itself receives from
its bridge, and at what leaves by the default interface, which is not made promiscuous. No controls: taking a layer of a
live wall away is no test but an outage.

Two sentinels, because nothing that is awaited may overtake a probe: the gateway's refusal of a connection takes as many
links as anything that goes to a sandbox, and no limit holds it back; a datagram that dies at the next hop leaves as
everything leaves.
"""

import os
import secrets
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import msgspec

from cellwall.adapters.sandbox.owners import claim
from cellwall.api import AttachRequest, EndpointKey, Wall
from cellwall.attack import frames
from cellwall.attack.ground import places
from cellwall.attack.observers import View
from cellwall.attack.probe import Place, Probe
from cellwall.attack.stage import gateway_of, seat
from cellwall.attack.world import Ground, Sentinel, World
from cellwall.engine.site import Foundation
from cellwall.errors import Conflict
from cellwall.lab import Host
from cellwall.lab.custody import Custody
from cellwall.model.addresses import Address, Prefix
from cellwall.model.facts import NodeFacts

_REFUSED = 45001
_FAR = "151.101.1.69"
_TWO_HOPS = 2  # the node takes one, the next router is the last that sees it


def gentle(probes: Sequence[Probe]) -> tuple[Probe, ...]:
    """Those that cannot disturb anybody on a live node."""
    return tuple(probe for probe in probes if probe.gentle)


@contextmanager
def live_world(root: str | None) -> Iterator[World]:
    """Two sandboxes on the node of the calling thread; they are gone afterwards. Conflict where the wall is not up."""
    custody = Custody()
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        kernel6 = Path("/proc/sys/net/ipv6").exists()  # not with ipv6.disable=1, where there are no sockets for it
        node = Host("node", Path(f"/proc/self/fd/{here}"), custody, ipv6=kernel6)
        with Wall.open(root=root) as wall, _sandboxes(wall) as names, _seated(wall, names, node, custody) as world:
            yield world
    finally:
        custody.close()
        os.close(here)


@contextmanager
def _sandboxes(wall: Wall) -> Iterator[tuple[str, str]]:
    site = wall._site  # what `up` decided is no part of the API, and an attack that would start a wall is none
    if site.foundation() is None:
        raise Conflict("the wall of this node is not up: there is nothing to attack")
    run = secrets.token_hex(3)
    names = (f"attack-{run}-attacker", f"attack-{run}-victim")
    # Claimed: what a killed attack leaves, the next reconcile detaches.
    owners = [claim(wall.paths.run, name) for name in names]
    try:
        wall.attach_many([AttachRequest(name) for name in names])
        yield names
    finally:
        wall.detach_many([EndpointKey(name, "eth0") for name in names])
        for owner in owners:
            owner.forget()


@contextmanager
def _seated(wall: Wall, names: Sequence[str], node: Host, custody: Custody) -> Iterator[World]:
    attacker, victim = (
        seat(Host(name, Path(endpoint.netns), custody), endpoint)
        for name, endpoint in ((name, wall.endpoint(name)) for name in names)
    )
    gateway = gateway_of(wall.settings)
    found = wall._site.foundation()
    assert found is not None
    views: dict[Place, View] = {
        "attacker": View(attacker.host, attacker.ifname),
        "victim": View(victim.host, victim.ifname),
    }

    def refused(number: int) -> tuple[bytes, bytes]:
        asked = frames.ip(attacker.ip4, gateway.ip4) / frames.scapy().TCP(
            sport=_REFUSED, dport=9, flags="S", seq=number
        )
        # From the destination port on: the reset repeats neither payload nor sequence, it acknowledges.
        answer = struct.pack("!HII", _REFUSED, 0, number + 1)
        return frames.frame(attacker.mac, gateway.mac, asked), answer

    def leaving(number: int) -> tuple[bytes, bytes]:
        token = b"<sentinel-%d>" % number
        body = frames.packet(attacker.ip4, _FAR, "udp", token, sport=45000, dport=9, ttl=_TWO_HOPS)
        return frames.frame(attacker.mac, gateway.mac, body), token

    sentinels: dict[Place, Sentinel] = {"attacker": refused}
    facts = wall._site.node.observe()
    if facts.default4 == found.uplink:
        views["internet"] = View(node, found.uplink, outgoing=True)
        sentinels["internet"] = leaving
    families = frozenset({4, 6}) if attacker.ip6 else frozenset({4})
    ground = Ground(
        node, views, *_addresses(facts, found.uplink), sentinels, _around(wall, found, facts, node), gateway.bridge
    )
    with World(ground, attacker, victim, gateway, families, wall=wall) as world:
        yield world


def _addresses(facts: NodeFacts, link: str) -> tuple[str, str]:
    return _pair(ip_interface(row.address).ip for row in facts.addresses if row.interface == link)


def _around(wall: Wall, found: Foundation, facts: NodeFacts, node: Host) -> dict[str, tuple[str, str]]:
    """What this node has of the addresses that probes know by name."""
    named = places(_pair(wall.settings.public_addresses), _pair(wall.settings.protect))
    links = dict.fromkeys(row.interface for row in facts.addresses)
    others = [name for name in links if name not in ("lo", found.uplink, found.bridge)]
    for name, link in zip(("node-infra", "node-other-bridge"), others, strict=False):
        named[name] = _addresses(facts, link)
    named["router"] = (_router(node, found.uplink, "-4"), _router(node, found.uplink, "-6"))
    return named


def _pair(values: Iterable[Address | Prefix]) -> tuple[str, str]:
    """The first of each family that is no link-local one."""
    found = {value.version: str(value) for value in reversed(tuple(values)) if not value.is_link_local}
    return found.get(4, ""), found.get(6, "")


def _router(node: Host, uplink: str, family: str) -> str:
    shown = node.run(["ip", "-json", family, "route", "show", "default", "dev", uplink]).stdout
    routes = msgspec.json.decode(shown or b"[]", type=list[dict[str, Any]])
    gateways = [route["gateway"] for route in routes if "gateway" in route]
    return next((gateway for gateway in gateways if not gateway.startswith("fe80")), "")
