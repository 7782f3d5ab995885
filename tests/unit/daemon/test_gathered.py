"""Attaches that waited in one row, of callers who may ask for different tenants."""

from collections.abc import Sequence

import msgspec
import pytest

from cellwall.daemon import quotas
from cellwall.daemon.asker import Asker
from cellwall.daemon.authority import Authority, Granted, Peer
from cellwall.daemon.turns.gathered import Attach, Attached, attach_gathered
from cellwall.engine.requests import AttachRequest
from cellwall.errors import Exhausted, NotFound
from cellwall.model.endpoint import AUTO, Endpoint, parse_binding
from cellwall.model.grants import parse_grant
from cellwall.model.reserved import Reservation
from cellwall.model.settings import Settings
from scene import WEB

GRANTS = Authority(
    Granted(gid, parse_grant(f"{gid} attach,expose {tenants}", "daemon.allow"))
    for gid, tenants in ((7, "ci-*"), (8, "web"))
)


class Wall:
    """A wall on whose record is how many ports are published, and four of one tenant that are reserved, and proxied;
    notes each question for those published."""

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

    def reservations(self) -> tuple[Reservation, ...]:
        return (Reservation("ci", "ci-1", (61000, 61001, 61002, 61003), 0.0),)

    def unpublished_ports(self, *_: object) -> int:
        return 0

    def proxied_ports(self) -> dict[str, int]:
        return {"ci-1": 4}

    def attach(self, requests: Sequence[AttachRequest]) -> list[Endpoint]:
        self.batches.append(len(requests))
        return [WEB] * len(requests)


def waiting(tenant: str, port: int, *groups: int, uid: int = 1000, **changes: int) -> Attach:
    binding = msgspec.structs.replace(parse_binding(f"{port}:80"), **changes)
    request = AttachRequest(f"{tenant}-{port}", tenant=tenant, bindings=(binding,))
    return Attach(request, None, Asker(Peer(uid, frozenset(groups)), GRANTS))  # type: ignore[arg-type]


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


@pytest.mark.parametrize("port", [1999, 2002], ids=["before", "behind"])
def test_root_that_has_their_groups_too_hides_nobody(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root has no bound, and a member of the same groups keeps its own."""
    monkeypatch.setattr(quotas, "MAX_PORTS", 5)
    wall = Wall(published=4)

    def attach(requests: Sequence[AttachRequest]) -> list[Endpoint]:
        wall.published += sum(request.tenant == "ci-1" for request in requests)
        return wall.attach(requests)

    items = [waiting("ci-1", 2000, 7), waiting("ci-1", 2001, 7), waiting("web", port, 7, uid=0)]
    items.sort(key=lambda item: item.request.bindings[0].host_port)
    refused = [isinstance(one, Exhausted) for one in attach_gathered(wall, attach, items)]  # type: ignore[arg-type]
    assert refused.count(True) == 1
    assert wall.batches == [1, 1]


@pytest.mark.parametrize(("bound", "changes"), [
    ("MAX_PORTS", {}),
    ("MAX_RESERVED_OF_CALLER", {"host_port": AUTO}),
    ("MAX_PROXIED", {"proxy": 4}),
], ids=["published", "reserved", "proxied"])  # fmt: skip
def test_what_others_ask_for_is_nobodys_share(
    bound: str, changes: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotas, bound, 5)
    wall = Wall(published=4)
    items = [waiting("ci-1", 2000, 7, **changes), waiting("web", 2001, 8, **changes)]
    assert attach_gathered(wall, wall.attach, items) == [Attached(WEB, before=False)] * 2  # type: ignore[arg-type]
    assert wall.batches == [2]


def test_a_reserved_port_that_is_named_beside_any_free_one_is_not_counted_as_that_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quotas, "MAX_RESERVED_OF_CALLER", 4)  # as many as there are
    wall = Wall()
    monkeypatch.setattr(wall, "unpublished_ports", lambda *asked: len({61000}.difference(*asked[2:])))
    free = waiting("ci-1", 2000, 7, host_port=AUTO)
    named = parse_binding("61000:81")
    both = (*free.request.bindings, named)
    more = Attach(msgspec.structs.replace(free.request, bindings=both), None, free.asker)
    assert attach_gathered(wall, wall.attach, [free]) == [Attached(WEB, before=False)]  # type: ignore[arg-type]
    (refused,) = attach_gathered(wall, wall.attach, [more])  # type: ignore[arg-type]
    assert isinstance(refused, Exhausted)
