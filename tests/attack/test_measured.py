"""What cannot be measured is named, and the rest of the suite goes on."""

from collections.abc import Iterable
from typing import cast

import msgspec
import pytest

from cellwall.attack.observers import Sight
from cellwall.attack.probe import Episode, Probe, Shot, Volley, layers
from cellwall.attack.suite import assault, measure
from cellwall.attack.world import World
from cellwall.errors import LabError, TooBusy


class Machine:
    """A world in which frames get nowhere, but those of `through`, and where volleys with one of `lossy` are lost."""

    def __init__(self, *, lossy: Iterable[bytes] = (), through: Iterable[bytes] = ()) -> None:
        self.lossy, self.through = set(lossy), set(through)
        self.fired = 0

    def shots(self, probe: Volley) -> tuple[Shot, ...]:
        return (Shot("attacker", probe.token),)

    def fire(self, shots: Iterable[Shot]) -> Sight:
        self.fired += 1
        frames = {shot.frame for shot in shots}
        if frames & self.lossy:
            raise TooBusy("it loses packets")
        return Sight({"victim": tuple(frames & self.through)})

    def world(self) -> World:
        return cast(World, self)


def volley(number: int) -> Volley:
    return Volley(
        id=f"A01-{number}", row="A01", title="", layers=layers("PIN"), shots=lambda world, token: (), at=("victim",)
    )


def episode(name: str, *, fails: bool = False) -> Episode:
    def play(world: World, token: bytes) -> bool:
        if fails:
            raise TooBusy("nothing can be flooded")
        return False

    return Episode(id=name, row="B10", title="", layers=layers("FWD"), play=play)


VOLLEYS = [volley(number) for number in range(1000)]


def test_one_probe_that_cannot_be_measured_is_named_and_the_rest_goes_on() -> None:
    machine = Machine(lossy=[VOLLEYS[777].token], through=[VOLLEYS[778].token])
    probes: list[Probe] = [*VOLLEYS, episode("B10-flood", fails=True), episode("B10-other")]
    found = measure(machine.world(), probes)
    assert {name: str(error) for name, error in found.missed.items()} == {
        VOLLEYS[777].id: "the machine is too busy: it loses packets",
        "B10-flood": "the machine is too busy: nothing can be flooded",
    }
    assert found.seen.keys() == {probe.id for probe in probes} - found.missed.keys()
    assert [name for name, seen in found.seen.items() if seen] == [VOLLEYS[778].id]
    assert machine.fired < 30


def test_a_machine_on_which_nothing_can_be_measured_is_given_up() -> None:
    machine = Machine(lossy=[probe.token for probe in VOLLEYS])
    found = measure(machine.world(), [*VOLLEYS, episode("B10-other")])
    assert found.seen == {}
    assert found.missed.keys() == {*(probe.id for probe in VOLLEYS), "B10-other"}
    assert "not tried" in str(found.missed["B10-other"])
    assert machine.fired < 40


def test_what_a_busy_machine_missed_is_tried_once_more_at_the_end() -> None:
    order: list[str] = []

    def play(world: World, token: bytes) -> bool:
        order.append("first")
        if len(order) == 1:
            raise TooBusy("connections end faster than they are opened")
        return True

    def other(world: World, token: bytes) -> bool:
        order.append("other")
        return False

    probes = [
        msgspec.structs.replace(episode(name), play=what) for name, what in (("B06-first", play), ("B06-other", other))
    ]
    found = measure(Machine().world(), probes)
    assert (order, found.missed) == (["first", "other", "first"], {})
    assert bool(found.seen["B06-first"]) and not found.seen["B06-other"]


def test_what_failed_for_another_reason_is_not_tried_again() -> None:
    tried: list[int] = []

    def play(world: World, token: bytes) -> bool:
        tried.append(1)
        raise LabError("the flow does not pass before its policy is tightened")

    found = measure(Machine().world(), [msgspec.structs.replace(episode("D10-out"), play=play)])
    assert (len(tried), set(found.missed)) == (1, {"D10-out"})


def test_a_machine_that_measures_one_now_and_then_is_not_given_up() -> None:
    failing = [episode(f"B10-{number}", fails=number % 10 != 0) for number in range(100)]
    found = measure(Machine().world(), failing)
    assert len(found.seen) == 10 and len(found.missed) == 90
    assert not [name for name, error in found.missed.items() if "not tried" in str(error)]


def test_who_asks_for_a_verdict_of_each_is_given_none_where_one_misses() -> None:
    with pytest.raises(TooBusy):
        assault(Machine(lossy=[VOLLEYS[3].token]).world(), VOLLEYS[:5])
