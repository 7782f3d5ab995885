"""The Python API: one node, and what can be done with it.

    with Wall.open() as wall:
        web = wall.attach("web", tenant="acme", expose=["8080:80"])
        print(web.netns, web.address4)

A `Wall` is opened here; its verbs are in a module each for the node, endpoints, policies, and for who keeps a node for
long. Every method that changes something takes the writer lock of the node for its own length, so any number of
processes and threads may use the same node. What only some verbs need is imported when these run: a front end that
attaches one container starts a process for it.
"""

import os
from collections.abc import Callable
from functools import partial

from cellwall.adapters.record.lock import KEPT
from cellwall.api.endpoints import EndpointVerbs
from cellwall.api.node import NodeVerbs
from cellwall.api.policies import PolicyVerbs
from cellwall.api.pool import PoolVerbs
from cellwall.api.upkeep import UpkeepVerbs
from cellwall.composition import compose, configured
from cellwall.config import (
    Paths,
    drop_mode_record,
    load_settings,
    paths_for,
    record_daemon,
    record_settings,
    recorded_mode,
)
from cellwall.engine.arguments import Document
from cellwall.engine.caller import Configured
from cellwall.engine.requests import AttachRequest, Reconciled, Status, UpReport
from cellwall.engine.site import Site
from cellwall.errors import NoPrivilege, Unavailable
from cellwall.model.endpoint import Endpoint, EndpointKey, PortBinding
from cellwall.model.policy import Policy
from cellwall.model.settings import Settings

__all__ = [
    "AttachRequest",
    "Endpoint",
    "EndpointKey",
    "PortBinding",
    "Reconciled",
    "Status",
    "UpReport",
    "Wall",
    "check_policy",
    "policy_judge",
    "take_back",
]

HANDOVER = 5.0
"""For how many seconds a daemon waits for the writer lock when it begins: longer than one operation takes, and than a
daemon that is asked to end."""


class Wall(NodeVerbs, EndpointVerbs, PoolVerbs, PolicyVerbs, UpkeepVerbs):
    """One node. Open it with `Wall.open`; it holds a few netlink sockets and the journal until `close`."""

    @classmethod
    def open(
        cls,
        *,
        root: str | os.PathLike[str] | None = None,
        settings: Settings | Callable[[], Settings] | None = None,
        closing: bool = False,
        serving: bool = False,
        reading: bool = False,
    ) -> "Wall":
        """Open the node of the calling thread's network namespace.

        `root` puts configuration, state and run paths under one directory; `settings` None reads the configuration.
        The configuration, or a function that reads settings, is read by `up`, `reconcile` and the first attach of a
        node that is not up; everything else goes by the settings in force. Given settings that differ from these are
        refused with Conflict by whatever opens something, until `up` is called. `closing`: for who only closes; a
        wrong configuration of a node that is not up is then taken for an empty one.

        Where a daemon writes, anybody else is refused with Unavailable. `serving`: for that daemon, which holds the
        writer lock until `close` and puts itself on record; its threads take turns in the order in which they ask.
        Conflict where another daemon has the lock. `reading`: for who only lists, beside it; what takes a turn is
        refused.

        Raises InvalidSpec for a wrong configuration of a node that is not up, and NoPrivilege without root; touches
        nothing in the kernel.
        """
        paths = paths_for(root)
        if os.geteuid() != 0:
            raise NoPrivilege("cellwall changes links and firewall rules: it needs root")
        if not (serving or reading) and recorded_mode(paths) == "daemon":
            raise Unavailable(KEPT)
        wall = cls(paths, *_opened(paths, settings, serving=serving))
        try:
            if serving:
                wall._serve()
            if not isinstance(settings, Settings):
                wall._caller.begin(closing=closing)
        except BaseException:
            wall._release()
            raise
        return wall

    def _serve(self) -> None:
        from cellwall.adapters.record.turns import FairMutex

        self._caller.take_turns_by(FairMutex())
        self._site.lock.hold(HANDOVER)
        record_daemon(self.paths)


def check_policy(policy: Policy | Document, settings: Settings, *, endpoint: bool = False) -> Policy:
    """The policy, if `Wall.set_policy` would take it for a tenant, or for an `endpoint`, under these settings on the
    node of the calling thread; InvalidSpec. Needs no privilege and changes nothing."""
    return policy_judge(settings, endpoint=endpoint)(policy)


def policy_judge(settings: Settings, *, endpoint: bool = False) -> Callable[[Policy | Document], Policy]:
    """`check_policy` for many policies: the node is looked at once, now."""
    from cellwall.adapters.node.facts import NodeObserver
    from cellwall.compile.assemble import uplink_of
    from cellwall.engine.policies.calls import check_policy

    with NodeObserver() as observer:
        facts = observer.observe()
    node = facts.own_prefixes(settings.network.bridge, uplink_of(settings, facts))
    return partial(check_policy, settings=settings, node=node, endpoint=endpoint)


def take_back(paths: Paths) -> bool:
    """Leave a node to whom the configuration names, where a daemon is on record and none lives. False where one does.

    For who was told by the configuration that no daemon is wanted any more: one that died could not say so itself.
    """
    from cellwall.adapters.record.lock import WriterLock

    try:
        with WriterLock(paths.in_run("writer.lock"), timeout=0):  # what a daemon takes before it goes on record
            drop_mode_record(paths)
    except Unavailable:
        return False
    return True


def _opened(
    paths: Paths, settings: Settings | Callable[[], Settings] | None, *, serving: bool
) -> tuple[Site, Callable[[], None], Configured]:
    if isinstance(settings, Settings):
        settings.validate()
        fixed = configured(lambda: settings, given=record_settings(settings))
        return (*compose(settings, paths, serving=serving), fixed)
    read = settings or (lambda: load_settings(paths, environ=os.environ, overrides={}).settings)
    return (*compose(Settings(), paths, serving=serving), configured(read))
