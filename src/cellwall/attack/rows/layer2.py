"""A01-A03, A11: IP to a neighbour past the gateway, by way of it, tagged, and under sources that are no sandbox's."""

from collections.abc import Iterator
from itertools import product

from cellwall.attack import frames
from cellwall.attack.frames import BROADCAST, SERVICE_VLAN, VLAN
from cellwall.attack.probe import Probe, layers
from cellwall.attack.rows.bridged import BRIDGED, broadcast, framed, gateways_mac, victims_mac
from cellwall.attack.rows.routed import Choose, attackers, between, by_gateway, fixed, victims, volley
from cellwall.attack.rows.shapes import FAMILIES, PROTOCOLS
from cellwall.attack.world import World

_TAGS = {
    "8021q-vid0": ((VLAN, 0),),
    "8021q-vid7": ((VLAN, 7),),
    "8021q-prio": ((VLAN, 0xE000),),
    "8021q-stacked": ((VLAN, 0), (VLAN, 0)),
    "8021ad-vid0": ((SERVICE_VLAN, 0),),
    "8021ad-8021q": ((SERVICE_VLAN, 0), (VLAN, 0)),
    "9100": ((0x9100, 0),),
}
_DELIVERED = ("8021q-vid0", "8021q-prio", "8021q-stacked", "8021ad-vid0", "8021ad-8021q")
"""Tags of which the kernel strips every one, VLAN id 0 being no VLAN, and hands the packet to its sockets."""


def _unicast() -> Iterator[Probe]:
    targets: dict[str, Choose] = {"unicast": victims_mac, "broadcast": broadcast, "group": fixed("01:00:5e:00:00:fb")}
    for family, protocol, (name, target) in product(FAMILIES, PROTOCOLS, targets.items()):
        yield volley(
            f"A01-{name}-{protocol}-v{family}",
            f"IPv{family} {protocol} to a neighbour on the bridge, {name} MAC",
            BRIDGED,
            framed(target, between(attackers(family), victims(family), protocol)),
            "victim",
            family=family,
        )


def _routed() -> Iterator[Probe]:
    protocols: tuple[str | int, ...] = (*PROTOCOLS, 47, 50)
    for family, protocol, (name, ttl) in product(FAMILIES, protocols, (("", 64), ("-ttl2", 2))):
        outside = family == 6 and isinstance(protocol, int)
        yield volley(
            f"A02-{protocol}{name}-v{family}",
            f"IPv{family} protocol {protocol} to a neighbour by way of the gateway",
            layers("PIN", "RAW", "FWD") if outside else layers("FWD"),
            by_gateway(between(attackers(family), victims(family), protocol, ttl=ttl)),
            "victim",
            family=family,
            gentle=True,
        )


def _tagged() -> Iterator[Probe]:
    for name, tags in _TAGS.items():
        for family in FAMILIES:
            yield volley(
                f"A03-{name}-bridged-v{family}",
                f"tagged {name} IPv{family} frame to a neighbour's MAC",
                BRIDGED,
                framed(victims_mac, between(attackers(family), victims(family), "udp"), tags=tags),
                "victim",
                family=family,
            )
        yield volley(
            f"A03-{name}-arp",
            f"tagged {name} ARP to a neighbour",
            BRIDGED,
            framed(victims_mac, _false_reply, kind=0x0806, tags=tags),
            "victim",
        )
    for name, family in product(_DELIVERED, FAMILIES):
        yield volley(
            f"A03-{name}-routed-v{family}",
            f"tagged {name} IPv{family} frame to a neighbour by way of the gateway",
            layers("PIN", "RAW", "FWD"),
            framed(gateways_mac, between(attackers(family), victims(family), "udp"), tags=_TAGS[name]),
            "victim",
            family=family,
            gentle=True,
        )


def _false_reply(w: World, token: bytes) -> bytes:
    return frames.arp(2, w.attacker.mac, w.gateway.ip4, w.victim.mac, w.victim.ip4) + token


_FORGED: dict[str, Choose] = {
    "bridge-mac": gateways_mac,
    "zero-mac": fixed("00:00:00:00:00:00"),
    "group-mac": fixed("01:00:5e:00:00:01"),
    "broadcast-mac": fixed(BROADCAST),
    "random-mac": fixed("02:f0:0d:00:00:01"),
}
_IMPOSSIBLE = ("zero-mac", "group-mac", "broadcast-mac")
"""The kernel itself never forwards a frame from a group address (net/bridge/br_input.c, br_handle_frame)."""


def _forged_macs() -> Iterator[Probe]:
    """A11: sources that confuse a learning bridge."""
    for name, source in _FORGED.items():
        yield volley(
            f"A11-from-{name}",
            f"frame to a neighbour, source {name}",
            BRIDGED,
            framed(victims_mac, between(attackers(4), victims(4), "udp"), source=source),
            "victim",
            kernel="the kernel drops frames from such a source" if name in _IMPOSSIBLE else "",
        )


PROBES: tuple[Probe, ...] = (*_unicast(), *_routed(), *_tagged(), *_forged_macs())
