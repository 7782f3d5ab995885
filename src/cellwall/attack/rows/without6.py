"""D11: a wall that cannot filter IPv6, and containers whose own kernel speaks it all the same.

The worst such node is taken: its kernel has IPv6, routes and neighbours for it; only the wall has none, as where the
kernel lacks nftables for that family. On it every IPv6 frame of every other row is sent once more, by containers that
give themselves the addresses they would have had.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from cellwall.api import Wall
from cellwall.attack.ground import lab_world
from cellwall.attack.probe import RULES, Probe, Volley, layers
from cellwall.attack.removal import Footing
from cellwall.attack.rows.shapes import episode
from cellwall.attack.stage import ATTACKER_PORTS, SETTINGS, VICTIM_PORTS, gateway_of, seat
from cellwall.attack.suite import assault
from cellwall.attack.world import World
from cellwall.errors import LabError
from cellwall.lab import Lab

_SETTINGS = msgspec.structs.replace(SETTINGS, ipv6="off")
_OWN, _NEIGHBOURS = "fd00:abcd::2", "fd00:abcd::3"
_CONTROL = "A01-unicast-udp-v6"


@contextmanager
def _without6(outer: World) -> Iterator[World]:
    """Another node, whose wall has no IPv6."""
    with outer.lab.outside(), Lab() as lab:
        attacker, victim = lab.sandboxes(["attacker", "victim"])
        with lab.node.enter(), Wall.open(root=lab.root, settings=_SETTINGS) as wall:
            wall.up()
            first, second = (
                msgspec.structs.replace(seat(host, wall.attach(host.name, netns=host.netns, expose=ports)), ip6=address)
                for host, ports, address in ((attacker, ATTACKER_PORTS, _OWN), (victim, VICTIM_PORTS, _NEIGHBOURS))
            )
            with lab_world(lab, first, second, gateway_of(wall.settings), wall=wall) as world:
                yield world


def _volleys() -> tuple[Volley, ...]:
    """Every IPv6 volley of the other rows."""
    from cellwall.attack.rows import every_probe

    return tuple(probe for probe in every_probe() if isinstance(probe, Volley) and 6 in probe.families)


def _speaks(outer: World, token: bytes) -> bool:
    probes = _volleys()
    with _without6(outer) as world:
        assert world.wall is not None
        through = {name for name, seen in assault(world, probes).items() if seen}
        footing = Footing(world.wall, world.node)
        footing.remove(RULES | {"PORT", "FDB", "NB", "SYS"})
        control = [probe for probe in probes if probe.id == _CONTROL]
        if not all(assault(world, control).values()):
            raise LabError("IPv6 does not reach the neighbour without the wall either")
        footing.restore()
    return bool(through)


def _given(outer: World, token: bytes) -> bool:
    """Whether a container is given an address or a route that it could speak IPv6 with."""
    with _without6(outer) as world:
        host = world.attacker.host
        addresses = [address for address in host.addresses("eth0") if ":" in address and not address.startswith("fe80")]
        routes = host.run(["ip", "-6", "route", "show", "default"]).text.strip()
        return bool(addresses or routes)


def _probes() -> Iterator[Probe]:
    for name, title, play in (
        ("speaks", "containers speak IPv6 in every way of the other rows where the wall has none", _speaks),
        ("given", "a container is given IPv6 where the wall has none", _given),
    ):
        yield episode(f"D11-{name}", title, layers("CTL"), play, family=6, wall_only=True)


PROBES: tuple[Probe, ...] = tuple(_probes())
