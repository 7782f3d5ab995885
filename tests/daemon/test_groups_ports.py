"""What members of one group may have of a node's ports together, by however many uids."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from threading import Event
from typing import Any

import pytest

from cellwall.daemon import quotas
from cellwall.daemon.asker import Asker
from cellwall.daemon.authority import Authority, Granted, Peer
from cellwall.engine.site import Site
from cellwall.errors import Exhausted
from cellwall.model.endpoint import Endpoint, EndpointKey, PortBinding, parse_binding
from cellwall.model.grants import parse_grant
from cellwall.wire.bodies import AttachBody, Places
from served import Served, open_served

pytestmark = pytest.mark.root
CI, DEV = 7, 8
BESIDE = {"a": 2000, "b": 2010, "c": 2020}
GRANTS = {CI: f"{CI} attach,detach,expose ci-*", DEV: f"{DEV} attach,expose dev-*"}


class Stage:
    """A node, and who asks it."""

    def __init__(self, served: Served, authority: Authority) -> None:
        self.served, self.authority = served, authority

    def reserve(self, user: int, container: str, count: int, group: int = CI) -> int:
        asker, tenant = self.asker(user, group), f"{'ci' if group == CI else 'dev'}-{container}"
        return len(self.served.run(lambda: self.served.node.ports.reserve(asker, container, count, tenant, 60.0)).ports)

    def attach(self, user: int, containers: Sequence[str], expose: Sequence[str]) -> tuple[Endpoint, ...]:
        bodies = [AttachBody(container=name, tenant=f"ci-{name}", expose=tuple(expose)) for name in containers]
        places = Places(bodies, [""] * len(bodies))
        return self.served.run(lambda: self.served.node.attachments.attach_many(self.asker(user), places))

    def expose(self, user: int, container: str, binding: str) -> Endpoint:
        asker, parsed = self.asker(user), parse_binding(binding, auto=True)
        return self.served.run(lambda: self.served.node.ports.expose(asker, EndpointKey(container), parsed))

    def attaching(self, user: int, container: str, expose: str) -> Callable[[], Awaitable[Any]]:
        places = Places([AttachBody(container=container, tenant=f"ci-{container}", expose=(expose,))], [""])
        return lambda: self.served.node.attachments.attach(self.asker(user), places)

    def submit(self, act: Callable[[], Awaitable[Any]]) -> "Future[Any]":
        async def run() -> Any:
            return await act()

        return asyncio.run_coroutine_threadsafe(run(), self.served.loop)

    def asker(self, user: int, group: int = CI) -> Asker:
        return Asker(Peer(user, frozenset({group})), self.authority)


class Unserved:
    """Proxies of which nobody asks whether they serve."""

    def prepare(self, site: Site, bindings: Iterable[PortBinding]) -> None: ...

    def follow(self, site: Site, anew: bool, container: str | None = None) -> None: ...


@pytest.fixture
def stage() -> Iterator[Stage]:
    authority = Authority([Granted(group, parse_grant(text, "daemon.allow")) for group, text in GRANTS.items()])
    with open_served(authority=authority) as served:
        served.world.wall.run_proxies(Unserved())
        yield Stage(served, authority)


def test_calls_that_are_carried_out_together_are_one_share(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them would do alone, by what there was before them."""
    monkeypatch.setattr(quotas, "MAX_PORTS", 4)
    node, go = stage.served.node, Event()
    held = stage.submit(lambda: node.writer.do(lambda: go.wait(30)))
    waiting = [stage.submit(stage.attaching(1000, name, f"{port}-{port + 1}:80")) for name, port in BESIDE.items()]
    stage.submit(_nothing).result(30)
    go.set()
    assert held.result(30)
    outcomes = [one.exception(30) for one in waiting]
    assert [type(one) for one in outcomes] == [type(None), type(None), Exhausted]


async def _nothing() -> None:
    await asyncio.sleep(0.1)


def refused(words: str) -> Any:
    return pytest.raises(Exhausted, match=words)


def test_what_is_reserved_is_one_share_also_where_it_is_given_out_by_itself(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotas, "MAX_RESERVED_OF_CALLER", 4)
    assert stage.reserve(1000, "a", 2) == 2
    stage.attach(1001, ["b"], ["auto:80"])
    with refused("have 3 ports reserved and ask for 2; 4 may be"):
        stage.reserve(1002, "c", 2)
    with refused("have 3 ports reserved and ask for 2; 4 may be"):
        stage.attach(1003, ["c", "d"], ["auto:80"])
    stage.attach(1003, ["a"], ["auto:80", "auto:81"])  # by those that it has
    stage.expose(1003, "b", "auto:81")
    for ask in (
        lambda: stage.expose(1004, "a", "auto:82"),
        lambda: stage.reserve(1004, "a", 3),
        lambda: stage.attach(1004, ["e"], ["auto:80"]),
    ):
        with refused("have 4 ports reserved and ask for 1; 4 may be"):
            ask()
    stage.expose(1004, "b", "auto:81")
    assert stage.reserve(1004, "a", 2) == 2
    assert stage.reserve(1005, "z", 4, DEV) == 4


def test_what_is_served_by_a_proxy_is_one_share(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas, "MAX_PROXIED", 2)
    stage.attach(1000, ["a"], ["8080:80/tcp6to4"])
    with refused("have 1 ports served by a proxy and ask for 2; 2 may be"):
        stage.attach(1001, ["b"], ["8081:80/tcp6to4", "8082:80/tcp6to4"])
    stage.attach(1001, ["b"], ["8081:80/tcp6to4"])
    with refused("have 2 ports served by a proxy and ask for 1; 2 may be"):
        stage.expose(1002, "a", "8083:80/tcp6to4")
    assert len(stage.expose(1002, "a", "8080:80/tcp6to4").bindings) == 1
