"""The node that the tests of a module share."""

from collections.abc import Iterator

import pytest

from world import World, open_world


@pytest.fixture(scope="module")
def node() -> Iterator[World]:
    """A node with its wall up and a server on the Internet; the tests of a module share it, and run on it."""
    with open_world() as world:
        world.lab.internet.serve(tcp=[80], udp=[80])
        yield world
