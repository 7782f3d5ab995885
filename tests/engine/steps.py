"""An operation, ended or disturbed at its n-th step.

The steps are the calls that the engine makes to its adapters, the journal and the lock among them. Nothing in the
product knows about that: the adapters of one wall are wrapped, and count.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from cellwall.api import Wall
from cellwall.errors import KernelError
from world import World, rewired

ADAPTERS = ("links", "rules", "sysctls", "node", "namespaces", "journal", "lock")
_OF_THE_RECORD = """get count count_of endpoint endpoints endpoints_of metered own_policies_of number_of tenants_of
    members_count pooled pooled_count in_netns leased held mac_holder binding_holder draining draining_addresses
    unfinished unretired host_link_taken policy policies policy_sizes published_ports proxied stamp keep_spare_room"""
_OF_THE_NODE = """read observe fingerprint listeners mtu find index_of find_bridge kept port_differences
    bridge_differences checksum_differences latch_differences chains elements generation is_kept is_met shape save
    variants installed lacking features spelled order entries definitions leads begin vouches denies"""
READS = frozenset(f"{_OF_THE_RECORD} {_OF_THE_NODE}".split())
"""What leaves the node and the record as they were: who dies before one of these leaves what who dies before the next
other step does. They are two thirds of all steps."""
CANNOT_FAIL = "end_look"
Operation = Callable[[Wall], object]


class Stepped:
    """An adapter every call of which is a step; those that only read where `reads` says so."""

    def __init__(self, adapter: Any, step: Callable[[], None], *, reads: bool = True) -> None:
        object.__setattr__(self, "_adapter", adapter)
        object.__setattr__(self, "_step", step)
        object.__setattr__(self, "_reads", reads)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._adapter, name)
        if not callable(found) or name == CANNOT_FAIL or (name in READS and not self._reads):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._step()
            return found(*args, **kwargs)

        return call

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._adapter, name, value)

    def __enter__(self) -> Any:
        self._step()
        return self._adapter.__enter__()

    def __exit__(self, *exception: object) -> None:
        try:
            self._step()
        finally:
            self._adapter.__exit__(*exception)


def stepped(wall: Wall, step: Callable[[], None], *, reads: bool = True, **changes: object) -> Wall:
    """The same node through adapters that call `step` before each call of theirs."""
    site = msgspec.structs.replace(wall._site, **changes)
    adapters: dict[str, object] = {name: Stepped(getattr(site, name), step, reads=reads) for name in ADAPTERS}
    return rewired(wall, **changes, kept=lambda: Stepped(site.kept(), step, reads=reads), **adapters)


class _Doom:
    """Counts the calls of one process, and ends it by SIGKILL before the n-th."""

    def __init__(self, at: int) -> None:
        self._left = at

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class Fault:
    """Counts the calls of one operation, and fails the n-th, as a kernel does that has no memory."""

    def __init__(self, at: int) -> None:
        self._left = at

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            raise KernelError(12, "the step that was to fail")

    @property
    def happened(self) -> bool:
        return self._left <= 0


def killed_at(world: World, operation: Operation, step: int, **changes: object) -> bool:
    """Do `operation` in a child process that is killed before its n-th call that writes; False where it got through."""

    def opened(doom: Callable[[], None]) -> None:
        wall = Wall.open(root=world.lab.root, settings=world.wall.settings)
        operation(stepped(wall, doom, reads=False, **changes))

    return child_killed_at(step, opened)


def child_killed_at(step: int, act: Callable[[Callable[[], None]], None]) -> bool:
    """`act` in a child process, which is killed when what it is given is called for the n-th time; False where it
    got through."""
    child = os.fork()
    if child == 0:
        status = 70
        try:
            act(_Doom(step))
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the operation failed"
    return False


def every_step(world: World, operation: Operation, *, at_most: int = 400, **changes: object) -> Iterator[int]:
    """Crash at each step, the number of which is given; 0 when it got through. The caller repairs and checks in
    between."""
    for step in range(1, at_most):
        if not killed_at(world, operation, step, **changes):
            yield 0
            return
        yield step
    raise AssertionError("the operation has no end")


@contextmanager
def reopened(world: World) -> Iterator[Wall]:
    """As a process that starts after the crash sees the node."""
    with Wall.open(root=world.lab.root, settings=world.wall.settings) as wall:
        yield wall


def assert_converged(wall: Wall) -> None:
    status = wall.status()
    assert status.drift == ()
    assert wall.reconcile().repaired == ()
