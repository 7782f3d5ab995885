"""A lab node for the tests of a module."""

from collections.abc import Iterator

import pytest
from nodecommand import Command

from cellwall.lab import Lab


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """One lab for the tests of a module."""
    with Lab() as made:
        yield made


@pytest.fixture
def cellwall(lab: Lab) -> Iterator[Command]:
    """The command; what a test leaves attached is detached afterwards."""
    command = Command(lab)
    yield command
    assert command("down", "--force").status == 0
