"""Endpoints that take each other's places in the sets of the wall."""

from types import SimpleNamespace

import msgspec
import pytest

from cellwall.engine.nftables.backend import NftablesBackend
from scene import WEB


def test_sides_that_are_not_as_many_are_refused_before_anything_is_changed() -> None:
    """Which would take whose place cannot be told, and an element of both would go and come."""
    done: list[object] = []
    backend = NftablesBackend(SimpleNamespace(apply=lambda *given: done.append(given), schema={}))  # type: ignore[arg-type]
    other = msgspec.structs.replace(WEB, generation=WEB.generation + 256)
    for before, after in (([WEB], [other, other]), ([WEB, other], [other])):
        with pytest.raises(ValueError, match="zip"):
            backend.change(before, after)
    assert not done
    backend.change([WEB], [other])
    backend.change([], [WEB, other])
    assert len(done) == 2
