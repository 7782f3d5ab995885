"""What many rows share: products to run over, and builders of shots."""

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from cellwall.attack import frames
from cellwall.attack.probe import Episode, Layer, Open, Place, Shot
from cellwall.attack.world import Seat, World
from cellwall.errors import LabError

if TYPE_CHECKING:
    from cellwall.api import Wall

FAMILIES = (4, 6)
PROTOCOLS = ("udp", "tcp", "icmp")

Shots = Callable[[World, bytes], Iterable[Shot]]
Play = Callable[[World, bytes], bool]


def wall_of(w: World) -> "Wall":
    """The wall of a world that is ours; LabError where somebody else attached the two."""
    if w.wall is None:
        raise LabError("this node's wall is not cellwall's")
    return w.wall


def episode(
    name: str,
    title: str,
    stops: frozenset[Layer],
    play: Play,
    *,
    family: int | None = None,
    kernel: str = "",
    gentle: bool = False,
    needs: str = "",
    opens: frozenset[Open] = frozenset(),
    wall_only: bool = False,
) -> Episode:
    """An episode whose row is the first three letters of its name. `family`: what it needs, None: whatever there is;
    `wall_only`: it drives the wall itself."""
    return Episode(
        id=name,
        row=name[:3],
        title=title,
        layers=stops,
        play=play,
        families=frozenset() if family is None else frozenset({family}),
        kernel=kernel,
        gentle=gentle,
        needs=needs,
        opens=opens,
        wall_only=wall_only,
    )


def spanning_tree_root(w: World, token: bytes) -> bool:
    """Claim to be a better root; the bridge's root port tells."""
    body = bytes.fromhex("424203 0000 00 00 00") + bytes.fromhex("0000") + frames.mac_bytes(w.attacker.mac)
    body += bytes.fromhex("00000000 0000") + frames.mac_bytes(w.attacker.mac)
    body += bytes.fromhex("8001 0000 1400 0200 0f00")
    w.inject("attacker", [frames.frame(w.attacker.mac, "01:80:c2:00:00:00", body, kind=len(body))])
    shown = w.node.run(["ip", "-json", "-details", "link", "show", "dev", w.gateway.bridge]).stdout
    return bool(json.loads(shown)[0]["linkinfo"]["info_data"]["root_port"])


def introduce_victim(w: World) -> None:
    """The victim asks for the gateway, as hosts do: without permanent entries that is how the node learns of it."""
    introduce(w, "victim", w.victim)


def introduce(w: World, place: Place, seat: Seat) -> None:
    """A sandbox asks for the gateway."""
    ask = frames.arp(1, seat.mac, seat.ip4, "00:00:00:00:00:00", w.gateway.ip4)
    w.inject(place, [frames.frame(seat.mac, frames.BROADCAST, ask, kind=0x0806)])
    if 6 in w.families:
        w.inject(place, [solicitation(seat.mac, seat.mac, seat.ip6, w)])


def solicitation(outer: str, lladdr: str, source: str, w: World) -> bytes:
    """A solicitation for the gateway, from `source` at `lladdr` in a frame from `outer`."""
    s = frames.scapy()
    target = frames.solicited_group(w.gateway.ip6)
    body = (
        s.IPv6(src=source, dst=target, hlim=255)
        / s.ICMPv6ND_NS(tgt=w.gateway.ip6)
        / s.ICMPv6NDOptSrcLLAddr(lladdr=lladdr)
    )
    return frames.frame(outer, frames.group_mac(target), body)


def unique_mac(token: bytes) -> str:
    """A MAC that only this probe forges."""
    return "02:ad:" + bytes.fromhex(token[1:9].decode()).hex(":")


def unique_prefix(token: bytes) -> str:
    """An IPv6 /64 that only this probe advertises."""
    digits = token[1:9].decode()
    return f"2600:bad:{digits[:4]}:{digits[4:]}::"
