"""A step that fails: the operation is taken back as a whole, or had happened already. Every step of every operation.

Nobody reconciles here: what a failed operation returns to is the node as it was, or the next operation of anybody makes
it so.
"""

from collections.abc import Callable, Iterator

import pytest

from cellwall.api import AttachRequest, EndpointKey, Wall
from cellwall.errors import CellwallError, Incomplete, KernelError
from cellwall.lab import connect
from cellwall.lab.addresses import NODE4
from engine.snapshots import node_snapshot, wall_state
from engine.steps import Fault, stepped
from world import PUBLIC4, World, Wrapped, assert_connection, is_answered, rewired

pytestmark = [pytest.mark.root, pytest.mark.minutes]


def faults(wall: Wall, operation: Callable[[Wall], object], *, at_most: int = 300) -> Iterator[Exception]:
    """Let each step fail in turn until the operation gets through; what it raised."""
    for number in range(1, at_most):
        fault = Fault(number)
        try:
            operation(stepped(wall, fault))
        except CellwallError as error:
            yield error
        else:
            if not fault.happened:
                return
    raise AssertionError("the operation has no end")


def test_a_failed_attach_leaves_nothing(node: World) -> None:
    hosts = [node.host("half") for _ in range(2)]
    requests = [AttachRequest(host.name, netns=str(host.netns)) for host in hosts]
    node.wall.expose(node.attach("other").name, "8400:80")
    node.wall.reconcile()
    before = wall_state(node)
    keys = [EndpointKey(name) for name in (*(host.name for host in hosts), "own")]
    failed = 0
    for _ in faults(node.wall, lambda wall: wall.attach_many([*requests, AttachRequest("own")])):
        if len(node.wall.endpoints()) > 1:  # what failed was to let go of the lock
            assert node.wall.detach_many(keys) == 3
            node.wall.reconcile()
        else:
            failed += 1
        assert wall_state(node) == before
        assert not [host for host in hosts if "eth0" in host.run(["ip", "-o", "link"]).text]
    assert failed > 20
    for host in hosts:
        assert_connection(host, PUBLIC4, 80)
    node.wall.detach_many(keys)


def test_a_failed_detach_goes_on_and_can_be_repeated(node: World) -> None:
    host = node.host("leaving")
    node.wall.reconcile()
    before = wall_state(node)
    for _ in faults(node.wall, lambda wall: wall.detach(host.name)):
        node.wall.detach(host.name)
        assert not connect(host, PUBLIC4, 80, timeout=0.1)
        node.wall.reconcile()
        assert wall_state(node) == before
        node.wall.attach(host.name, netns=host.netns)


@pytest.mark.parametrize("binding", ["8401:80", "8402:80@93.184.216.0/24", "9000-9010:9000"])
def test_a_failed_exposure_opens_nothing(node: World, binding: str) -> None:
    sandbox = node.attach("publisher")
    port = 9000 if "-" in binding else int(binding[:4])
    with sandbox.host.serve(tcp=[80, 9000]):
        for operation in ("expose", "unexpose"):
            undone = 0
            for _ in faults(node.wall, lambda wall, verb=operation: getattr(wall, verb)(sandbox.name, binding)):
                published = bool(node.wall.endpoint(sandbox.name).bindings)
                assert is_answered(node.lab.lan, NODE4, port, expected=published) == published
                node.wall.enable_bridge_netfilter()  # an operation like any other
                assert node.wall.status().drift == ()
                undone += published == (operation == "unexpose")
                if published == (operation == "expose"):
                    getattr(node.wall, "unexpose" if published else "expose")(sandbox.name, binding)
            assert undone > 3
    node.detach(sandbox)


@pytest.mark.slow
def test_a_failed_up_leaves_nothing_and_a_failed_down_can_be_repeated(fresh_node: World) -> None:
    bare = node_snapshot(fresh_node)
    undone = 0
    for _ in faults(fresh_node.wall, lambda wall: wall.up()):
        if fresh_node.wall.status().up:  # what failed was to let go of the lock
            fresh_node.wall.down()
        else:
            undone += 1
        assert node_snapshot(fresh_node) == bare
    assert undone > 20
    assert fresh_node.wall.up().changed is False
    for _ in faults(fresh_node.wall, lambda wall: wall.down()):
        fresh_node.wall.down()
        assert node_snapshot(fresh_node) == bare
        fresh_node.wall.up()
    assert node_snapshot(fresh_node) == bare


def test_a_namespace_that_stays_is_told_once_everything_is_detached(node: World) -> None:
    def busy(path: str) -> None:
        raise KernelError(16, f"remove {path}")

    keys = [node.wall.attach(name).key for name in ("kept-1", "kept-2")]
    with pytest.raises(Incomplete, match="detached, but") as raised:
        rewired(node.wall, namespaces=Wrapped(node.wall._site.namespaces, remove=busy)).detach_many(keys)
    assert isinstance(raised.value, CellwallError)
    assert "kept-1: Device or resource busy" in str(raised.value)
    assert [type(error) for error in raised.value.exceptions] == [KernelError, KernelError]
    assert not {endpoint.key for endpoint in node.wall.endpoints()} & set(keys)
    assert len([line for line in node.wall.reconcile().repaired if "kept-" in line]) == 2
    assert node.wall.reconcile().repaired == ()
