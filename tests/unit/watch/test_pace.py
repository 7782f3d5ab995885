"""When a process that watches looks: moments are numbers here, and nobody waits."""

import pytest

from cellwall.adapters.news.alarms import Alarm
from cellwall.watch.pace import AGAIN, BUSY, COURTESY, LONGEST, PATROL, REST, SETTLE, WINDOW, Pace


def rested(now: float = 100.0) -> Pace:
    """One that has looked once and found nothing."""
    pace = Pace(now)
    pace.look()
    pace.looked(now, now, repaired=False)
    return pace


def test_it_begins_with_a_look() -> None:
    pace = Pace(100.0)
    assert pace.due() == 100.0
    assert pace.damaged


def test_damage_is_looked_at_at_once() -> None:
    pace = rested()
    pace.tell(Alarm.DAMAGED, 101.0)
    assert pace.due() <= 101.0
    assert pace.damaged


def test_a_change_is_looked_at_when_it_has_settled_and_further_ones_do_not_put_it_off() -> None:
    pace = rested()
    for moment in (101.0, 101.03, 101.04):
        pace.tell(Alarm.CHANGED, moment)
    assert pace.due() == 101.0 + SETTLE
    assert not pace.damaged


def test_a_look_for_changes_waits_for_who_is_at_work_but_not_for_ever() -> None:
    pace = rested()
    pace.tell(Alarm.CHANGED, 101.0)
    now, deferred = pace.due(), 0
    while pace.defer(now):
        assert pace.due() == now + SETTLE
        now, deferred = pace.due(), deferred + 1
    assert deferred > 1 and COURTESY <= now - 101.0 < COURTESY + 2 * SETTLE
    assert pace.due() <= now


def test_a_look_for_damage_waits_for_nobody() -> None:
    pace = rested()
    pace.tell(Alarm.CHANGED, 101.0)
    assert pace.defer(101.1)
    pace.tell(Alarm.DAMAGED, 101.12)
    assert pace.due() <= 101.12 and not pace.defer(101.12)


def test_what_nobody_is_alarmed_by_is_looked_at_on_patrol_only() -> None:
    pace = rested()
    pace.tell(Alarm.NOTHING, 101.0)
    assert pace.due() == 100.0 + PATROL


def test_what_is_told_during_a_look_is_another_look() -> None:
    pace = rested()
    pace.tell(Alarm.CHANGED, 101.0)
    pace.look()
    pace.tell(Alarm.DAMAGED, 101.1)
    pace.looked(101.05, 101.2, repaired=False)
    assert pace.due() <= 101.2
    assert pace.damaged


def busy(
    pace: Pace,
    *,
    cost: float,
    seconds: float,
    repaired: bool = False,
    alarm: Alarm = Alarm.CHANGED,
    begun: float = 101.0,
) -> float:
    """Changes without end, looked at whenever it is due; the time spent looking."""
    now, spent = begun, 0.0
    while now < begun + seconds:
        pace.tell(alarm, now)
        began = max(now, pace.due())
        pace.look()
        now = began + cost
        pace.looked(began, now, repaired=repaired)
        spent += cost
    return spent


def test_changes_that_never_end_and_are_right_take_a_twentieth_of_the_time() -> None:
    assert 4.0 < busy(rested(), cost=0.2, seconds=100) < 7.0


def test_a_few_changes_after_a_quiet_time_are_all_looked_at_as_they_come() -> None:
    pace = rested()
    for moment in (200.0, 200.5, 201.0):
        pace.tell(Alarm.CHANGED, moment)
        assert pace.due() <= moment + SETTLE
        pace.look()
        pace.looked(moment + SETTLE, moment + SETTLE + 0.2, repaired=False)


def holds(pace: Pace, *, cost: float, seconds: float) -> list[float]:
    """After each repair of what is flushed as soon as it is repaired, for how long nothing is."""
    now, found = 200.0, []
    while now < 200.0 + seconds:
        pace.tell(Alarm.DAMAGED, now)
        now = max(now, pace.due())
        pace.look()
        now += cost
        found.append(pace.looked(now - cost, now, repaired=True))
    return found


@pytest.mark.parametrize("cost", [0.1, 0.3, 1.0])
def test_repairs_without_end_take_a_share_of_the_time_and_never_wait_for_good(cost: float) -> None:
    found = holds(rested(), cost=cost, seconds=20 * WINDOW)
    at_once = round(BUSY / cost)
    assert not any(found[: at_once - 1])
    assert any(found[: at_once + 2])
    assert max(found) <= LONGEST
    assert cost * len(found) < 20 * WINDOW / 2 + 2 * BUSY


@pytest.mark.parametrize(("every", "cost"), [(5.0, 1.0), (1.0, 0.3), (0.5, 0.15)])
def test_flushes_that_are_repaired_in_between_are_repaired_at_once_for_ever(every: float, cost: float) -> None:
    pace = rested()
    for number in range(100):
        now = 200.0 + every * number
        pace.tell(Alarm.DAMAGED, now)
        assert pace.due() <= now
        pace.look()
        assert pace.looked(now, now + cost, repaired=True) == 0.0


def false_alarms(pace: Pace, *, cost: float, seconds: float) -> float:
    """Damage without end that is none; the time spent looking."""
    return busy(pace, cost=cost, seconds=seconds, alarm=Alarm.DAMAGED, begun=200.0)


def test_damage_that_was_none_is_looked_at_a_quarter_of_the_time_and_then_a_twentieth() -> None:
    assert 0.75 < false_alarms(rested(), cost=0.2, seconds=4) < 1.25
    assert 4.0 < false_alarms(rested(), cost=0.2, seconds=100) < 7.0


def test_damage_that_is_slow_to_judge_and_none_never_keeps_the_next_one_waiting_longer_than_the_longest() -> None:
    pace, now, waits = rested(), 200.0, []
    for _ in range(50):
        pace.tell(Alarm.DAMAGED, now)
        waits.append(max(pace.due() - now, 0.0))
        began = now + waits[-1]
        pace.look()
        now = began + 0.5
        pace.looked(began, now, repaired=False)
    assert REST * 0.5 < waits[-1] <= LONGEST
    assert max(waits) <= LONGEST


def test_a_quiet_time_after_false_alarms_has_damage_looked_at_at_once() -> None:
    pace = rested()
    false_alarms(pace, cost=0.2, seconds=100)
    pace.tell(Alarm.DAMAGED, 330.0)
    assert pace.due() <= 330.0


def test_changes_without_end_do_not_keep_damage_waiting() -> None:
    pace = rested()
    busy(pace, cost=0.5, seconds=100)
    pace.tell(Alarm.DAMAGED, 250.0)
    assert pace.due() <= 250.0


def test_what_differs_while_something_changes_is_looked_at_again_so_often_in_a_row() -> None:
    pace, now = rested(), 101.0
    for _ in range(2):
        pace.tell(Alarm.CHANGED, now)
        for _ in range(AGAIN):
            pace.look()
            assert pace.again(now)
            assert pace.due() == now + SETTLE
            now += SETTLE
        pace.look()
        assert not pace.again(now)
        pace.looked(now, now, repaired=True)


def test_what_differs_where_damage_was_seen_is_not_looked_at_again() -> None:
    pace = rested()
    pace.tell(Alarm.CHANGED, 101.0)
    pace.look()
    pace.tell(Alarm.DAMAGED, 101.1)
    assert not pace.again(101.2)


def test_what_differed_while_a_long_write_went_on_is_looked_at_again_after_it() -> None:
    pace = rested()
    pace.tell(Alarm.CHANGED, 101.0)
    for _ in range(AGAIN):
        pace.look()
        assert pace.again(101.0)
    pace.look()
    assert not pace.again(101.0)
    pace.put_off(101.0)  # the writer is still at it
    pace.look()
    assert pace.again(102.0)


def test_damage_that_is_none_is_a_change_that_waits_as_long_as_others() -> None:
    pace = rested()
    pace.tell(Alarm.DAMAGED, 101.0)
    pace.calm(101.0, 101.01)
    assert not pace.damaged
    assert pace.due() == 101.01 + SETTLE
    pace.tell(Alarm.DAMAGED, 101.02)
    assert pace.damaged and pace.due() == 101.01 + REST * (101.01 - 101.0)  # of the time, no more than a share


def test_a_flush_waits_for_no_look_that_found_nothing_and_for_repairs_alone() -> None:
    pace = rested()
    false_alarms(pace, cost=0.2, seconds=100)
    pace.tell(Alarm.DAMAGED, 301.0)
    assert pace.due() > 301.0
    pace.flushed()
    assert pace.due() <= 301.0
    pace.look()
    hold = pace.looked(301.0, 301.0 + BUSY + 1, repaired=True)
    assert hold == BUSY + 1
    pace.flushed()
    assert pace.due() == 302.0 + BUSY + hold


def test_the_look_that_a_repair_sets_off_keeps_no_damage_waiting_and_the_next_one_does() -> None:
    pace, now = rested(), 200.0
    for repaired, waits in ((True, False), (False, False), (False, True)):
        pace.tell(Alarm.DAMAGED, now)
        pace.look()
        pace.looked(now, now + 0.5, repaired=repaired)
        now += 0.5
        pace.tell(Alarm.DAMAGED, now)
        assert (pace.due() > now) == waits
