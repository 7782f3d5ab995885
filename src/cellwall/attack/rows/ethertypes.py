"""A04, A05, A09: what has no business on a container's link: other EtherTypes, protocols of the link layer, and those
by which hosts find each other and are given addresses."""

from collections.abc import Callable, Iterator
from itertools import product

from cellwall.attack import frames
from cellwall.attack.frames import BROADCAST
from cellwall.attack.probe import Layer, Place, Probe, layers
from cellwall.attack.rows.bridged import BRIDGED, broadcast, framed, framed_by_length, gateways_mac, victims_mac
from cellwall.attack.rows.routed import Body, Choose, attackers, between, fixed, victims, volley
from cellwall.attack.rows.shapes import episode, spanning_tree_root
from cellwall.attack.world import World

_ETHERTYPES = {
    "pppoe-discovery": 0x8863,
    "pppoe-session": 0x8864,
    "mpls": 0x8847,
    "mpls-multicast": 0x8848,
    "rarp": 0x8035,
    "wake-on-lan": 0x0842,
    "profinet": 0x8892,
    "aoe": 0x88A2,
    "macsec": 0x88E5,
    "ptp": 0x88F7,
    "fcoe": 0x8906,
    "hsr": 0x892F,
    "nsh": 0x894F,
    "tipc": 0x88CA,
    "batman": 0x4305,
    "loopback": 0x9000,
    "experimental": 0x88B5,
    "ipx": 0x8137,
    "trill": 0x22F3,
    "zero-type": 0x0600,
}
_RESERVED = {
    "eapol": ("01:80:c2:00:00:03", 0x888E),
    "lldp": ("01:80:c2:00:00:0e", 0x88CC),
    "lldp-customer": ("01:80:c2:00:00:03", 0x88CC),
    "lacp": ("01:80:c2:00:00:02", 0x8809),
}
_FLOODED = {"stp": "01:80:c2:00:00:00", "pvst": "01:00:0c:cc:cc:cd", "cdp": "01:00:0c:cc:cc:cc"}

_DATAGRAMS = {
    "dhcp-offer": ("255.255.255.255", 67, 68),
    "dhcp-discover": ("255.255.255.255", 68, 67),
    "mdns": ("224.0.0.251", 5353, 5353),
    "llmnr": ("224.0.0.252", 5355, 5355),
    "ssdp": ("239.255.255.250", 1900, 1900),
    "netbios": ("192.168.15.255", 137, 137),
    "mdns6": ("ff02::fb", 5353, 5353),
    "llmnr6": ("ff02::1:3", 5355, 5355),
    "dhcpv6-advertise": ("ff02::1", 547, 546),
    "dhcpv6-solicit": ("ff02::1:2", 546, 547),
    "ssdp6": ("ff02::c", 1900, 1900),
}
"""Name → group, source port, destination port."""

_MEMBERSHIPS = {"igmp": ("224.0.0.22", 2), "pim": ("224.0.0.13", 103), "vrrp": ("224.0.0.18", 112)}

_SEEN: dict[str, tuple[frozenset[Layer], Place]] = {
    "neighbour": (BRIDGED, "victim"),
    "broadcast": (BRIDGED, "victim"),
    "node": (layers("PIN"), "bridge"),
}
"""Where a frame goes → what stops it, and where it would be seen."""


def _token(w: World, token: bytes) -> bytes:
    return token


# ---------------------------------------------------------------- A04: other EtherTypes


def _ethertypes() -> Iterator[Probe]:
    targets: dict[str, Choose] = {"neighbour": victims_mac, "broadcast": broadcast, "node": gateways_mac}
    for (name, kind), (place, target) in product(_ETHERTYPES.items(), targets.items()):
        stops, where = _SEEN[place]
        yield volley(f"A04-{name}-{place}", f"{name} frame to {place}", stops, framed(target, _token, kind=kind), where)


def _encapsulated() -> Iterator[Probe]:
    """IP behind headers that a filter by EtherType does not look into. Without one: an 802.3 length."""
    snap = bytes.fromhex("aaaa03000000") + (0x0800).to_bytes(2, "big")
    wraps: dict[str, tuple[int | None, Callable[[bytes], bytes]]] = {
        "llc-snap-ip": (None, lambda body: snap + body),
        "llc-ip": (None, lambda body: bytes.fromhex("060603") + body),
        "pppoe-ip": (0x8864, lambda body: bytes.fromhex("11000001") + len(body).to_bytes(2, "big") + b"\0\x21" + body),
        "mpls-ip": (0x8847, lambda body: bytes.fromhex("00010140") + body),
    }
    targets: dict[str, Choose] = {"neighbour": victims_mac, "node": gateways_mac}
    for (name, (kind, wrap)), (place, target) in product(wraps.items(), targets.items()):
        body, (stops, where) = _wrapped(wrap), _SEEN[place]
        shots = framed_by_length(target, body) if kind is None else framed(target, body, kind=kind)
        yield volley(f"A04-{name}-{place}", f"{name} to {place}", stops, shots, where)


def _wrapped(wrap: Callable[[bytes], bytes]) -> Body:
    inner = between(attackers(4), victims(4), "udp")
    return lambda w, token: wrap(bytes(inner(w, token)))


# ---------------------------------------------------------------- A05: protocols of the link layer


def _reserved() -> Iterator[Probe]:
    for (name, (group, kind)), to_group in product(_RESERVED.items(), (True, False)):
        flooded = name == "lldp" or not to_group
        yield volley(
            f"A05-{name}-{'node' if to_group else 'neighbour'}",
            f"{name} to {'its group: a daemon of the node' if to_group else 'a neighbour'}",
            BRIDGED if flooded else layers("PIN"),
            framed(fixed(group) if to_group else victims_mac, _token, kind=kind),
            "daemon" if to_group else "victim",
            together=name == "lldp" and to_group,
        )


def _bridge_protocols() -> Iterator[Probe]:
    for name, group in _FLOODED.items():
        yield volley(
            f"A05-{name}-neighbour",
            f"{name} frame flooded to the neighbours",
            BRIDGED,
            framed_by_length(fixed(group), lambda w, token: bytes.fromhex("424203") + bytes(35) + token),
            "victim",
        )
    yield episode(
        "A05-stp-root",
        "a BPDU of priority 0 makes the container the root of the spanning tree",
        layers("PORT"),
        spanning_tree_root,
        opens=frozenset({"stp"}),
    )


# ---------------------------------------------------------------- A09: announcements


def _announcements() -> Iterator[Probe]:
    for (name, (group, sport, dport)), place in product(_DATAGRAMS.items(), ("neighbour", "node")):
        family = 6 if ":" in group else 4
        multicast = family == 6 or group.startswith(("224", "239"))
        stops, where = _SEEN[place]
        yield volley(
            f"A09-{name}-{place}",
            f"{name} to {place}",
            stops,
            framed(
                fixed(frames.group_mac(group) if multicast else BROADCAST),
                between(attackers(family), fixed(group), "udp", sport=sport, dport=dport),
            ),
            where,
            family=family,
        )


def _memberships() -> Iterator[Probe]:
    for name, (group, protocol) in _MEMBERSHIPS.items():
        body = between(attackers(4), fixed(group), protocol, ttl=1)
        shots = framed(fixed(frames.group_mac(group)), body)
        yield volley(f"A09-{name}", f"{name} to its group", layers("PIN"), shots, "bridge")


PROBES: tuple[Probe, ...] = (
    *_ethertypes(),
    *_encapsulated(),
    *_reserved(),
    *_bridge_protocols(),
    *_announcements(),
    *_memberships(),
)
