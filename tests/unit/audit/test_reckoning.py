"""What was not recorded one by one: exact in the end, and never said of who had everything recorded."""

from hypothesis import given
from hypothesis import strategies as st

from cellwall.audit.reckoning import Attachment, Key, Reckoning

WEB, JOB = ("acme", "web", "eth0"), ("rival", "job", "eth0")
HOLDERS: dict[Key, Attachment] = {("port", 7): WEB, ("sent", 1): WEB, ("received", 1): WEB, ("sent", 2): JOB}


def begun() -> Reckoning:
    made = Reckoning()
    made.read({("sent", 1): 1000}, HOLDERS.get, 0.0)
    assert made.reckon() == []
    return made


def test_what_was_counted_before_is_nobody_s_to_record() -> None:
    made = begun()
    made.read({("sent", 1): 1000}, HOLDERS.get, 1.0)
    assert made.reckon(last=True) == []


def test_what_is_missing_of_all_counters_of_a_container_is_said_once() -> None:
    made = begun()
    for _ in range(3):
        made.record(WEB, 0.5)
    counters: dict[Key, int] = {("sent", 1): 1010, ("port", 7): 5, ("received", 1): 1, ("sent", 2): 4}
    said = []
    for when in (1.0, 2.0, 3.0):
        made.read(counters, HOLDERS.get, when)
        said += made.reckon()
    assert sorted(said) == [(WEB, 13), (JOB, 4)]


def test_a_packet_that_is_stamped_before_and_counted_after_is_not_missing() -> None:
    made = begun()
    made.read({("sent", 1): 1001}, HOLDERS.get, 1.0)  # counted, and read from the log only after that
    made.record(WEB, 1.0001)
    assert made.reckon() == []
    made.read({("sent", 1): 1001}, HOLDERS.get, 2.0)
    assert made.reckon() == []


def test_a_counter_that_begins_anew_loses_nothing() -> None:
    made = begun()
    made.read({("sent", 1): 3}, HOLDERS.get, 1.0)
    assert made.reckon(last=True) == [(WEB, 3)]
    made.read({}, HOLDERS.get, 2.0)
    made.read({("sent", 1): 2}, HOLDERS.get, 3.0)
    assert made.reckon(last=True) == [(WEB, 2)]


def test_what_is_on_record_from_before_the_first_reading_makes_up_for_nothing() -> None:
    made = Reckoning()
    made.record(WEB, -1.0)
    made.read({("sent", 1): 1000}, HOLDERS.get, 0.0)
    made.reckon()
    made.read({("sent", 1): 1001}, HOLDERS.get, 1.0)
    assert made.reckon(last=True) == [(WEB, 1)]


def test_what_came_after_a_reading_that_another_overtook_is_on_record_once() -> None:
    made = begun()
    made.read({("sent", 1): 1005}, HOLDERS.get, 1.0)
    for _ in range(3):
        made.record(WEB, 1.5)
    made.read({("sent", 1): 1008}, HOLDERS.get, 2.0)
    assert made.reckon(last=True) == [(WEB, 5)]
    made.read({("sent", 1): 1010}, HOLDERS.get, 3.0)
    assert made.reckon(last=True) == [(WEB, 2)]


def test_what_is_counted_of_nobody_known_is_said_of_nobody() -> None:
    made = begun()
    made.read({("sent", 99): 5}, HOLDERS.get, 1.0)
    assert made.reckon(last=True) == []


def test_containers_that_are_gone_do_not_pile_up() -> None:
    made = Reckoning(most=50)
    made.read({}, HOLDERS.get, 0.0)
    for number in range(500):
        key: Key = ("sent", 10_000 + number)
        whose = ("t", f"c{number}", "eth0")
        made.record(whose, float(number))
        made.read({key: 1}, {key: whose}.get, number + 0.5)
        assert made.reckon() == []
    assert len(made._denied) <= 51


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 10), st.booleans()), min_size=1, max_size=20))
def test_in_the_end_it_is_exact_however_the_two_are_looked_at(steps: list[tuple[int, int, bool]]) -> None:
    """Each step counts some, of which some are told, and those are read before the counters or after them."""
    made, counted, told, said, clock = begun(), 1000, 0, 0, 0.0
    for more, within, late in steps:
        clock += 1.0
        counted += more
        recorded = min(more, within)
        told += recorded
        if not late:
            for _ in range(recorded):
                made.record(WEB, clock)
        made.read({("sent", 1): counted}, HOLDERS.get, clock + 0.5)
        if late:
            for _ in range(recorded):
                made.record(WEB, clock)
        said += sum(count for _, count in made.reckon())
        assert said <= counted - 1000 - told
    made.read({("sent", 1): counted}, HOLDERS.get, clock + 2)
    said += sum(count for _, count in made.reckon(last=True))
    assert said == counted - 1000 - told
