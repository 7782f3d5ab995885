"""D10: flows that go on when a policy does not allow them any more, in either direction of them.

Each flow is seen to pass before its policy is tightened, so what is asked of is the control plane, and of the rules
that they judge a flow anew whose policy has changed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import ip_network
from itertools import product

import msgspec

from cellwall.attack.frames import frame, packet
from cellwall.attack.probe import Place, Probe, layers
from cellwall.attack.rows.routed import FAR, OUTSIDE, from_outside
from cellwall.attack.rows.shapes import FAMILIES, episode, wall_of
from cellwall.attack.rows.windows import newcomer
from cellwall.attack.stage import seat
from cellwall.attack.world import Seat, World
from cellwall.errors import LabError, Unsupported
from cellwall.lab import Capture
from cellwall.model.policy import Policy, Rule

_SPORT, _DPORT, _PUBLISHED = 40110, 9110, 8460
_TENANT = "policed"
_NOBODY = Policy(sources=(ip_network("203.0.113.200/32"), ip_network("2001:db8:ffff::/128")))
_LINKS = Policy(links=True)

Tighten = Callable[[World, str], object]


class _Sandbox(msgspec.Struct, frozen=True):
    """One whose policies change, and what arrives there."""

    seat: Seat
    inside: Capture

    def send(self, w: World, target: str, family: int, token: bytes) -> None:
        """A datagram of the one flow that it opens."""
        body = packet(self.seat.ip(family), target, "udp", token, sport=_SPORT, dport=_DPORT)
        self.seat.host.inject("eth0", [frame(self.seat.mac, w.gateway.mac, body)])

    def received(self, token: bytes) -> bool:
        """Whether the token arrived since the last look; everything sent must have been settled."""
        return any(token in data for data in self.inside.drain())


@contextmanager
def _sandbox(w: World) -> Iterator[_Sandbox]:
    """A sandbox of a tenant whose policy is as open as without one, in the beginning and afterwards."""
    wall = wall_of(w)
    with newcomer(w) as host:
        endpoint = wall.attach(host.name, netns=host.netns, tenant=_TENANT, expose=[f"{_PUBLISHED}:{_DPORT}/udp"])
        try:
            with host.capture("eth0", outgoing=False) as inside:
                yield _Sandbox(seat(host, endpoint), inside)
        finally:
            wall.detach(host.name)
            wall.remove_policy(tenant=_TENANT)


def _tier(name: str, policy: Policy) -> Tighten:
    """The policy of that tier becomes this one."""
    if name == "tenant":
        return lambda w, container: wall_of(w).set_policy(policy, tenant=_TENANT)
    return lambda w, container: wall_of(w).set_policy(policy, container=container)


def _denial(family: int) -> Policy:
    return Policy(rules=(Rule("deny", ip_network(FAR[family]), "udp", (_DPORT, _DPORT)),))


# ---------------------------------------------------------------- what a sandbox opened


def _opened() -> Iterator[Probe]:
    ways = (("out", "a sandbox goes on with", _goes_on), ("answer", "a server answers on", _is_answered))
    for family, tier, (name, title, play) in product(FAMILIES, ("tenant", "endpoint"), ways):
        tightenings = {"denied": _tier(tier, _denial(family)), "blocked": _tier(tier, Policy("block"))}
        for how, tighten in tightenings.items():
            yield episode(
                f"D10-{name}-{how}-{tier}-v{family}",
                f"{title} a flow that the policy of its {tier} allows no more: {how}, IPv{family}",
                layers("CTL"),
                partial(play, family=family, tighten=tighten),
                family=family,
                wall_only=True,
            )


def _goes_on(w: World, token: bytes, *, family: int, tighten: Tighten) -> bool:
    with _sandbox(w) as sandbox:
        _open(w, sandbox, family)
        tighten(w, sandbox.seat.host.name)
        w.observers.discard()
        sandbox.send(w, FAR[family], family, token)
        return w.settle().saw(token, "internet")


def _is_answered(w: World, token: bytes, *, family: int, tighten: Tighten) -> bool:
    with _sandbox(w) as sandbox:
        answer = _open(w, sandbox, family)
        tighten(w, sandbox.seat.host.name)
        answer(token)
        return sandbox.received(token)


def _open(w: World, sandbox: _Sandbox, family: int) -> Callable[[bytes], None]:
    """A flow that is answered; returns its far end. LabError where it does not pass."""
    w.observers.discard()
    sandbox.send(w, FAR[family], family, b"<opening>")
    head = 14 + (20 if family == 4 else 40)
    sent = [data for data in w.settle().seen["internet"] if b"<opening>" in data]
    if not sent:
        raise LabError("the flow does not pass before its policy is tightened")
    port = int.from_bytes(sent[0][head : head + 2], "big")

    def answer(token: bytes) -> None:
        _says(w, "internet", packet(FAR[family], w.uplink(family), "udp", token, sport=_DPORT, dport=port))

    answer(b"<answer>")
    if not sandbox.received(b"<answer>"):
        raise LabError("the answer does not pass before the policy is tightened")
    return answer


def _says(w: World, origin: Place, body: object) -> None:
    """One packet of a host around the node."""
    w.fire(from_outside(origin, lambda w, token: body)(w, b""))


# ---------------------------------------------------------------- what is opened to a sandbox


def _served() -> Iterator[Probe]:
    for family, tier in product(FAMILIES, ("tenant", "endpoint")):
        yield episode(
            f"D10-client-{tier}-v{family}",
            f"a client goes on with a published port that the policy of the {tier} closes to it, IPv{family}",
            layers("CTL"),
            partial(_asks_on, family=family, tighten=_tier(tier, _NOBODY)),
            family=family,
            wall_only=True,
        )


def _asks_on(w: World, token: bytes, *, family: int, tighten: Tighten) -> bool:
    client = OUTSIDE["internet"][family]

    def ask(said: bytes) -> None:
        _says(w, "internet", packet(client, w.uplink(family), "udp", said, sport=_SPORT, dport=_PUBLISHED))

    with _sandbox(w) as sandbox:
        ask(b"<asking>")
        if not sandbox.received(b"<asking>"):
            raise LabError("the client is not served before the policy is tightened")
        tighten(w, sandbox.seat.host.name)
        ask(token)
        return sandbox.received(token)


def _linked() -> Iterator[Probe]:
    for family in FAMILIES:
        yield episode(
            f"D10-link-v{family}",
            f"a sandbox goes on with a flow to another of its tenant's, which links them no more, IPv{family}",
            layers("CTL"),
            partial(_reaches_on, family=family),
            family=family,
            wall_only=True,
        )


def _reaches_on(w: World, token: bytes, *, family: int) -> bool:
    """Where the mechanism has no links nothing is to arrive at all."""
    with _sandbox(w) as one, newcomer(w) as host:
        other = wall_of(w).attach(host.name, netns=host.netns, tenant=_TENANT)
        try:
            with host.capture("eth0", outgoing=False) as inside:
                target = _Sandbox(seat(host, other), inside)
                if _links(w):
                    _send_and_settle(w, one, target, family, b"<linked>")
                    if not target.received(b"<linked>"):
                        raise LabError("sandboxes that are linked do not reach each other")
                    wall_of(w).set_policy(Policy(), tenant=_TENANT)
                _send_and_settle(w, one, target, family, token)
                return target.received(token)
        finally:
            wall_of(w).detach(host.name)


def _links(w: World) -> bool:
    try:
        wall_of(w).set_policy(_LINKS, tenant=_TENANT)
    except Unsupported:
        return False
    return True


def _send_and_settle(w: World, one: _Sandbox, target: _Sandbox, family: int, token: bytes) -> None:
    w.observers.discard()
    one.send(w, target.seat.ip(family), family, token)
    w.settle()


PROBES: tuple[Probe, ...] = (*_opened(), *_served(), *_linked())
