"""How much of the hostile suite a busy machine may leave unsaid before a test of it says nothing either."""

from collections.abc import Mapping, Sequence

from cellwall.attack.probe import Probe
from cellwall.attack.suite import measure, reason
from cellwall.attack.world import World
from cellwall.errors import TooBusy

_ONE_IN = 100
"""One probe in so many may be missed. That is less than all floods, which a busy machine misses first; and of a handful
that a test chose, none."""
_BUSY = str(TooBusy(""))


def through(world: World, probes: Sequence[Probe]) -> dict[str, str]:
    """What is through, and where it was seen; AssertionError where too much could not be measured."""
    found = measure(world, probes)
    assert_few({name: reason(error) for name, error in found.missed.items()}, len(probes))
    return {name: seen for name, seen in found.seen.items() if seen}


def assert_few(missed: Mapping[str, str], probes: int) -> None:
    """AssertionError where more than one in a hundred of the probes were not measured, or any for another reason than
    that the machine was too busy. `missed`: probe → why."""
    assert {name: why for name, why in missed.items() if _BUSY not in why} == {}
    assert len(missed) <= probes // _ONE_IN, f"{len(missed)} of {probes} were not measured: {dict(missed)}"
