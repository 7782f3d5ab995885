"""The daemon that the tests of a module share."""

from collections.abc import Iterator

import pytest

from served import Plain, Served, open_served


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """A daemon of a lab's node, whose wall is up."""
    with open_served() as daemon:
        yield daemon


@pytest.fixture
def plain(served: Served) -> Iterator[Plain]:
    """A connection to it."""
    with served.connect() as connection:
        yield connection
