"""Ready sandboxes: whoever dies or fails as it makes or claims one leaves it whole, or nothing of it."""

import pytest

from cellwall.adapters.record.turns import FairMutex
from cellwall.api import AttachRequest, Wall
from cellwall.errors import KernelError
from engine.steps import Fault, Operation, assert_converged, every_step, reopened, stepped
from engine.test_pool import is_let_in, left
from world import World

pytestmark = [
    pytest.mark.root,
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


def claim_in_turn(wall: Wall) -> None:
    wall.claim("web", tenant="acme", expose=["8300:80"])


def claim_at_once(wall: Wall) -> None:
    wall._caller.take_turns_by(FairMutex())
    assert wall.claim_at_once(AttachRequest("web", tenant="acme")) is not None


CLAIMS = pytest.mark.parametrize("claim", [claim_in_turn, claim_at_once])


@CLAIMS
def test_a_claim_that_fails_at_any_step_leaves_nothing_of_it(node: World, claim: Operation) -> None:
    node.wall.reconcile()
    steps = 0
    for step in range(1, 200):
        node.wall.fill_pool(1)
        fault = Fault(step)
        broken = stepped(node.wall, fault)
        try:
            claim(broken)
        except KernelError:
            steps += 1
        if not fault.happened:
            break
        node.wall.reconcile()
        assert_converged(node.wall)
        if node.wall.endpoints():  # what failed was after the end
            node.wall.detach("web")
    assert steps > 6  # as many as there are where iptables holds the wall: what it writes is none of these
    node.wall.detach("web")
    node.wall.empty_pool(100)
    node.wall.reconcile()
    assert left(node) == []


@CLAIMS
def test_a_claim_that_is_killed_at_any_step_is_whole_or_nothing(node: World, claim: Operation) -> None:
    """And what it was given is nobody else's afterwards."""
    node.wall.reconcile()
    node.wall.fill_pool(1)
    ready = node.wall._site.journal.pooled()[0]
    for step in every_step(node, claim):
        with reopened(node) as wall:
            half = wall._site.journal.endpoints("attaching")
            wall.detach("somebody-else")  # any operation takes it back
            assert_converged(wall)
            attached = wall.endpoints()
            assert len(attached) + wall.ready <= 1
            assert not (half and (attached or wall.ready))
            if step and not wall.ready:
                for endpoint in attached:
                    assert is_let_in(wall, endpoint)
                    wall.detach("web")
                wall.reconcile()
                assert ready.netns not in [one.netns for one in wall._site.journal.endpoints()]
                wall.fill_pool(1)
            ready = (*wall._site.journal.pooled(), *wall.endpoints())[0]
    node.wall.detach("web")
    node.wall.empty_pool(100)
    node.wall.reconcile()
    assert left(node) == []


def test_who_dies_filling_the_pool_leaves_ready_ones_or_nothing(node: World) -> None:
    node.wall.reconcile()
    for _ in every_step(node, lambda wall: wall.fill_pool(1)):
        with reopened(node) as wall:
            wall.reconcile()
            assert_converged(wall)
            assert wall.ready in (0, 1)
            assert [is_let_in(wall, one) for one in wall._site.journal.pooled()] == [False] * wall.ready
            wall.empty_pool(1)
            wall.reconcile()
            assert left(node) == []
    node.wall.empty_pool(1)
    node.wall.reconcile()
