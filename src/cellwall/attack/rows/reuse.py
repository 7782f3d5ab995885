"""D09: an address that had an owner before: nothing that was the former one's reaches the new one, nor the reverse.

What a detach forgets is the control plane's to forget; that it would not matter is the rules'. To show the latter, a
flow is made to survive: its mark, by which flows are purged, is hidden while the address changes hands.
"""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address

import msgspec

from cellwall.api import Wall
from cellwall.attack.frames import frame, packet
from cellwall.attack.probe import Episode, Layer, Probe, layers
from cellwall.attack.rows.routed import FAR, OUTSIDE, from_outside
from cellwall.attack.rows.shapes import FAMILIES
from cellwall.attack.rows.windows import newcomer
from cellwall.attack.stage import seat
from cellwall.attack.wire import one_cpu
from cellwall.attack.world import Seat, World
from cellwall.errors import LabError
from cellwall.lab import Capture
from cellwall.model.endpoint import Endpoint

_ADDRESS = "192.168.9.60"
_SPORT, _DPORT, _PUBLISHED = 40090, 9090, 8444


class _Owner(msgspec.Struct, frozen=True):
    """Who holds the address, and what arrives there."""

    seat: Seat
    endpoint: Endpoint
    inside: Capture

    def received(self, token: bytes) -> bool:
        """Whether the token arrived since the last look; everything sent must have been settled."""
        return any(token in data for data in self.inside.drain())


@contextmanager
def _owner(w: World, *, published: bool = False) -> Iterator[_Owner]:
    """Whoever holds the address inside the block, or until it is detached."""
    wall = _wall(w)
    with newcomer(w) as host:
        ports = [f"{_PUBLISHED}:{_DPORT}/udp"] if published else []
        endpoint = wall.attach(host.name, netns=host.netns, address4=IPv4Address(_ADDRESS), expose=ports)
        try:
            with host.capture("eth0", outgoing=False) as inside:
                yield _Owner(seat(host, endpoint), endpoint, inside)
        finally:
            wall.detach(host.name)


def _wall(w: World) -> Wall:
    assert w.wall is not None
    return w.wall


def _conntrack(w: World, verb: str, family: int, ends: list[str], *more: str) -> None:
    w.node.run(["conntrack", verb, "-f", f"ipv{family}", "-p", "udp", *ends, *more])


# ---------------------------------------------------------------- flows


class _Flow(msgspec.Struct, frozen=True):
    """A flow of the former owner's: how it is found in the table, and what its far end says."""

    ends: list[str]
    speak: Callable[[bytes], None]


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
        answer = packet(FAR[family], w.uplink(family), "udp", token, sport=_DPORT, dport=port)
        w.fire(from_outside("internet", lambda w, t: answer)(w, token))

    return _Flow(["--orig-src", source, "--sport", str(_SPORT)], speak)


def _inbound(w: World, owner: _Owner, family: int) -> _Flow:
    """From a client on the Internet, to a published port."""
    client = OUTSIDE["internet"][family]

    def speak(token: bytes) -> None:
        asked = packet(client, w.uplink(family), "udp", token, sport=_SPORT, dport=_PUBLISHED)
        w.fire(from_outside("internet", lambda w, t: asked)(w, token))

    speak(b"<opening>")
    return _Flow(["--orig-src", client, "--sport", str(_SPORT)], speak)


def _flows() -> Iterator[Probe]:
    kinds = (("flow", "a server answers on", _outbound), ("published", "a client goes on with", _inbound))
    for family in FAMILIES:
        for name, title, open_flow in kinds:
            for survives in (False, True):

                def play(
                    w: World,
                    token: bytes,
                    family: int = family,
                    open_flow: Callable[[World, _Owner, int], _Flow] = open_flow,
                    survives: bool = survives,
                ) -> bool:
                    return _inherited(w, token, family, open_flow, survives=survives)

                yield _episode(
                    f"D09-{'surviving-' if survives else ''}{name}-v{family}",
                    f"{title} a flow of the address's former owner{', which was not purged' if survives else ''}",
                    family,
                    layers("FWD") if survives else layers("CTL"),
                    play,
                )


def _inherited(
    w: World, token: bytes, family: int, open_flow: Callable[[World, _Owner, int], _Flow], *, survives: bool
) -> bool:
    with _owner(w, published=open_flow is _inbound) as first:
        flow = open_flow(w, first, family)
        flow.speak(token)
        if not first.received(token):
            raise LabError("the flow does not reach its own owner")
        if survives:
            _conntrack(w, "-U", family, flow.ends, "--mark", "0")
    with _owner(w) as second:
        if survives:
            _conntrack(w, "-U", family, flow.ends, "--mark", str(first.endpoint.generation))
        flow.speak(token)
        return second.received(token)


def _nodes_own() -> Iterator[Probe]:
    """A flow of the node's own to the former owner: its next packet is nobody's."""
    for family in FAMILIES:

        def play(w: World, token: bytes, family: int = family) -> bool:
            with w.node.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as sock:
                sock.bind((w.gateway.ip(family), _SPORT))
                return _inherited(
                    w, token, family, lambda w, owner, family: _from_node(w, owner, family, sock), survives=True
                )

        yield _episode(
            f"D09-surviving-nodes-v{family}",
            "the node goes on with a flow of its own to the address's former owner",
            family,
            layers("OUT"),
            play,
        )


def _from_node(w: World, owner: _Owner, family: int, sock: socket.socket) -> _Flow:
    target = owner.seat.ip(family)

    def speak(token: bytes) -> None:
        w.observers.discard()
        with one_cpu(), suppress(PermissionError):  # a packet that is dropped on its way out
            sock.sendto(token, (target, _DPORT))
        w.settle()

    speak(b"<opening>")
    return _Flow(["--orig-dst", target, "--sport", str(_SPORT)], speak)


# ---------------------------------------------------------------- the former owner, and what it published


def _former() -> Iterator[Probe]:
    for family in FAMILIES:

        def sends(w: World, token: bytes, family: int = family) -> bool:
            with _owner(w) as first:
                _wall(w).detach(first.seat.host.name)
                body = packet(first.seat.ip(family), FAR[family], "udp", token, dport=_DPORT)
                w.observers.discard()
                first.seat.host.inject("eth0", [frame(first.seat.mac, w.gateway.mac, body)])
                return w.settle().saw(token, "internet")

        yield _episode(
            f"D09-former-sends-v{family}",
            "a container sends when its detach is done and its link still stands",
            family,
            layers("PIN", "RAW", "FWD") if family == 4 else layers("PIN", "FWD"),
            sends,
        )

        def asked(w: World, token: bytes, family: int = family) -> bool:
            def ask(number: int) -> None:
                source, target = OUTSIDE["internet"][family], w.uplink(family)
                body = packet(source, target, "udp", token, sport=_SPORT + number, dport=_PUBLISHED)
                w.fire(from_outside("internet", lambda w, t: body)(w, token))

            with _owner(w, published=True) as first:
                ask(1)
                if not first.received(token):
                    raise LabError("a published port does not reach its own owner")
            with _owner(w) as second:
                ask(2)
                return second.received(token)

        yield _episode(
            f"D09-former-port-v{family}",
            "a port that the address's former owner published",
            family,
            layers("CTL"),
            asked,
        )


def _episode(
    name: str, title: str, family: int, stops: frozenset[Layer], play: Callable[[World, bytes], bool]
) -> Probe:
    def afresh(w: World, token: bytes) -> bool:
        w.node.run(["conntrack", "-F"])  # flows of an earlier probe, or run, have the same ends
        return play(w, token)

    return Episode(
        id=name,
        row="D09",
        title=f"{title}, IPv{family}",
        layers=stops,
        families=frozenset({family}),
        wall_only=True,
        play=afresh,
    )


PROBES: tuple[Probe, ...] = (*_flows(), *_nodes_own(), *_former())
