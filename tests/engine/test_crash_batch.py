"""kill -9 at every step of a batch: all of it happened, or none of it."""

import pytest

from cellwall.api import AttachRequest, EndpointKey, Wall
from cellwall.lab.addresses import NODE4
from cellwall.model.endpoint import parse_binding
from engine.snapshots import wall_state
from engine.steps import assert_converged, every_step, reopened
from world import PUBLIC4, PUBLIC6, World, assert_connection, is_answered

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


def test_a_batch_killed_at_every_step_is_attached_and_detached_as_a_whole(node: World) -> None:
    hosts = [node.host("batch") for _ in range(2)]
    requests = [
        AttachRequest(hosts[0].name, netns=str(hosts[0].netns), bindings=(parse_binding("8900:80"),)),
        AttachRequest(hosts[1].name, netns=str(hosts[1].netns)),
        AttachRequest("own"),
    ]
    keys = [EndpointKey(request.container_id) for request in requests]
    before = wall_state(node)

    def attached(wall: Wall) -> bool:
        """Whether the batch is, after the repair; nothing of it is half there."""
        wall.reconcile()
        assert_converged(wall)
        found = {endpoint.key for endpoint in wall.endpoints()}
        assert found in (set(), set(keys))
        if not found:
            assert wall_state(node) == before
        with hosts[0].serve(tcp=[80]):
            assert is_answered(node.lab.lan, NODE4, 8900, expected=bool(found)) == bool(found)
        return bool(found)

    for step in every_step(node, lambda wall: wall.attach_many(requests)):
        with reopened(node) as wall:
            if attached(wall):
                assert_connection(hosts[1], PUBLIC4, 80)
                assert_connection(hosts[1], PUBLIC6, 80)
                assert wall.detach_many(keys) == 3
                wall.reconcile()
            else:
                assert step
    with reopened(node) as wall:
        wall.attach_many(requests)
    for step in every_step(node, lambda wall: wall.detach_many(keys)):
        with reopened(node) as wall:
            if not attached(wall) and step:
                wall.attach_many(requests)
    assert wall_state(node) == before
