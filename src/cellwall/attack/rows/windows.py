"""D07, D08: moments at which a wall might be open: while its rules change, and while a container starts."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from ipaddress import IPv4Address
from itertools import count, product

import msgspec

from cellwall.attack.flood import Flood
from cellwall.attack.frames import frame, mac_bytes, packet
from cellwall.attack.mechanism import refused_update, refused_updates, take_rules_away
from cellwall.attack.probe import Layer, Place, Probe, layers
from cellwall.attack.rows.routed import METADATA, PUBLIC, Choose, fixed, uplinks, victims
from cellwall.attack.rows.shapes import FAMILIES, episode, wall_of
from cellwall.attack.world import World
from cellwall.errors import LabError
from cellwall.lab import Host

_NUMBERS = count(1)


class Identity(msgspec.Struct, frozen=True):
    """Who a container will be: known beforehand, so that it can speak before it should."""

    mac: str = "02:08:00:00:00:28"
    ip4: str = "192.168.9.40"
    ip6: str = "fd00:abcd::928"

    def ip(self, family: int) -> str:
        return self.ip4 if family == 4 else self.ip6


@contextmanager
def newcomer(w: World) -> Iterator[Host]:
    """A container's namespace that nobody attached yet; gone at the end."""
    host = w.lab.sandbox(f"new{next(_NUMBERS)}")
    try:
        yield host
    finally:
        w.lab.delete_sandbox(host)


class _Aim(msgspec.Struct, frozen=True):
    """What is tried at such a moment: a destination by way of the gateway, or (`direct`) bridged. `loose`: what stops
    it from a link that is on no bridge; what holds the sandboxes' own sources off from outside holds there."""

    name: str
    where: Place
    target: Choose
    stops: frozenset[Layer]
    loose: frozenset[Layer] = layers()
    spoofed: bool = False
    direct: bool = False

    def frames(self, w: World, family: int, me: Identity, token: bytes) -> list[bytes]:
        source = w.victim.ip(family) if self.spoofed else me.ip(family)
        to = w.victim.mac if self.direct else w.gateway.mac
        return [frame(me.mac, to, packet(source, self.target(w), "udp", token, dport=9080))]


def _unpinned(family: int) -> frozenset[Layer]:
    return layers("PIN", "RAW") if family == 4 else layers("PIN")


def _aims(family: int) -> tuple[_Aim, ...]:
    """From a container that has a right to its address."""
    return (
        _Aim("neighbour", "victim", victims(family), layers("FWD")),
        _Aim("bridged", "victim", victims(family), layers("PIN", "PORT"), direct=True),
        _Aim("node", "node", uplinks(family), layers("PRE", "IN")),
        _Aim("metadata", "internet", fixed(METADATA[family]), layers("FWD")),
        _Aim("spoofed", "internet", fixed(PUBLIC[family]), _unpinned(family), spoofed=True),
    )


# ---------------------------------------------------------------- D07: while rules change


def _updates() -> Iterator[Probe]:
    changes = (
        ("update", "rules are replaced under load", _refresh),
        ("failed", "updates under load fail half-way", _refused_update),
    )
    for family, (name, title, change) in product(FAMILIES, changes):
        yield episode(
            f"D07-{name}-v{family}",
            f"{title}, and a flood to neighbour, node, metadata and Internet finds the gap, IPv{family}",
            layers("CTL"),
            partial(through_meanwhile, family=family, change=change),
            family=family,
            wall_only=True,
        )


def through_meanwhile(w: World, token: bytes, *, family: int, change: Callable[[World, Flood], None]) -> bool:
    """Whether anything of a flood to what is denied came through while something changed; LabError where it would not
    come through a gap either."""
    me = Identity(w.attacker.mac, w.attacker.ip4, w.attacker.ip6)
    aims = {token + aim.name.encode(): aim for aim in _aims(family) if not aim.direct}
    frames = [data for name, aim in aims.items() for data in aim.frames(w, family, me, name)]
    w.observers.discard()
    with Flood(w.attacker.host, w.attacker.ifname, frames) as flood:
        flood.wait()
        change(w, flood)
        flood.wait()
        sight = w.settle()
        through = any(sight.saw(name, aim.where) for name, aim in aims.items())
        _prove(w, flood, aims)
    return through


def _prove(w: World, flood: Flood, aims: Mapping[bytes, _Aim]) -> None:
    """The control: in a gap, the flood is through."""
    take_rules_away(w)
    try:
        for side in ("ingress", "egress"):  # without a rule nothing passes the latch
            w.node.run(["tc", "filter", "del", "dev", w.gateway.bridge, side, "pref", "2"])
        flood.wait()
        sight = w.settle()
    finally:  # also where nothing could be sent: other probes go on
        wall_of(w).up()
    missed = [aim.name for name, aim in aims.items() if not sight.saw(name, aim.where)]
    if missed:
        raise LabError(f"without any rule the flood still does not reach: {', '.join(missed)}")


def _refresh(w: World, flood: Flood) -> None:
    """The node changes, and the next operation of anybody has the rules follow it."""
    for verb in ("add", "del") * 2:
        w.node.run(["ip", "address", verb, "198.51.100.77/32", "dev", "eth1"])
        wall_of(w).enable_bridge_netfilter()
        flood.wait(3)


def _refused_update(w: World, flood: Flood) -> None:
    for number in range(refused_updates(w)):
        refused_update(w, number)
        flood.wait(3)


# ---------------------------------------------------------------- D08: while a container starts


def _races() -> Iterator[Probe]:
    for family in FAMILIES:
        for aim in _aims(family):
            yield episode(
                f"D08-race-{aim.name}-v{family}",
                f"a container sends from the moment it has an interface, IPv{family} to: {aim.name}",
                aim.stops,
                partial(_races_attach, family=family, aim=aim),
                family=family,
                wall_only=True,
            )


def _races_attach(w: World, token: bytes, *, family: int, aim: _Aim) -> bool:
    me, wall = Identity(), wall_of(w)
    frames = aim.frames(w, family, me, token)
    with newcomer(w) as host:
        w.observers.discard()
        with Flood(host, "eth0", frames) as flood:
            mac, address = int.from_bytes(mac_bytes(me.mac)), IPv4Address(me.ip4)
            wall.attach(host.name, netns=host.netns, address4=address, mac=mac)
            flood.wait()
            sight = w.settle()
            wall.detach(host.name)
        return sight.saw(token, aim.where)


def _half_attached() -> Iterator[Probe]:
    """A link by the name of ours that nobody vouched for yet: what a crash, or a program half-way, leaves."""
    for family in FAMILIES:
        unpinned = _unpinned(family)
        aims = (
            _Aim("internet", "internet", fixed(PUBLIC[family]), unpinned | layers("FWD"), layers("PIN", "RAW", "FWD")),
            _Aim("neighbour", "victim", victims(family), unpinned | layers("FWD"), layers("PIN", "RAW", "FWD")),
            _Aim("node", "node", uplinks(family), unpinned | layers("PRE", "IN"), layers("PIN", "RAW")),
        )
        bridged = _Aim("bridged", "victim", victims(family), layers("PIN"), direct=True)
        for aim, enslaved in (*product(aims, (True, False)), (bridged, True)):
            yield episode(
                f"D08-{'half' if enslaved else 'loose'}-{aim.name}-v{family}",
                f"IPv{family} from a link {'on' if enslaved else 'beside'} the bridge, not attached yet: {aim.name}",
                aim.stops if enslaved else aim.loose,
                partial(_sends_unattached, family=family, aim=aim, enslaved=enslaved),
                family=family,
                wall_only=True,
            )


def _sends_unattached(w: World, token: bytes, *, family: int, aim: _Aim, enslaved: bool) -> bool:
    link = f"{wall_of(w).settings.network.veth_prefix}half{next(_NUMBERS)}"
    with newcomer(w) as host:
        master = [f"link set {link} master {w.gateway.bridge}"] if enslaved else []
        w.node.ip([f"link add {link} type veth peer name eth0 netns {host.netns.name}", *master, f"link set {link} up"])
        host.run(["ip", "link", "set", "eth0", "up"])
        _await_carrier(w, link)
        w.node.run(["sysctl", "-qw", f"net.ipv4.conf.{link}.forwarding=1"])
        w.node.run(["sysctl", "-qw", f"net.ipv6.conf.{link}.force_forwarding=1"], check=False)
        to = w.node.mac(link) if not enslaved else None
        w.observers.discard()
        host.inject("eth0", _readdressed(aim.frames(w, family, Identity(), token), to))
        return w.settle().saw(token, aim.where)


def _await_carrier(w: World, link: str) -> None:
    """The kernel says from a work queue that a link carries, and a bridge forwards nothing from it before."""
    deadline = time.monotonic() + 5
    while b'"operstate":"UP"' not in w.node.run(["ip", "-json", "link", "show", "dev", link]).stdout:
        if time.monotonic() > deadline:
            raise LabError(f"{link} does not come up")


def _readdressed(frames: Sequence[bytes], mac: str | None) -> list[bytes]:
    return [data if mac is None else mac_bytes(mac) + data[6:] for data in frames]


PROBES: tuple[Probe, ...] = (*_updates(), *_races(), *_half_attached())
