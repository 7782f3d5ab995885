"""Running probes: who is through, and whether the controls say that the answer means something."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import groupby

import msgspec

from cellwall.attack.probe import LAYERS, Episode, Layer, Open, Probe, Volley
from cellwall.attack.removal import Footing
from cellwall.attack.rows.shapes import introduce
from cellwall.attack.world import World

_ONE_VOLLEY = 400


def assault(world: World, probes: Sequence[Probe]) -> dict[str, str]:
    """Run every probe; id → what was seen of it where it must not arrive, empty where it is not through. Volleys go
    first and together, episodes one by one."""
    through: dict[str, str] = {}
    volleys = [probe for probe in probes if isinstance(probe, Volley)]
    for start in range(0, len(volleys), _ONE_VOLLEY):
        group = volleys[start : start + _ONE_VOLLEY]
        sight = world.fire(shot for probe in group for shot in world.shots(probe))
        through |= {probe.id: sight.told(probe.token, *probe.at) for probe in group}
    for probe in probes:
        if isinstance(probe, Episode):
            through[probe.id] = "it was so afterwards" if probe.play(world, probe.token) else ""
    return through


def assault_by_row(world: World, probes: Sequence[Probe]) -> dict[str, str]:
    """Like `assault`, but every row on its own, and nothing left of the one before: where poisoning succeeds, later
    frames would go astray and count as stopped."""
    seen: dict[str, str] = {}
    for _, group in groupby(sorted(probes, key=lambda probe: probe.row), key=lambda probe: probe.row):
        forget(world)
        seen |= assault(world, list(group))
    return seen


def forget(world: World) -> None:
    """Have the node forget every flow, neighbour and forwarding entry of the bridge, and meet the two anew: a packet
    that waits for an answer to ARP would come after the sentinel."""
    bridge = world.gateway.bridge
    world.node.run(["conntrack", "-F"], check=False)
    world.node.run(["ip", "link", "set", bridge, "type", "bridge", "fdb_flush"])
    world.node.run(["ip", "neigh", "flush", "dev", bridge])
    introduce(world, "attacker", world.attacker)
    introduce(world, "victim", world.victim)


class Control(msgspec.Struct, frozen=True):
    """What became of a probe's controls. `succeeded`: with all its layers removed it got through; `stopped`: layers
    that alone stopped it; `passed`: layers that alone did not, and are wrongly claimed. `impossible`: the kernel is
    said to stop it, so with every layer removed it must not get through."""

    succeeded: bool
    stopped: tuple[Layer, ...] = ()
    passed: tuple[Layer, ...] = ()
    impossible: bool = False

    @property
    def sound(self) -> bool:
        return self.succeeded is not self.impossible and not self.passed


def control(world: World, footing: Footing, probes: Iterable[Probe]) -> dict[str, Control]:
    """Run the controls of every probe that has one: of all but those that only the control plane stops."""
    known = list(probes)
    chosen = [probe for probe in known if probe.controlled]
    hopeless = [probe for probe in known if probe.kernel]
    removed = _without_theirs(world, footing, chosen)
    stopped, passed = _each_alone(world, footing, chosen)
    footing.remove(frozenset(LAYERS) - {"CTL"})
    against_kernel = assault(world, hopeless)
    footing.restore()
    found = {
        probe.id: Control(removed[probe.id], tuple(stopped[probe.id]), tuple(passed[probe.id])) for probe in chosen
    }
    return found | {name: Control(bool(seen), impossible=True) for name, seen in against_kernel.items()}


def _without_theirs(world: World, footing: Footing, probes: Sequence[Probe]) -> dict[str, bool]:
    """With a probe's layers removed; with each single one removed where they stop it only together."""
    groups: dict[tuple[frozenset[Layer], frozenset[Open]], list[Probe]] = defaultdict(list)
    for probe in probes:
        removals = [frozenset({layer}) for layer in probe.layers] if probe.together else [probe.layers]
        for removal in removals:
            groups[removal, probe.opens].append(probe)
    through = {probe.id: True for probe in probes}
    for (removal, opens), group in groups.items():
        footing.remove(removal, opens)
        for name, seen in assault(world, group).items():
            through[name] = through[name] and bool(seen)
    return through


def _each_alone(
    world: World, footing: Footing, probes: Sequence[Probe]
) -> tuple[dict[str, list[Layer]], dict[str, list[Layer]]]:
    groups: dict[tuple[Layer, frozenset[Open]], list[Probe]] = defaultdict(list)
    for probe in probes:
        # By itself the latch passes nothing at all, a sentinel neither.
        for layer in () if probe.together else sorted(probe.layers - {"LATCH"}):
            groups[layer, probe.opens].append(probe)
    stopped: dict[str, list[Layer]] = defaultdict(list)
    passed: dict[str, list[Layer]] = defaultdict(list)
    for (layer, _), group in groups.items():
        footing.remove(frozenset(LAYERS) - {layer, "CTL"}, group[0].opens)
        for name, seen in assault(world, group).items():
            (passed if seen else stopped)[name].append(layer)
    return stopped, passed
