"""Running probes: who is through, of whom that cannot be said, and whether the controls say that the answer means
something."""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import msgspec

from cellwall.attack.probe import LAYERS, Episode, Layer, Open, Probe, Volley
from cellwall.attack.removal import Footing
from cellwall.attack.rows.shapes import introduce
from cellwall.attack.world import World
from cellwall.errors import CellwallError, LabError, TooBusy

_ONE_VOLLEY = 400
_IN_A_ROW = 20
"""Attempts that came to nothing, one after the other, after which nobody goes on: each may have taken minutes."""


def assault(world: World, probes: Sequence[Probe]) -> dict[str, str]:
    """Run every probe; id → what was seen of it where it must not arrive, empty where it is not through. Volleys go
    first and together, episodes one by one. LabError, TooBusy among them, where one cannot be measured."""
    through: dict[str, str] = {}
    for group in _in_turn(probes):
        volleys = [probe for probe in group if isinstance(probe, Volley)]
        if volleys:
            sight = world.fire(shot for probe in volleys for shot in world.shots(probe))
            through |= {probe.id: sight.told(probe.token, *probe.at) for probe in volleys}
        for probe in group:
            if isinstance(probe, Episode):
                through[probe.id] = "it was so afterwards" if probe.play(world, probe.token) else ""
    return through


def _in_turn(probes: Sequence[Probe]) -> Iterator[list[Probe]]:
    volleys: list[Probe] = [probe for probe in probes if isinstance(probe, Volley)]
    yield from (volleys[start : start + _ONE_VOLLEY] for start in range(0, len(volleys), _ONE_VOLLEY))
    yield from ([probe] for probe in probes if not isinstance(probe, Volley))


class Measured(msgspec.Struct, frozen=True):
    """Each probe is in one of the two. `seen`: as `assault` tells it; `missed`: why nothing can be said of it."""

    seen: dict[str, str]
    missed: dict[str, CellwallError | OSError]

    def joined(self, later: "Measured") -> "Measured":
        """This and what was measured later, also of what was missed before."""
        missed = {name: error for name, error in self.missed.items() if name not in later.seen}
        return Measured(self.seen | later.seen, missed | later.missed)


def measure(world: World, probes: Sequence[Probe]) -> Measured:
    """Like `assault`, but what cannot be measured is named, and the rest goes on: of a volley each half by itself, down
    to the probe that it is about. At the end a few that a busy machine missed are tried once more: it may have less to
    do. After 20 attempts in a row that came to nothing the rest is not tried."""
    found = _measure_once(world, probes)
    again = [probe for probe in probes if isinstance(found.missed.get(probe.id), TooBusy)]
    return found.joined(_measure_once(world, again if len(again) <= _IN_A_ROW else ()))


def _measure_once(world: World, probes: Sequence[Probe]) -> Measured:
    seen: dict[str, str] = {}
    missed: dict[str, CellwallError | OSError] = {}
    waiting, in_a_row = deque(_in_turn(probes)), 0
    while waiting:
        group = waiting.popleft()
        try:
            if in_a_row == _IN_A_ROW:
                raise LabError(f"not tried: of the {_IN_A_ROW} attempts before it none could be measured")
            seen |= assault(world, group)
            in_a_row = 0
        except (CellwallError, OSError) as error:
            if in_a_row < _IN_A_ROW and len(group) > 1:
                middle = len(group) // 2
                waiting.extendleft((group[middle:], group[:middle]))
            else:
                missed |= dict.fromkeys((probe.id for probe in group), error)
            in_a_row = min(in_a_row + 1, _IN_A_ROW)
    return Measured(seen, missed)


def measure_by_row(world: World, probes: Sequence[Probe]) -> Measured:
    """Like `measure`, but every row on its own, and nothing left of the one before: where poisoning succeeds, later
    frames would go astray and count as stopped."""
    found = Measured({}, {})
    for _, group in groupby(sorted(probes, key=lambda probe: probe.row), key=lambda probe: probe.row):
        forget(world)
        found = found.joined(measure(world, list(group)))
    return found


def forget(world: World) -> None:
    """Have the node forget every flow, neighbour and forwarding entry of the bridge, and what errors told it of a path:
    where it believes of one to be narrow, nothing large goes there any more. It meets the two anew: a packet that waits
    for an answer to ARP would come after the sentinel."""
    bridge = world.gateway.bridge
    world.node.run(["conntrack", "-F"], check=False)
    world.node.run(["ip", "link", "set", bridge, "type", "bridge", "fdb_flush"])
    world.node.run(["ip", "neigh", "flush", "dev", bridge])
    for family in ("-4", "-6"):
        world.node.run(["ip", family, "route", "flush", "cache"])
    introduce(world, "attacker", world.attacker)
    introduce(world, "victim", world.victim)


def reason(error: CellwallError | OSError) -> str:
    """Why something was missed, in a line."""
    return str(error) or type(error).__name__


class Control(msgspec.Struct, frozen=True):
    """What became of a probe's controls. `succeeded`: with all its layers removed it got through; `stopped`: layers
    that alone stopped it; `passed`: layers that alone did not, and are wrongly claimed. `impossible`: the kernel is
    said to stop it, so with every layer removed it must not get through. `missed`: why one of them could not be
    measured, and nothing is said."""

    succeeded: bool
    stopped: tuple[Layer, ...] = ()
    passed: tuple[Layer, ...] = ()
    impossible: bool = False
    missed: str = ""

    @property
    def sound(self) -> bool:
        """Whether nothing that was measured refutes the claim."""
        return not self.passed and (bool(self.missed) or self.succeeded is not self.impossible)


def control(world: World, footing: Footing, probes: Iterable[Probe]) -> dict[str, Control]:
    """Run the controls of every probe that has one: of all but those that only the control plane stops."""
    known = list(probes)
    chosen = [probe for probe in known if probe.controlled]
    hopeless = [probe for probe in known if probe.kernel]
    missed: dict[str, str] = {}
    removed = _without_theirs(world, footing, chosen, missed)
    stopped, passed = _each_alone(world, footing, chosen, missed)
    footing.remove(frozenset(LAYERS) - {"CTL"})
    against_kernel = _measured(world, hopeless, missed)
    footing.restore()
    found = {
        probe.id: Control(removed[probe.id], tuple(stopped[probe.id]), tuple(passed[probe.id])) for probe in chosen
    }
    found |= {probe.id: Control(bool(against_kernel.get(probe.id)), impossible=True) for probe in hopeless}
    return found | {name: msgspec.structs.replace(found[name], missed=why) for name, why in missed.items()}


def _measured(world: World, probes: Sequence[Probe], missed: dict[str, str]) -> dict[str, str]:
    """What was seen of those that could be measured; of the others, `missed` is told why."""
    found = measure(world, probes)
    missed |= {name: reason(error) for name, error in found.missed.items()}
    return found.seen


def _without_theirs(world: World, footing: Footing, probes: Sequence[Probe], missed: dict[str, str]) -> dict[str, bool]:
    """With a probe's layers removed; with each single one removed where they stop it only together."""
    groups: dict[tuple[frozenset[Layer], frozenset[Open]], list[Probe]] = defaultdict(list)
    for probe in probes:
        removals = [frozenset({layer}) for layer in probe.layers] if probe.together else [probe.layers]
        for removal in removals:
            groups[removal, probe.opens].append(probe)
    through = {probe.id: True for probe in probes}
    for (removal, opens), group in groups.items():
        footing.remove(removal, opens)
        for name, seen in _measured(world, group, missed).items():
            through[name] = through[name] and bool(seen)
    return through


def _each_alone(
    world: World, footing: Footing, probes: Sequence[Probe], missed: dict[str, str]
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
        for name, seen in _measured(world, group, missed).items():
            (passed if seen else stopped)[name].append(layer)
    return stopped, passed
