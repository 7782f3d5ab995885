"""B06: how many flows one container may have, and one tenant, so that its neighbours and the node have theirs."""

from collections.abc import Iterator
from functools import partial
from itertools import product

from cellwall.attack.frames import frame, packet
from cellwall.attack.probe import Place, Probe, Shot, layers
from cellwall.attack.rows.floods import numbered
from cellwall.attack.rows.routed import FAR, OUTSIDE, by_gateway, from_outside
from cellwall.attack.rows.shapes import FAMILIES, PROTOCOLS, Play, Shots, episode
from cellwall.attack.stage import PUBLISHED, SETTINGS
from cellwall.attack.world import World
from cellwall.lower.nft.sets import FULL_SETS
from cellwall.lower.xt.sets import noting_sets
from cellwall.names import TABLE

_BEYOND = 100
_USUAL_LIMIT = 512
_BOTH: tuple[Place, ...] = ("attacker", "victim")


def _out() -> Iterator[Probe]:
    for family in FAMILIES:
        for protocol in PROTOCOLS:
            out = partial(_exhausted_out, family=family, protocol=protocol)
            yield _episode(f"B06-out-{protocol}", f"{protocol} to the Internet", family, out)
        published = partial(_exhausted_by_clients, family=family)
        yield _episode("B06-published-udp", "from the Internet to a published port", family, published)
    yield episode("B06-tenant-udp", "a tenant has more flows than it may, over both families", layers("FWD"), _crowded)


def _exhausted_out(w: World, token: bytes, *, family: int, protocol: str) -> bool:
    flood = _flood(w, w.attacker.ip(family), FAR[family], protocol, token, 9070)
    return _exhausted(w, token, family, by_gateway(lambda w, t: flood), "internet", other="victim")


def _exhausted_by_clients(w: World, token: bytes, *, family: int) -> bool:
    flood = _flood(w, OUTSIDE["internet"][family], w.uplink(family), "udp", token, PUBLISHED)
    inwards = from_outside("internet", lambda w, t: flood)
    # The flooded one is the other, too: what comes in must not take its own way out.
    return any(_exhausted(w, token, family, inwards, "victim", other=one) for one in _BOTH)


def _crowded(w: World, token: bytes) -> bool:
    """Each family for itself stays within what a container may have."""
    arrived = 0
    for family in FAMILIES:
        few = _flood(w, w.attacker.ip(family), FAR[family], "udp", token, 9072)[: flows_allowed(w)]
        sight = w.fire(Shot("attacker", frame(w.attacker.mac, w.gateway.mac, one)) for one in few)
        arrived += sum(token in data for data in sight.seen["internet"])
    forget(w)
    return arrived > _tenant_limit(w)


def _tenant_limit(w: World) -> int:
    """In iptables the bounds of its containers are a tenant's."""
    if w.wall is None or w.wall.settings.backend != "iptables":
        return SETTINGS.tenant_connections
    return flows_allowed(w) * len(FAMILIES)


def _episode(name: str, what: str, family: int, play: Play) -> Probe:
    return episode(
        f"{name}-v{family}",
        f"a container has more flows than it may, IPv{family}: {what}",
        layers("FWD"),
        play,
        family=family,
    )


def flows_allowed(w: World) -> int:
    """How many an endpoint may have at once."""
    return w.wall.settings.connections if w.wall else _USUAL_LIMIT


def _flood(w: World, source: str, target: str, protocol: str, token: bytes, port: int) -> list[bytes]:
    """Packets that differ by source port (the identifier of an echo) alone."""
    model = bytes(packet(source, target, protocol, token + b"\xff\xff", sport=0, dport=port))
    varied = (40 if ":" in source else 20) + (4 if protocol == "icmp" else 0)
    return list(numbered(model, token, varied, range(20000, 20000 + flows_allowed(w) + _BEYOND)))


def _exhausted(w: World, token: bytes, family: int, flood: Shots, where: Place, *, other: Place) -> bool:
    """Whether more flows than allowed came about, or none was left for the `other` container."""
    w.fire(())  # the sentinel's own flow exists before there are too many
    sight = w.fire(flood(w, token))
    arrived = sum(token in data for data in sight.seen[where])
    seats = {"attacker": w.attacker, "victim": w.victim}
    source = seats[other].ip(family)
    alive = by_gateway(lambda w, t: packet(source, FAR[family], "udp", t, dport=9071), origin=other)
    answer = w.fire(alive(w, b"alive" + token))
    forget(w)
    return arrived > flows_allowed(w) or not answer.saw(b"alive" + token, "internet")


def forget(w: World) -> None:
    """What flows there are of the two, and that their tenant had too many, or kept too many that have ended."""
    for seat, family, end in product((w.attacker, w.victim), sorted(w.families), ("--orig-src", "--reply-src")):
        w.node.run(["conntrack", "-D", "-f", f"ipv{family}", end, seat.ip(family)], check=False)
    for name in (*FULL_SETS.values(), "tenantended", "tenantendedclients"):
        w.node.run(["nft", "flush", "set", "inet", TABLE, name], check=False)
    for one in noting_sets():
        w.node.run(["ipset", "flush", one.name], check=False)


PROBES: tuple[Probe, ...] = tuple(_out())
