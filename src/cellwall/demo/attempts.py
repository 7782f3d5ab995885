"""What a hostile tenant, root in its container, tries; and a hostile neighbour of the node.

Each attempt is judged by its victim: a server that recorded a visitor, an interface that captured the token, the node's
neighbour table. Captures end at a sentinel, an honest packet sent after the forged one, so "it saw nothing" is never
"it did not wait". The attempts know nothing of walls: the same code runs against a node without one.
"""

import os
from collections.abc import Callable

import msgspec

from cellwall.demo.frames import arp_announcement, udp_frame
from cellwall.demo.servers import Page, WebServer, fetch
from cellwall.demo.town import DATABASE_PORT, ECHO_PORT, SSH_PORT, Cast
from cellwall.errors import LabError
from cellwall.lab import Host, connect, ping
from cellwall.lab.addresses import INFRA4, METADATA4, METADATA6, NODE4, NODE6, PUBLIC4, SPECIAL4
from cellwall.model.addresses import mac_text

_IAM = "/latest/meta-data/iam"
_PATIENCE = 0.5
_SILENT = "the database's interface saw nothing"


class Outcome(msgspec.Struct, frozen=True):
    """`through`: the victim saw it."""

    through: bool
    happened: str


class Attempt(msgspec.Struct, frozen=True):
    """A line of the story, and what it does."""

    title: str
    run: Callable[[Cast], Outcome]


def _visit(server: WebServer, visitor: Host, address: str, port: int, path: str) -> Outcome:
    before = len(server.visitors)
    page: Page = fetch(visitor, address, port, path, timeout=_PATIENCE)
    through = len(server.visitors) > before
    return Outcome(through, f"answered: {page.text}" if through else f"{page.failure}; the server saw nobody")


def _database4(cast: Cast) -> Outcome:
    return _visit(cast.town.database, cast.attacker.host, str(cast.victim.address4), DATABASE_PORT, "/customers")


def _database6(cast: Cast) -> Outcome:
    return _visit(cast.town.database, cast.attacker.host, str(cast.victim.address6), DATABASE_PORT, "/customers")


def _frame_to_neighbour(cast: Cast) -> Outcome:
    """Past the gateway: the frame carries the neighbour's own MAC."""
    token, attacker, victim = os.urandom(8), cast.attacker, cast.victim
    frame = udp_frame(attacker.mac, victim.mac, attacker.address4, str(victim.address4), 4000, token)
    with victim.host.capture("eth0", outgoing=False) as capture:
        attacker.host.inject("eth0", [frame])
        seen = any(token in entry for entry in capture.read_until(_honest(cast, victim.host)))
    return Outcome(seen, "the database's interface received it" if seen else _SILENT)


def _spoofed_source(cast: Cast) -> Outcome:
    """As if the neighbour had sent it."""
    token, attacker = os.urandom(8), cast.attacker
    frame = udp_frame(attacker.mac, cast.gateway_mac, cast.victim.address4, PUBLIC4[2], 4000, token)
    with cast.town.lab.internet.capture("eth0", outgoing=False) as capture:
        attacker.host.inject("eth0", [frame])
        seen = any(token in entry for entry in capture.read_until(_honest(cast, attacker.host)))
    return Outcome(seen, "arrived on the Internet" if seen else "no capture saw it leave the node")


def _poison(cast: Cast) -> Outcome:
    """Traffic of the node to the victim would from then on be the attacker's."""
    node, attacker, victim = cast.town.lab.node, cast.attacker, cast.victim
    ping(victim.host, str(cast.gateway4))  # so that the node has an entry to poison
    attacker.host.inject("eth0", [arp_announcement(attacker.mac, cast.gateway_mac, victim.address4)])
    _honest(cast, attacker.host)
    now = node.neighbours().get(str(victim.address4), "nobody")
    through = now == mac_text(attacker.mac)
    return Outcome(through, f"the node now sends it to {now}" if through else f"for the node it is still at {now}")


def _ssh(address: Callable[[Cast], str]) -> Callable[[Cast], Outcome]:
    def knock(cast: Cast) -> Outcome:
        before = len(cast.town.ssh.accepted)
        answer = connect(cast.attacker.host, address(cast), SSH_PORT, timeout=_PATIENCE)
        through = len(cast.town.ssh.accepted) > before
        return Outcome(through, "connected" if through else f"{answer.kind}; the service saw nobody")

    return knock


def _metadata4(cast: Cast) -> Outcome:
    return _visit(cast.town.cloud, cast.attacker.host, METADATA4["all clouds"], 80, _IAM)


def _metadata6(cast: Cast) -> Outcome:
    return _visit(cast.town.cloud, cast.attacker.host, METADATA6["AWS"], 80, _IAM)


def _office(cast: Cast) -> Outcome:
    return _visit(cast.town.office, cast.attacker.host, INFRA4, 80, "/")


def _private(cast: Cast) -> Outcome:
    return _visit(cast.town.cloud, cast.attacker.host, SPECIAL4["10.0.0.0/8"], 80, "/")


def _from_outside(cast: Cast) -> Outcome:
    """No port of the database is published; the neighbour on the LAN uses the node as a router."""
    lan, subnet = cast.town.lab.lan, f"{cast.victim.address4}/32"
    lan.run(["ip", "route", "replace", subnet, "via", NODE4])
    try:
        return _visit(cast.town.database, lan, str(cast.victim.address4), DATABASE_PORT, "/customers")
    finally:
        lan.run(["ip", "route", "delete", subnet])


def _honest(cast: Cast, sender: Host) -> bytes:
    """An honest datagram to the Internet and back: what was sent before it has arrived by now, or never will."""
    sentinel = os.urandom(12)
    if not connect(sender, PUBLIC4[2], ECHO_PORT, udp=True, payload=sentinel, timeout=2.0):
        raise LabError(f"{sender.name} has no way to the Internet")
    return sentinel


ATTEMPTS = (
    Attempt("asks umbrella's database, as any client would", _database4),
    Attempt("asks it over IPv6", _database6),
    Attempt("writes a frame straight to the database's MAC, past the gateway", _frame_to_neighbour),
    Attempt("sends to the Internet in the name of umbrella's address", _spoofed_source),
    Attempt("knocks at the node's SSH port on the gateway's address", _ssh(lambda cast: str(cast.gateway4))),
    Attempt("knocks at it on the node's public address", _ssh(lambda _: NODE4)),
    Attempt("knocks at it on the node's public IPv6 address", _ssh(lambda _: NODE6)),
    Attempt(f"asks {METADATA4['all clouds']} for the node's cloud credentials", _metadata4),
    Attempt(f"asks {METADATA6['AWS']}, the same over IPv6", _metadata6),
    Attempt(f"asks a server behind the node's second interface ({INFRA4})", _office),
    Attempt(f"asks a private server that the uplink leads to ({SPECIAL4['10.0.0.0/8']})", _private),
    Attempt("(its friend on the LAN) routes through the node to the database", _from_outside),
    Attempt("announces by ARP that umbrella's address is its own", _poison),
)
