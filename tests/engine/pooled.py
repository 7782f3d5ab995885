"""A node on which two sandboxes stand ready."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from cellwall.api import Wall
from cellwall.engine.attachments.detach import port_plan
from cellwall.model.endpoint import Endpoint
from world import World


@contextmanager
def two_ready(node: World) -> Iterator[Wall]:
    """The shared node's wall with two that stand ready, and none of anything afterwards."""
    wall = node.wall
    wall.reconcile()
    assert wall.fill_pool(2) == 2
    yield wall
    for endpoint in wall.endpoints():
        wall.detach(endpoint.key.container_id)
    wall.empty_pool(100)
    wall.reconcile()
    assert left(node) == []


def left(world: World) -> list[str]:
    """The namespaces and host links of ours that there are."""
    directory = Path(world.wall.paths.in_run("netns"))
    links = [link.name for link in world.wall._site.links.observe() if link.name.startswith("b9h")]
    return sorted([*(path.name for path in directory.glob("*")), *links])


def is_let_in(wall: Wall, endpoint: Endpoint) -> bool:
    """Its port passes what is its own."""
    found = wall._site.foundation()
    assert found is not None
    link = wall._site.links.find(endpoint.host_link)
    assert link is not None
    open_ = msgspec.structs.replace(port_plan(found, endpoint), shut=False)
    return link.up and not link.dormant and not wall._site.links.port_differences([open_])
