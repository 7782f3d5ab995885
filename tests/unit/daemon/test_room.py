"""What is held of long bodies and answers has a bound for each group, and none for root."""

import pytest

from cellwall.daemon.http.room import FEW, Room
from cellwall.daemon.turns.lines import ROOT, Whose
from cellwall.errors import Unavailable

MOST = 4 * FEW
ONE, ANOTHER, OTHERS = Whose(5000, 1000), Whose(5000, 1001), Whose(5001, 1000)


def test_a_group_has_so_much_under_however_many_users_and_has_it_again() -> None:
    room = Room(MOST)
    leave = room.take(ONE, MOST - 1)
    for whose in (ONE, ANOTHER):
        with pytest.raises(Unavailable, match="ask again"):
            room.take(whose, MOST // 2)
    room.take(OTHERS, MOST)()
    leave()
    room.take(ANOTHER, MOST)


def test_what_is_refused_takes_no_room() -> None:
    room = Room(MOST)
    leave = room.take(ONE, MOST)
    for _ in range(9):
        with pytest.raises(Unavailable):
            room.take(ONE, MOST)
    leave()
    room.take(ONE, MOST)


def test_one_by_itself_is_never_too_much() -> None:
    room = Room(MOST)
    room.take(ONE, 9 * MOST)()
    room.take(ONE, 9 * MOST)


def test_what_is_short_is_not_counted() -> None:
    room = Room(MOST)
    room.take(ONE, MOST)
    for _ in range(99):
        room.take(ONE, FEW)


def test_what_cannot_be_refused_is_counted() -> None:
    room = Room(MOST)
    leave = [room.take(ONE, MOST, refuse=False) for _ in range(3)]
    for each in leave:
        with pytest.raises(Unavailable):
            room.take(ONE, FEW + 1)
        each()
    room.take(ONE, MOST)


def test_root_has_no_bound() -> None:
    room = Room(MOST)
    for _ in range(9):
        room.take(ROOT, MOST)
