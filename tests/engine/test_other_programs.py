"""What another version of the program left: its record, its sets, and endpoints that are closed in spite of both."""

from collections.abc import Iterator

import msgspec
import pytest

from cellwall.errors import Conflict
from cellwall.model.network import Network
from cellwall.model.settings import Settings
from world import World, open_world, rewired

pytestmark = pytest.mark.root


@pytest.fixture
def world() -> Iterator[World]:
    with open_world() as world:
        world.lab.internet.serve(udp=[80])
        yield world


def record(world: World, **changes: object) -> None:
    """The foundation as another program would have it on record."""
    found = world.wall._site.foundation()
    assert found is not None
    with world.wall._site.journal.transaction():
        world.wall._site.journal.put("foundation", msgspec.json.encode(msgspec.structs.replace(found, **changes)))


def test_fields_of_the_network_that_only_one_program_knows_are_no_change_of_it(world: World) -> None:
    world.attach("tenant")
    fields = Network().fields()
    for others in ({}, {**fields, "later": "x"}, {name: fields[name] for name in ("bridge", "subnet4")}):
        record(world, program="0.0.0", network_fields=others)
        assert world.wall.up().changed
        assert world.wall.status().drift == ()
    with pytest.raises(Conflict, match="network: its configuration changed"):
        rewired(world.wall, settings=Settings(network=Network(bridge="b9_new"))).up()
