"""Attaches that waited in one row, of callers who may ask for different tenants."""

from collections.abc import Sequence

import pytest

from cellwall.daemon import quotas
from cellwall.daemon.asker import Asker
from cellwall.daemon.authority import Authority, Granted, Peer
from cellwall.daemon.turns.gathered import Attach, Attached, attach_gathered
from cellwall.engine.requests import AttachRequest
from cellwall.errors import Exhausted, NotFound
from cellwall.model.endpoint import Endpoint, parse_binding
from cellwall.model.grants import parse_grant
from cellwall.model.settings import Settings
from scene import WEB

GRANTS = Authority(
    Granted(gid, parse_grant(f"{gid} attach,expose {tenants}", "daemon.allow"))
    for gid, tenants in ((7, "ci-*"), (8, "web"))
)


class Wall:
    """A wall on whose record nobody has anything, but for how many ports are published; notes each question."""

    settings = Settings()

    def __init__(self, published: int = 0) -> None:
        self.published = published
        self.asked: list[str] = []
        self.batches: list[int] = []

    def endpoint(self, *_: object, **__: object) -> Endpoint:
        raise NotFound("nobody")

    def published_ports(self) -> dict[str, int]:
        self.asked.append("ports")
        return {"ci-1": self.published}

    def attach(self, requests: Sequence[AttachRequest]) -> list[Endpoint]:
        self.batches.append(len(requests))
        return [WEB] * len(requests)


def waiting(tenant: str, port: int, *groups: int) -> Attach:
    request = AttachRequest(f"{tenant}-{port}", tenant=tenant, bindings=(parse_binding(f"{port}:80"),))
    return Attach(request, None, Asker(Peer(1000 + port, frozenset(groups)), GRANTS))  # type: ignore[arg-type]


def test_who_may_ask_for_less_than_another_is_carried_out_with_them() -> None:
    wall = Wall()
    items = [waiting("ci-1", 2000, 7), waiting("web", 2001, 7, 8), waiting("ci-1", 2002, 7)]
    outcomes = attach_gathered(wall, wall.attach, items)  # type: ignore[arg-type]
    assert outcomes == [Attached(WEB, before=False)] * 3
    assert wall.batches == [3]
    assert len(wall.asked) == len(items) + 1  # by each alone, and once by all together


def test_what_all_ask_for_together_is_more_than_one_of_them_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas, "MAX_PORTS", 5)
    wall = Wall(published=4)

    def attach(requests: Sequence[AttachRequest]) -> list[Endpoint]:
        wall.published += len(requests)
        return wall.attach(requests)

    items = [waiting("ci-1", 2000, 7, 8), waiting("ci-1", 2001, 7)]
    first, second = attach_gathered(wall, attach, items)  # type: ignore[arg-type]
    assert first == Attached(WEB, before=False)
    assert isinstance(second, Exhausted)
    assert wall.batches == [1]


def test_what_others_ask_for_is_nobodys_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas, "MAX_PORTS", 5)
    wall = Wall(published=4)
    items = [waiting("ci-1", 2000, 7), waiting("web", 2001, 8)]
    assert attach_gathered(wall, wall.attach, items) == [Attached(WEB, before=False)] * 2  # type: ignore[arg-type]
    assert wall.batches == [2]
