"""Who follows endpoints is told of each: of what comes before it can pass anything, of what goes after its last."""

from collections.abc import Sequence

import pytest

from cellwall.api import Wall
from cellwall.errors import CellwallError
from cellwall.model.endpoint import Endpoint
from world import World

pytestmark = pytest.mark.root


class Listening:
    """What was told, as the endpoints that there are by it."""

    def __init__(self) -> None:
        self.known: dict[str, Endpoint] = {}
        self.filled = 0

    def change(self, before: Sequence[Endpoint], after: Sequence[Endpoint]) -> None:
        for endpoint in before:
            assert self.known.pop(endpoint.key.container_id) == endpoint
        for endpoint in after:
            self.known[endpoint.key.container_id] = endpoint

    def fill(self, endpoints: Sequence[Endpoint]) -> None:
        self.known = {endpoint.key.container_id: endpoint for endpoint in endpoints}
        self.filled += 1


@pytest.fixture
def told(wall: Wall) -> Listening:
    listening = Listening()
    wall.follow(listening)
    return listening


def as_listed(wall: Wall) -> dict[str, Endpoint]:
    return {endpoint.key.container_id: endpoint for endpoint in wall.endpoints()}


def test_what_is_told_is_what_is_on_record_after_every_verb(wall: Wall, told: Listening) -> None:
    for step in (
        lambda: wall.attach("one", tenant="acme"),
        lambda: wall.attach_many([]),
        lambda: wall.attach("two", tenant="acme", expose=["8080:80"]),
        lambda: wall.set_policy({"block_network": True}, tenant="acme"),
        lambda: wall.expose("one", "8081:80"),
        lambda: wall.unexpose("two", "8080:80"),
        lambda: wall.set_policy({"allow_list": ["151.101.0.0/16"]}, container="one"),
        lambda: wall.remove_policy(tenant="acme"),
        lambda: wall.detach("one"),
        wall.up,
        lambda: wall.detach("two"),
    ):
        step()
        assert told.known == as_listed(wall)


def test_what_is_repaired_is_told_as_a_whole(node_lab: World, wall: Wall, told: Listening) -> None:
    wall.attach("web")
    told.known = {}
    node_lab.lab.node.run(["nft", "flush", "ruleset"])
    wall.reconcile()
    assert told.known == as_listed(wall)
    wall.detach("web")


def test_an_endpoint_that_could_not_be_attached_is_none(wall: Wall, told: Listening) -> None:
    wall.attach("web", expose=["8080:80"])
    with pytest.raises(CellwallError):
        wall.attach("other", expose=["8080:80"])
    assert told.known == as_listed(wall)
    wall.detach("web")
    assert told.known == {}
