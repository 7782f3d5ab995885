"""An operation, ended or disturbed at its n-th step.

The steps are the calls that the engine makes to its adapters, the journal and the lock among them. Nothing in the
product knows about that: the adapters of one wall are wrapped, and count.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import msgspec

from cellwall.api import Wall
from cellwall.errors import KernelError
from world import World, rewired

ADAPTERS = ("links", "rules", "sysctls", "node", "namespaces", "journal", "lock")
READS = {
    "Store": """get count count_of endpoint endpoints endpoints_of metered own_policies_of number_of tenants_of
        members_count pooled pooled_count claimable in_netns leased held mac_holder binding_holder unfinished
        interrupted unsettled claims_left host_link_taken published_ports proxied changed keep_spare_room in_place
        look""",
    "Draining": "all addresses unretired",
    "PoliciesInForce": "get all sizes",
    "KeptPolicies": "read",
    "NodeObserver": "observe fingerprint addresses listeners mtu is_own",
    "ProcSysctls": "read",
    "ProcNamespaces": "kept opened attached identity_of identity_of_own",
    "LinkLayer": """find find_bridge index_of observe port_differences bridge_differences checksum_differences
        latch_differences""",
    "NftRules": "chains elements generation is_kept is_met is_owned shape refusal difference",
    "XtTables": "variants installed features lacking order save spelled",
    "IpSets": "definitions entries",
    "Glances": "leads begin vouches denies generation",
}
"""What leaves the node and the record as they were, by the adapter whose it is: whatever is not named here is taken for
a change. They are two thirds of all steps."""
PARTS = ("Draining", "PoliciesInForce")
"""Of the journal."""
ALIKE = frozenset({"ProcSysctls.write"})
"""Changes that come many in a row, none of which is more than the one before it."""
CANNOT_FAIL = "end_look"
Operation = Callable[[Wall], object]


class Steps:
    """Counts the steps of one operation, and has something happen before the n-th of those that are taken.

    Of a row of `ALIKE` changes the first two are taken: nothing of it, and a part. All of it is the next step's.
    `--full` takes every one.
    """

    every = False

    def __init__(self, at: int) -> None:
        self._left = at
        self._alike = 0

    def __call__(self) -> None:
        """A step that is taken."""
        self._left -= 1
        if self._left == 0:
            self._happen()

    def before(self, kind: str, *, reads: bool) -> None:
        """What a step begins with; `reads`: it changes neither node nor record."""
        raise NotImplementedError

    def after(self) -> None:
        """Node or record may be others now."""

    def _happen(self) -> None:
        raise NotImplementedError

    @property
    def _amid(self) -> bool:
        """Whether it is in a row of which enough was seen."""
        return self._alike > 2 and not self.every

    def _count(self, kind: str) -> None:
        self._alike = self._alike + 1 if kind in ALIKE else 0
        if not self._amid:
            self()


class Doom(Steps):
    """Ends the process by SIGKILL. Who dies before a step leaves what who dies before the next one does, where that
    step changed nothing: they are one. Writes to the record are nothing until their transaction ends."""

    _changed = True

    def before(self, kind: str, *, reads: bool) -> None:
        if self._changed and not reads:
            self._changed = False
            self._count(kind)

    def after(self) -> None:
        self._changed = True

    def _happen(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Fault(Steps):
    """Fails, as a kernel does that has no memory. Of steps that change nothing and come before the first change only
    one is taken, but by `--full`: nothing is to be undone."""

    _read = False
    _written = False

    def before(self, kind: str, *, reads: bool) -> None:
        if not reads:
            self._count(kind)
        elif self._written or self.every or not self._read:
            self._read = True
            self()

    def after(self) -> None:
        self._written = True

    def _happen(self) -> None:
        raise KernelError(12, "the step that was to fail")

    @property
    def happened(self) -> bool:
        return self._left <= 0


class Stepped:
    """An adapter every call of which is a step, and of its parts, which are in its transactions (`whole`)."""

    def __init__(self, adapter: Any, steps: Steps, whole: "Stepped | None" = None) -> None:
        object.__setattr__(self, "_adapter", adapter)
        object.__setattr__(self, "_steps", steps)
        object.__setattr__(self, "_whole", whole or self)
        object.__setattr__(self, "_uncommitted", False)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._adapter, name)
        if type(found).__name__ in PARTS:
            return Stepped(found, self._steps, self)
        if not callable(found) or name == CANNOT_FAIL:
            return found
        adapter = type(self._adapter).__name__
        reads = name in READS.get(adapter, "").split()

        def call(*args: Any, **kwargs: Any) -> Any:
            self._steps.before(f"{adapter}.{name}", reads=reads)
            if name == "transaction":
                return self._transaction(found)
            try:
                return found(*args, **kwargs)
            finally:
                if not (reads or self._whole._uncommitted):
                    self._steps.after()

        return call

    @contextmanager
    def _transaction(self, begin: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
        object.__setattr__(self, "_uncommitted", True)
        try:
            with begin():
                yield
        finally:
            object.__setattr__(self, "_uncommitted", False)
            self._steps.after()

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._adapter, name, value)

    def __enter__(self) -> Any:
        self._steps.before("enter", reads=False)
        return self._adapter.__enter__()

    def __exit__(self, *exception: object) -> None:
        try:
            self._steps.before("leave", reads=False)
        finally:
            self._adapter.__exit__(*exception)


def stepped(wall: Wall, steps: Steps, **changes: object) -> Wall:
    """The same node through adapters that count their calls."""
    site = msgspec.structs.replace(wall._site, **changes)
    adapters: dict[str, object] = {name: Stepped(getattr(site, name), steps) for name in ADAPTERS}
    return rewired(wall, **changes, kept=lambda: Stepped(site.kept(), steps), **adapters)


def killed_at(world: World, operation: Operation, step: int, **changes: object) -> bool:
    """Do `operation` in a child process that is killed before the n-th of its steps that are taken (see `Doom`); False
    where it got through."""

    def opened(doom: Doom) -> None:
        wall = Wall.open(root=world.lab.root, settings=world.wall.settings)
        operation(stepped(wall, doom, **changes))

    return child_killed_at(step, opened)


def child_killed_at(step: int, act: Callable[[Doom], object]) -> bool:
    """`act` in a child process, which is killed when what it is given is called for the n-th time; False where it
    got through."""
    child = os.fork()
    if child == 0:
        status = 70
        try:
            act(Doom(step))
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
    """Crash at each step that is taken (see `Doom`), the number of which is given; 0 when it got through. The caller
    repairs and checks in between."""
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
