"""The heart of the hostile suite, within seconds: every frame that is sent for itself, both families in one volley, and
of what takes steps all that neither floods nor drives the control plane. The whole suite is `test_suite`."""

import pytest

from cellwall.attack.probe import Volley
from cellwall.attack.rows import every_probe
from cellwall.attack.stage import walled_stage
from measured import through

_ELSEWHERE = {"B06", "B09", "B10", "B11", "D06", "D07", "D09", "D10", "D11"}
"""Rows whose episodes take long: of the last quarter of a bound, of a second's rate, of a whole change of the wall."""


@pytest.mark.root
def test_nothing_is_through() -> None:
    probes = [one for one in every_probe() if isinstance(one, Volley) or one.row not in _ELSEWHERE]
    assert len(probes) > 1800 and len({one.row for one in probes}) > 35
    with walled_stage() as stage:
        assert all(map(stage.world.applies, probes))
        assert through(stage.world, probes) == {}
