"""D09: an address that had an owner before: nothing that was the former one's reaches the new one, nor the reverse.

What a detach forgets is the control plane's to forget; that it would not matter is the rules'. To show the latter, a
flow is made to survive: its mark, by which flows are purged, is hidden while the address changes hands. To show the
former, the table is looked at: that nothing of a flow is delivered would say nothing, since the rules see to it.
"""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from ipaddress import IPv4Address
from itertools import product
from typing import Any

import msgspec

from cellwall.attack.frames import frame, packet, scapy
from cellwall.attack.probe import Layer, Place, Probe, layers
from cellwall.attack.rows.routed import FAR, OUTSIDE, from_outside
from cellwall.attack.rows.shapes import FAMILIES, Play, episode, wall_of
from cellwall.attack.rows.windows import newcomer
from cellwall.attack.stage import seat
from cellwall.attack.world import Seat, World
from cellwall.errors import LabError
from cellwall.lab import Capture
from cellwall.lab.capture import one_cpu
from cellwall.model.endpoint import Endpoint

_ADDRESS = "192.168.9.60"
_INET = {4: socket.AF_INET, 6: socket.AF_INET6}
_SPORT, _DPORT, _PUBLISHED, _ANOTHER = 40090, 9090, 8444, 8445


class _Owner(msgspec.Struct, frozen=True):
    """Who holds the address, and what arrives there."""

    seat: Seat
    endpoint: Endpoint
    inside: Capture

    def received(self, token: bytes) -> bool:
        """Whether the token arrived since the last look; everything sent must have been settled."""
        return any(token in data for data in self.inside.drain())


@contextmanager
def _owner(w: World, *published: int) -> Iterator[_Owner]:
    """Whoever holds the address inside the block, or until it is detached, and publishes one port as these."""
    wall = wall_of(w)
    with newcomer(w) as host:
        ports = [f"{port}:{_DPORT}/{protocol}" for port in published for protocol in ("tcp", "udp")]
        endpoint = wall.attach(host.name, netns=host.netns, address4=IPv4Address(_ADDRESS), expose=ports)
        try:
            with host.capture("eth0", outgoing=False) as inside:
                yield _Owner(seat(host, endpoint), endpoint, inside)
        finally:
            wall.detach(host.name)


def _conntrack(w: World, verb: str, family: int, ends: list[str], *more: str) -> str:
    return w.node.run(["conntrack", verb, "-f", f"ipv{family}", "-p", "udp", *ends, *more]).text


# ---------------------------------------------------------------- flows


class _Flow(msgspec.Struct, frozen=True):
    """A flow of the former owner's: how it is found in the table, and what its far end says."""

    ends: list[str]
    speak: Callable[[bytes], None]


_Open = Callable[[World, _Owner, int], _Flow]


def _says(w: World, origin: Place, body: object) -> None:
    """One packet of a host around the node."""
    w.fire(from_outside(origin, lambda w, token: body)(w, b""))


def _outbound(w: World, owner: _Owner, family: int) -> _Flow:
    """To a server on the Internet."""
    source = owner.seat.ip(family)
    opening = packet(source, FAR[family], "udp", b"<opening>", sport=_SPORT, dport=_DPORT)
    w.observers.discard()
    owner.seat.host.inject("eth0", [frame(owner.seat.mac, w.gateway.mac, opening)])
    head = 14 + (20 if family == 4 else 40)
    sent = next(data for data in w.settle().seen["internet"] if b"<opening>" in data)
    port = int.from_bytes(sent[head : head + 2], "big")

    def speak(token: bytes) -> None:
        _says(w, "internet", packet(FAR[family], w.uplink(family), "udp", token, sport=_DPORT, dport=port))

    return _Flow(["--orig-src", source, "--sport", str(_SPORT)], speak)


def _inbound(w: World, owner: _Owner, family: int) -> _Flow:
    """From a client on the Internet, to a published port."""
    client = OUTSIDE["internet"][family]

    def speak(token: bytes) -> None:
        _says(w, "internet", packet(client, w.uplink(family), "udp", token, sport=_SPORT, dport=_PUBLISHED))

    speak(b"<opening>")
    return _Flow(["--orig-src", client, "--sport", str(_SPORT)], speak)


def _flows() -> Iterator[Probe]:
    kinds = (("flow", "a server answers on", _outbound), ("published", "a client goes on with", _inbound))
    for family, (name, title, open_flow), survives in product(FAMILIES, kinds, (False, True)):
        yield _episode(
            f"D09-{'surviving-' if survives else ''}{name}-v{family}",
            f"{title} a flow of the address's former owner{', which was not purged' if survives else ''}",
            family,
            layers("FWD" if survives else "CTL"),
            partial(_inherited, family=family, open_flow=open_flow, survives=survives),
        )


def _inherited(w: World, token: bytes, *, family: int, open_flow: _Open, survives: bool) -> bool:
    inbound = open_flow is _inbound
    with _owner(w, *([_PUBLISHED] if inbound else [])) as first:
        flow = open_flow(w, first, family)
        flow.speak(token)
        if not first.received(token):
            raise LabError("the flow does not reach its own owner")
        if survives:
            _conntrack(w, "-U", family, flow.ends, "--mark", "0")
    # By the same port, if it published that, the new owner would have a flow of its own with that client.
    with _owner(w, *([_PUBLISHED if survives else _ANOTHER] if inbound else [])) as second:
        if survives:
            _conntrack(w, "-U", family, flow.ends, "--mark", str(first.endpoint.generation))
        elif _conntrack(w, "-L", family, flow.ends):
            return True
        flow.speak(token)
        return second.received(token)


def _nodes_own() -> Iterator[Probe]:
    """A flow of the node's own to the former owner: its next packet is nobody's."""
    for family in FAMILIES:
        yield _episode(
            f"D09-surviving-nodes-v{family}",
            "the node goes on with a flow of its own to the address's former owner",
            family,
            layers("OUT"),
            partial(_inherited_of_node, family=family),
        )


def _inherited_of_node(w: World, token: bytes, *, family: int) -> bool:
    with w.node.socket(_INET[family], socket.SOCK_DGRAM) as sock:
        sock.bind((w.gateway.ip(family), _SPORT))
        return _inherited(w, token, family=family, open_flow=partial(_from_node, sock=sock), survives=True)


def _from_node(w: World, owner: _Owner, family: int, *, sock: socket.socket) -> _Flow:
    target = owner.seat.ip(family)

    def speak(token: bytes) -> None:
        w.observers.discard()
        with one_cpu(), suppress(PermissionError):  # a packet that is dropped on its way out
            sock.sendto(token, (target, _DPORT))
        w.settle()

    speak(b"<opening>")
    return _Flow(["--orig-dst", target, "--sport", str(_SPORT)], speak)


# ---------------------------------------------------------------- connections that were forgotten


def _amid() -> Iterator[Probe]:
    """What a peer sends again of a connection with the former owner: once that was purged, conntrack takes it for the
    beginning of another one (net.netfilter.nf_conntrack_tcp_loose), and it is data for somebody else."""
    title = "repeats a segment of a connection with the address's former owner"
    for family in FAMILIES:
        by_client, by_node = partial(_repeated_by_client, family=family), partial(_repeated_by_node, family=family)
        yield _episode(f"D09-amid-client-v{family}", f"a client {title}", family, layers("FWD"), by_client)
        yield _episode(f"D09-amid-node-v{family}", f"the node {title}", family, layers("OUT"), by_node)


def _repeated_by_client(w: World, token: bytes, *, family: int) -> bool:
    source, target = OUTSIDE["lan"][family], w.uplink(family)

    def send(flags: str, payload: bytes) -> None:
        _says(w, "lan", _segment(source, target, _PUBLISHED, flags, payload))

    return _delivered_late(w, token, send, _PUBLISHED)


def _repeated_by_node(w: World, token: bytes, *, family: int) -> bool:
    four = IPv4Address(_ADDRESS)
    target = str(four if family == 4 else wall_of(w).settings.network.address6(four))

    def send(flags: str, payload: bytes) -> None:
        segment = bytes(_segment(w.gateway.ip(family), target, _DPORT, flags, payload))
        w.observers.discard()
        with (
            w.node.socket(_INET[family], socket.SOCK_RAW, socket.IPPROTO_RAW) as sock,
            one_cpu(),
            suppress(PermissionError),  # a packet that is dropped on its way out
        ):
            sock.sendto(segment, (target, 0))
        w.settle()

    return _delivered_late(w, token, send)


def _segment(source: str, target: str, port: int, flags: str, payload: bytes) -> Any:
    segment = packet(source, target, "tcp", payload, sport=_SPORT, dport=port)
    segment[scapy().TCP].flags = flags
    return segment


def _delivered_late(w: World, token: bytes, send: Callable[[str, bytes], None], *published: int) -> bool:
    with _owner(w, *published) as first:
        send("S", b"<opening>")
        if not first.received(b"<opening>"):
            raise LabError("the connection does not reach its own owner")
    with _owner(w, *published) as second:
        send("PA", token)
        return second.received(token)


# ---------------------------------------------------------------- the former owner, and what it published


def _former() -> Iterator[Probe]:
    for family in FAMILIES:
        yield _episode(
            f"D09-former-sends-v{family}",
            "a container sends when its detach is done and its link still stands",
            family,
            layers("PIN", "RAW", "FWD") if family == 4 else layers("PIN", "FWD"),
            partial(_sends_detached, family=family),
        )
        yield _episode(
            f"D09-former-port-v{family}",
            "a port that the address's former owner published, and the new one publishes as another",
            family,
            layers("CTL"),
            partial(_asked_by_former_port, family=family),
        )


def _sends_detached(w: World, token: bytes, *, family: int) -> bool:
    with _owner(w) as first:
        wall_of(w).detach(first.seat.host.name)
        body = packet(first.seat.ip(family), FAR[family], "udp", token, dport=_DPORT)
        w.observers.discard()
        first.seat.host.inject("eth0", [frame(first.seat.mac, w.gateway.mac, body)])
        return w.settle().saw(token, "internet")


def _asked_by_former_port(w: World, token: bytes, *, family: int) -> bool:
    def ask(number: int) -> None:
        source, target = OUTSIDE["internet"][family], w.uplink(family)
        _says(w, "internet", packet(source, target, "udp", token, sport=_SPORT + number, dport=_PUBLISHED))

    with _owner(w, _PUBLISHED) as first:
        ask(1)
        if not first.received(token):
            raise LabError("a published port does not reach its own owner")
    with _owner(w, _ANOTHER) as second:
        ask(2)
        return second.received(token)


def _episode(name: str, title: str, family: int, stops: frozenset[Layer], play: Play) -> Probe:
    def afresh(w: World, token: bytes) -> bool:
        w.node.run(["conntrack", "-F"])  # flows of an earlier probe, or run, have the same ends
        return play(w, token)

    return episode(name, f"{title}, IPv{family}", stops, afresh, family=family, wall_only=True)


PROBES: tuple[Probe, ...] = (*_flows(), *_nodes_own(), *_amid(), *_former())
