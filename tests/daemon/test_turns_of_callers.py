"""A member's calls wait within the member's share, and are judged by what the member may when they are done."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Event
from typing import Any

import pytest

from cellwall.daemon.asker import Asker
from cellwall.daemon.authority import Authority, Granted, Peer
from cellwall.daemon.bounds import Bounds
from cellwall.daemon.node import Node
from cellwall.errors import Forbidden, NotFound, Unavailable
from cellwall.model.endpoint import EndpointKey, PortBinding
from cellwall.model.grants import parse_grant
from cellwall.wire.bodies import AttachBody, Places
from cellwall.wire.policies import PolicyBody
from daemon.served import namespace_of
from served import Served, open_served

pytestmark = pytest.mark.root

USER, GROUP = 54321, 7
KEY = EndpointKey("job")
Call = Callable[[Node, Asker, Places], Awaitable[Any]]
CALLS: dict[str, Call] = {
    "attach": lambda node, asker, places: node.attachments.attach(asker, places),
    "claim": lambda node, asker, places: node.attachments.claim(asker, places),
    "attach many": lambda node, asker, places: node.attachments.attach_many(asker, places),
    "detach": lambda node, asker, _: node.attachments.detach(asker, KEY),
    "detach many": lambda node, asker, _: node.attachments.detach_many(asker, [KEY]),
    "expose": lambda node, asker, _: node.ports.expose(asker, KEY, PortBinding("tcp", 8080, 80)),
    "unexpose": lambda node, asker, _: node.ports.unexpose(asker, KEY, PortBinding("tcp", 8080, 80)),
    "reserve": lambda node, asker, _: node.ports.reserve(asker, "job", 1, "ci-1", 60.0),
    "release": lambda node, asker, _: node.ports.release(asker, "job"),
    "set policy": lambda node, asker, _: node.policies.set(asker, "ci-1", PolicyBody(mode="block"), patch=False),
    "remove policy": lambda node, asker, _: node.policies.remove(asker, "ci-1"),
    "findings": lambda node, asker, _: node.endpoints.findings(asker, KEY),
}
"""Each by which who is not root asks the writer for something."""


class Stage:
    """A daemon with a member, and a writer that is at one write until it is let go."""

    def __init__(self, served: Served, authority: Authority, places: Places) -> None:
        self.served, self.authority, self.places = served, authority, places
        self.member = Asker(Peer(USER, frozenset({GROUP})), authority)
        self.began, self.go = Event(), Event()

    def ask(self, call: Call) -> "Future[Any]":
        return self._submit(lambda: call(self.served.node, self.member, self.places))

    def wait_as_root(self) -> "Future[Any]":
        return self._submit(lambda: self.served.node.writer.do(str))

    def hold(self) -> "Future[Any]":
        def write() -> None:
            self.began.set()
            assert self.go.wait(30)

        held = self._submit(lambda: self.served.node.writer.do(write))
        assert self.began.wait(30)
        return held

    def _submit(self, act: Callable[[], Awaitable[Any]]) -> "Future[Any]":
        async def run() -> Any:
            return await act()

        return asyncio.run_coroutine_threadsafe(run(), self.served.loop)

    def settle(self) -> None:
        """Everything that was asked for waits, or has its answer."""
        for _ in range(3):
            self._submit(_nothing).result(30)


async def _nothing() -> None: ...


@contextmanager
def stage(**bounds: Any) -> Iterator[Stage]:
    granted = Granted(GROUP, parse_grant(f"{GROUP} attach,detach,expose,policy,check ci-*", "daemon.allow"))
    authority = Authority([granted])
    with open_served(authority=authority, bounds=Bounds(**bounds)) as served, namespace_of(USER) as netns:
        yield Stage(served, authority, Places([AttachBody(container="job", tenant="ci-1", netns=netns)], [""]))


def test_of_what_may_wait_the_last_quarter_is_roots_whatever_it_is() -> None:
    with stage(writes=4) as node:
        held = node.hold()
        waiting = [node.wait_as_root() for _ in range(3)]
        node.settle()
        for name, call in CALLS.items():
            with pytest.raises(Unavailable):
                pytest.fail(f"{name}: {node.ask(call).result(30)}")
        waiting.append(node.wait_as_root())
        node.go.set()
        assert [each.result(30) for each in (held, *waiting)] == [None, "", "", "", ""]


def test_a_grant_that_is_taken_back_while_calls_wait_is_none() -> None:
    with stage() as node:
        held = node.hold()
        waiting = {name: node.ask(call) for name, call in CALLS.items()}
        node.settle()
        node.authority.regrant(())
        node.go.set()
        held.result(30)
        for name in ("attach", "claim", "attach many", "reserve", "set policy", "remove policy"):
            assert isinstance(waiting[name].exception(30), Forbidden), name
        for name in ("expose", "unexpose", "findings"):  # what a member may not be told of is not there
            assert isinstance(waiting[name].exception(30), NotFound), name
        assert [waiting[name].result(30) for name in ("detach", "detach many", "release")] == [False, 0, 0]
        wall = node.served.world.wall
        assert (wall.endpoints(), wall.reservations(), dict(wall.policies())) == ((), (), {})


def test_what_is_half_attached_is_no_members_to_close() -> None:
    """It is on record, and no endpoint yet: whose it will be is root's to say."""
    with stage() as node:
        assert not node.member.may_close(node.served.world.wall, KEY)
        assert Asker(Peer(0), node.authority).may_close(node.served.world.wall, KEY)
