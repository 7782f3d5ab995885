"""How many connections a user, a group and everybody may have, and what is left for root."""

import pytest

from cellwall.daemon.authority import Peer
from cellwall.daemon.bounds import Bounds
from cellwall.daemon.http.census import Census, Counted

ROOT = Peer(0)
CI, WEB = 50, 51


def member(uid: int, *groups: int) -> Peer:
    return Peer(uid, frozenset(groups))


def test_some_connections_are_left_for_root() -> None:
    census = Census(Bounds(connections=8, connections_per_uid=100))
    held = [census.enter(member(1000)) for _ in range(7)]
    assert [one is not None for one in held] == [True] * 6 + [False]
    assert [census.enter(ROOT) is not None for _ in range(3)] == [True, True, False]
    leave(census, held[0])
    assert census.enter(member(1000)) is None
    assert census.enter(ROOT)


def leave(census: Census, counted: Counted | None) -> None:
    assert counted is not None
    census.leave(counted)


def test_a_user_has_so_many_and_root_any_number() -> None:
    census = Census(Bounds(connections_per_uid=2))
    held = [census.enter(member(1000)) for _ in range(3)]
    assert [one is not None for one in held] == [True, True, False]
    assert census.enter(member(1001))
    assert all(census.enter(ROOT) for _ in range(10))
    leave(census, held[0])
    assert census.enter(member(1000))
    assert census.enter(member(1000)) is None


def test_a_group_has_so_many_under_however_many_users() -> None:
    census = Census(Bounds(connections_per_group=3))
    held = [census.enter(member(100000 + number, CI)) for number in range(4)]
    assert [one is not None for one in held] == [True] * 3 + [False]
    assert census.enter(member(1001, WEB))
    assert census.enter(member(1001, WEB, CI)) is None
    leave(census, held[1])
    assert census.enter(member(1001, WEB, CI))


def test_who_is_granted_nothing_shares_what_a_group_has() -> None:
    census = Census(Bounds(connections_per_group=3), groups=lambda peer: peer.groups & {CI})
    assert [census.enter(member(uid, 7, uid)) is not None for uid in range(1, 5)] == [True] * 3 + [False]
    assert census.enter(member(9, CI))


def test_what_was_counted_leaves_although_groups_are_granted_other_things_meanwhile() -> None:
    granted = {CI}
    census = Census(Bounds(connections_per_group=1), groups=lambda peer: peer.groups & granted)
    held = census.enter(member(1, CI))
    granted.clear()
    leave(census, held)
    granted.add(CI)
    assert census.enter(member(2, CI))


def test_refusals_are_a_line_a_minute_however_often_somebody_comes_and_goes(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    census = Census(Bounds(connections_per_uid=1), clock=lambda: now)
    for _ in range(20):
        held = census.enter(member(1000))
        assert census.enter(member(1000)) is None
        leave(census, held)
    assert len(caplog.records) == 1
    now = 60.0
    census.enter(member(1000))
    assert census.enter(member(1000)) is None
    assert "refused by now: 21" in caplog.messages[1]
