"""kill -9 at every step of an `up` that tightens the policy: no open flow survives it, and no other flow is lost."""

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network

import pytest

from cellwall.lab.addresses import PUBLIC4
from cellwall.model.settings import Settings
from engine.steps import assert_converged, killed_at, reopened
from world import Stream, World, rewired

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]
CLOSING, STAYING = PUBLIC4[:2]
TIGHTER = {"settings": Settings(protect=(ip_network(CLOSING),))}


@contextmanager
def flows(world: World) -> Iterator[tuple[Stream, Stream]]:
    """Two open flows of a tenant: to what is closed, and to what is not."""
    tenant = world.attach("tenant")
    with Stream(tenant.host, CLOSING, 80, udp=True) as cut, Stream(tenant.host, STAYING, 80, udp=True) as kept:
        assert cut.ask(world.token())
        assert kept.ask(world.token())
        yield cut, kept
    world.detach(tenant)


def test_a_tightened_policy_ends_open_flows_wherever_its_up_was_killed(node: World) -> None:
    for step in range(1, 400):
        node.wall.up()  # as it was before
        with flows(node) as (cut, kept):
            killed = killed_at(node, lambda wall: wall.up(), step, **TIGHTER)
            assert kept.ask(node.token())
            with reopened(node) as wall:
                tighter = rewired(wall, **TIGHTER)
                if step % 2:
                    tighter.reconcile()
                else:
                    tighter.enable_bridge_netfilter()  # as any operation ends what was begun, and begins nothing
                    open_still = tighter.settings.protect == ()
                    assert cut.ask(node.token(), timeout=10 if open_still else 0.1) is open_still
                    tighter.up()
                assert_converged(tighter)
            assert not cut.ask(node.token(), timeout=0.1)
            assert kept.ask(node.token())
        if not killed:
            return
    raise AssertionError("the operation has no end")
