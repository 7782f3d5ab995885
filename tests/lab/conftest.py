"""One lab per module: the tests of a module share it and leave it as they found it."""

from collections.abc import Iterator

import pytest

from cellwall.lab import Lab


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab
