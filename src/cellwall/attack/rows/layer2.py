"""A01-A05, A09, A11, A14: frames that have no business on a container's link."""

from collections.abc import Callable, Iterator

from cellwall.attack import frames
from cellwall.attack.frames import BROADCAST, SERVICE_VLAN, VLAN, Tags, frame, packet
from cellwall.attack.probe import Episode, Probe, Shot, Volley, layers
from cellwall.attack.rows.shapes import FAMILIES, PROTOCOLS, Shots, from_attacker, spanning_tree_root
from cellwall.attack.world import World

Wrap = Callable[[bytes], tuple[int | None, bytes]]
"""An IP packet → EtherType (None: an 802.3 length) and body."""

_BRIDGED = layers("PIN", "PORT")
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


def _unicast() -> Iterator[Probe]:
    for family in FAMILIES:
        for protocol in PROTOCOLS:
            for name, target in (("unicast", ""), ("broadcast", BROADCAST), ("group", "01:00:5e:00:00:fb")):

                def shots(
                    w: World, token: bytes, family: int = family, protocol: str = protocol, target: str = target
                ) -> Iterator[Shot]:
                    body = packet(w.attacker.ip(family), w.victim.ip(family), protocol, token)
                    yield Shot("attacker", frame(w.attacker.mac, target or w.victim.mac, body))

                yield Volley(
                    id=f"A01-{name}-{protocol}-v{family}",
                    row="A01",
                    title=f"IPv{family} {protocol} to a neighbour on the bridge, {name} MAC",
                    layers=_BRIDGED,
                    families=frozenset({family}),
                    shots=shots,
                    at=("victim",),
                )


def _routed() -> Iterator[Probe]:
    for family in FAMILIES:
        for protocol in (*PROTOCOLS, 47, 50):
            for name, ttl in (("", 64), ("-ttl2", 2)):

                def body(
                    w: World, token: bytes, family: int = family, protocol: str | int = protocol, ttl: int = ttl
                ) -> bytes:
                    return bytes(packet(w.attacker.ip(family), w.victim.ip(family), protocol, token, ttl=ttl))

                outside = family == 6 and isinstance(protocol, int)
                yield Volley(
                    id=f"A02-{protocol}{name}-v{family}",
                    row="A02",
                    title=f"IPv{family} protocol {protocol} to a neighbour by way of the gateway",
                    layers=layers("PIN", "RAW", "FWD") if outside else layers("FWD"),
                    families=frozenset({family}),
                    shots=from_attacker(body),
                    at=("victim",),
                    gentle=True,
                )


def _tagged() -> Iterator[Probe]:
    for name, tags in _TAGS.items():
        for family in FAMILIES:
            yield Volley(
                id=f"A03-{name}-bridged-v{family}",
                row="A03",
                title=f"tagged {name} IPv{family} frame to a neighbour's MAC",
                layers=_BRIDGED,
                families=frozenset({family}),
                shots=_tagged_shots(tags, family, bridged=True),
                at=("victim",),
            )
        yield Volley(
            id=f"A03-{name}-arp",
            row="A03",
            title=f"tagged {name} ARP to a neighbour",
            layers=_BRIDGED,
            shots=_tagged_arp(tags),
            at=("victim",),
        )
    for name in _DELIVERED:
        for family in FAMILIES:
            yield Volley(
                id=f"A03-{name}-routed-v{family}",
                row="A03",
                title=f"tagged {name} IPv{family} frame to a neighbour by way of the gateway",
                layers=layers("PIN", "RAW", "FWD"),
                families=frozenset({family}),
                shots=_tagged_shots(_TAGS[name], family, bridged=False),
                at=("victim",),
                gentle=True,
            )


def _tagged_shots(tags: Tags, family: int, *, bridged: bool) -> Shots:
    def shots(w: World, token: bytes) -> Iterator[Shot]:
        body = packet(w.attacker.ip(family), w.victim.ip(family), "udp", token)
        target = w.victim.mac if bridged else w.gateway.mac
        yield Shot("attacker", frame(w.attacker.mac, target, body, tags=tags))

    return shots


def _tagged_arp(tags: Tags) -> Shots:
    def shots(w: World, token: bytes) -> Iterator[Shot]:
        body = frames.arp(2, w.attacker.mac, w.gateway.ip4, w.victim.mac, w.victim.ip4) + token
        yield Shot("attacker", frame(w.attacker.mac, w.victim.mac, body, kind=0x0806, tags=tags))

    return shots


def _ethertypes() -> Iterator[Probe]:
    for name, kind in _ETHERTYPES.items():
        for place in ("neighbour", "broadcast", "node"):

            def shots(w: World, token: bytes, kind: int = kind, place: str = place) -> Iterator[Shot]:
                target = {"neighbour": w.victim.mac, "broadcast": BROADCAST, "node": w.gateway.mac}[place]
                yield Shot("attacker", frame(w.attacker.mac, target, token, kind=kind))

            yield Volley(
                id=f"A04-{name}-{place}",
                row="A04",
                title=f"{name} frame to {place}",
                layers=layers("PIN") if place == "node" else _BRIDGED,
                shots=shots,
                at=("bridge",) if place == "node" else ("victim",),
            )
    yield from _encapsulated()


def _encapsulated() -> Iterator[Probe]:
    """IP behind headers that a filter by EtherType does not look into."""

    def snap(body: bytes) -> bytes:
        return bytes.fromhex("aaaa03000000") + (0x0800).to_bytes(2, "big") + body

    wraps: dict[str, Wrap] = {
        "llc-snap-ip": lambda body: (None, snap(body)),
        "llc-ip": lambda body: (None, bytes.fromhex("060603") + body),
        "pppoe-ip": lambda body: (0x8864, bytes.fromhex("11000001") + len(body).to_bytes(2, "big") + b"\0\x21" + body),
        "mpls-ip": lambda body: (0x8847, bytes.fromhex("00010140") + body),
    }
    for name, wrap in wraps.items():
        for place in ("neighbour", "node"):

            def shots(w: World, token: bytes, wrap: Wrap = wrap, place: str = place) -> Iterator[Shot]:
                kind, body = wrap(bytes(packet(w.attacker.ip4, w.victim.ip4, "udp", token)))
                target = w.victim.mac if place == "neighbour" else w.gateway.mac
                yield Shot("attacker", frame(w.attacker.mac, target, body, kind=len(body) if kind is None else kind))

            yield Volley(
                id=f"A04-{name}-{place}",
                row="A04",
                title=f"{name} to {place}",
                layers=layers("PIN") if place == "node" else _BRIDGED,
                shots=shots,
                at=("bridge",) if place == "node" else ("victim",),
            )


def _reserved() -> Iterator[Probe]:
    for name, (group, kind) in _RESERVED.items():
        for place in ("node", "neighbour"):

            def shots(
                w: World, token: bytes, group: str = group, kind: int = kind, place: str = place
            ) -> Iterator[Shot]:
                yield Shot(
                    "attacker", frame(w.attacker.mac, group if place == "node" else w.victim.mac, token, kind=kind)
                )

            yield Volley(
                id=f"A05-{name}-{place}",
                row="A05",
                title=f"{name} to {'its group: a daemon of the node' if place == 'node' else 'a neighbour'}",
                layers=layers("PIN", "PORT") if name == "lldp" or place != "node" else layers("PIN"),
                together=name == "lldp" and place == "node",
                shots=shots,
                at=("daemon",) if place == "node" else ("victim",),
            )


def _bridge_protocols() -> Iterator[Probe]:
    for name, target in (("stp", "01:80:c2:00:00:00"), ("pvst", "01:00:0c:cc:cc:cd"), ("cdp", "01:00:0c:cc:cc:cc")):

        def bpdu(w: World, token: bytes, target: str = target) -> Iterator[Shot]:
            body = bytes.fromhex("424203") + bytes(35) + token
            yield Shot("attacker", frame(w.attacker.mac, target, body, kind=len(body)))

        yield Volley(
            id=f"A05-{name}-neighbour",
            row="A05",
            title=f"{name} frame flooded to the neighbours",
            layers=_BRIDGED,
            shots=bpdu,
            at=("victim",),
        )
    yield Episode(
        id="A05-stp-root",
        row="A05",
        title="a BPDU of priority 0 makes the container the root of the spanning tree",
        layers=layers("PORT"),
        opens=frozenset({"stp"}),
        play=spanning_tree_root,
    )


def _announcements() -> Iterator[Probe]:
    """The protocols by which hosts find each other and are given addresses."""
    for name, (group, sport, dport) in _DATAGRAMS.items():
        for place in ("neighbour", "node"):

            def shots(
                w: World, token: bytes, group: str = group, sport: int = sport, dport: int = dport
            ) -> Iterator[Shot]:
                v6 = ":" in group
                target = frames.group_mac(group) if v6 or group.startswith(("224", "239")) else BROADCAST
                body = packet(w.attacker.ip(6 if v6 else 4), group, "udp", token, sport=sport, dport=dport)
                yield Shot("attacker", frame(w.attacker.mac, target, body))

            yield Volley(
                id=f"A09-{name}-{place}",
                row="A09",
                title=f"{name} to {place}",
                layers=_BRIDGED if place == "neighbour" else layers("PIN"),
                families=frozenset({6 if ":" in group else 4}),
                shots=shots,
                at=("victim",) if place == "neighbour" else ("bridge",),
            )


def _memberships() -> Iterator[Probe]:
    for name, group, protocol in (("igmp", "224.0.0.22", 2), ("pim", "224.0.0.13", 103), ("vrrp", "224.0.0.18", 112)):

        def member(w: World, token: bytes, group: str = group, protocol: int = protocol) -> Iterator[Shot]:
            body = packet(w.attacker.ip4, group, protocol, token, ttl=1)
            yield Shot("attacker", frame(w.attacker.mac, frames.group_mac(group), body))

        yield Volley(
            id=f"A09-{name}",
            row="A09",
            title=f"{name} to its group",
            layers=layers("PIN"),
            shots=member,
            at=("bridge",),
        )


def _forged_macs() -> Iterator[Probe]:
    """A11: sources and destinations that confuse a learning bridge."""
    forged: dict[str, Callable[[World], str]] = {
        "bridge-mac": lambda w: w.gateway.mac,
        "zero-mac": lambda w: "00:00:00:00:00:00",
        "group-mac": lambda w: "01:00:5e:00:00:01",
        "broadcast-mac": lambda w: BROADCAST,
        "random-mac": lambda w: "02:f0:0d:00:00:01",
    }
    for name, choose in forged.items():

        def shots(w: World, token: bytes, choose: Callable[[World], str] = choose) -> Iterator[Shot]:
            body = packet(w.attacker.ip4, w.victim.ip4, "udp", token)
            yield Shot("attacker", frame(choose(w), w.victim.mac, body))

        # The kernel itself never forwards a frame from a group address (net/bridge/br_input.c, br_handle_frame).
        impossible = (
            "the kernel drops frames from such a source" if name in ("zero-mac", "group-mac", "broadcast-mac") else ""
        )
        yield Volley(
            id=f"A11-from-{name}",
            row="A11",
            title=f"frame to a neighbour, source {name}",
            layers=_BRIDGED,
            kernel=impossible,
            shots=shots,
            at=("victim",),
        )


PROBES: tuple[Probe, ...] = (
    *_unicast(),
    *_routed(),
    *_tagged(),
    *_ethertypes(),
    *_reserved(),
    *_bridge_protocols(),
    *_announcements(),
    *_memberships(),
    *_forged_macs(),
)
