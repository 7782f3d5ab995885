"""Totals by tenant never go back, whatever becomes of links, and tenants cannot be so many that series are."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellwall.daemon.metrics.odometer import Memory, Odometer, Reading
from cellwall.daemon.metrics.shares import NOBODY, OTHERS, Shares
from cellwall.daemon.metrics.totals import Totals, TotalsFile


def of(owner: str, *figures: int) -> Reading:
    return Reading(owner, figures)


def look(odometer: Odometer, **meters: Reading) -> dict[str, tuple[int, ...]]:
    odometer.read(odometer.begin(), meters)
    return odometer.memory().totals


def test_a_total_is_the_sum_of_what_its_meters_show() -> None:
    odometer = Odometer()
    assert look(odometer, a=of("x", 5, 50), b=of("x", 1, 10), c=of("y", 7, 70)) == {"x": (6, 60), "y": (7, 70)}
    assert look(odometer, a=of("x", 6, 55), b=of("x", 1, 10), c=of("y", 7, 70)) == {"x": (7, 65), "y": (7, 70)}


def test_a_meter_that_is_gone_takes_nothing_away() -> None:
    odometer = Odometer()
    look(odometer, a=of("x", 5))
    assert look(odometer) == {"x": (5,)}
    assert look(odometer, b=of("x", 2)) == {"x": (7,)}


def test_a_meter_that_is_not_listed_for_a_while_is_still_the_same() -> None:
    odometer = Odometer()
    look(odometer, a=of("x", 5), b=of("x", 5))
    look(odometer)  # both are being closed: their record is no longer that of an attached one
    odometer.part({"a": of("x", 6)})
    assert odometer.memory().totals == {"x": (11,)}
    after = Odometer(memory=odometer.memory())
    assert look(after, b=of("x", 7)) == {"x": (13,)}
    look(after)
    assert look(after, b=of("x", 7)) == {"x": (13,)}
    look(after)
    assert look(after, b=of("x", 8)) == {"x": (14,)}


def test_what_a_meter_counted_while_it_was_nobodys_is_nobodys() -> None:
    odometer = Odometer()
    odometer.disregard({"a": (5,), "b": (7,), "c": (7,)}, {"a", "b", "c"})
    assert look(odometer, a=of("x", 6)) == {"x": (1,)}
    odometer.part({"b": of("x", 9)})
    assert odometer.memory().totals == {"x": (3,)}
    assert look(odometer, c=of("x", 2)) == {"x": (5,)}  # another one of that name


def test_so_it_is_of_one_that_gets_its_owner_amid_a_reading() -> None:
    odometer = Odometer()
    odometer.disregard({"a": (5,), "b": (5,)}, {"a", "b"})
    odometer.disregard({}, {"a"})  # no owner's when they were read, and somebody's by the time of the look at who is
    assert look(odometer, a=of("x", 6)) == {"x": (1,)}
    assert look(odometer, a=of("x", 6), b=of("x", 6)) == {"x": (7,)}, "which was gone, and is another one"


def test_of_meters_that_are_not_listed_no_more_is_remembered_than_may_come_back() -> None:
    odometer = Odometer()
    for first in range(0, 20_000, 100):
        look(odometer, **{f"m{number}": of("x", 1) for number in range(first, first + 100)})
    assert odometer.memory().totals == {"x": (20_000,)}
    assert len(odometer.memory().shown) <= 3 * 4096 + 100


def test_what_a_meter_shows_last_is_counted_when_its_end_is_told() -> None:
    odometer = Odometer()
    look(odometer, a=of("x", 5))
    odometer.part({"a": of("x", 9), "b": of("x", 3)})
    assert odometer.memory().totals == {"x": (12,)}
    odometer.part({"a": of("x", 9)})
    assert odometer.memory().totals == {"x": (12,)}, "an end that is told twice is one"


def test_a_reading_that_began_before_an_end_does_not_count_it_again() -> None:
    odometer = Odometer()
    number = odometer.begin()
    odometer.part({"a": of("x", 9)})
    odometer.read(number, {"a": of("x", 4)})
    assert odometer.memory().totals == {"x": (9,)}
    for _ in range(2):
        assert look(odometer, a=of("x", 9)) == {"x": (9,)}, "nor does one whose record is as old"
    assert look(odometer) == {"x": (9,)}


def test_a_reading_that_began_before_an_end_does_not_let_the_next_count_it_again() -> None:
    odometer = Odometer()
    number = odometer.begin()
    odometer.part({"a": of("x", 9)})
    odometer.read(number, {})
    assert look(odometer, a=of("x", 9)) == {"x": (9,)}


def test_a_name_that_another_meter_gets_is_counted_from_nothing() -> None:
    """Also where it shows more than the one that ended."""
    odometer = Odometer()
    look(odometer, a=of("x", 5))
    odometer.part({"a": of("x", 9)})
    look(odometer)
    assert look(odometer, a=of("y", 20)) == {"x": (9,), "y": (20,)}
    odometer.part({"a": of("y", 21)})
    assert odometer.memory().totals == {"x": (9,), "y": (21,)}


def test_a_meter_that_begins_anew_counts_from_nothing() -> None:
    odometer = Odometer()
    look(odometer, a=of("x", 5, 500))
    assert look(odometer, a=of("x", 2, 600)) == {"x": (7, 1100)}


def test_of_two_readings_at_once_the_later_one_counts() -> None:
    odometer = Odometer()
    early, late = odometer.begin(), odometer.begin()
    odometer.read(late, {"a": of("x", 9)})
    odometer.read(early, {"a": of("x", 4)})
    assert odometer.memory().totals == {"x": (9,)}
    assert look(odometer, a=of("x", 10)) == {"x": (10,)}


def test_meters_that_all_began_anew_count_whole_also_where_they_show_more_than_before() -> None:
    odometer = Odometer()
    look(odometer, a=of("x", 5))
    early = odometer.begin()
    odometer.restart()
    odometer.read(early, {"a": of("x", 5)})
    assert odometer.memory().totals == {"x": (5,)}, "which was read of the former ones"
    assert look(odometer, a=of("x", 7)) == {"x": (12,)}


def test_so_do_those_that_were_not_listed_just_then_or_were_nobodys() -> None:
    odometer = Odometer()
    look(odometer, a=of("x", 5))
    look(odometer)
    odometer.disregard({"b": (5,)}, {"a", "b"})
    odometer.restart()
    assert look(odometer, a=of("x", 7), b=of("y", 7)) == {"x": (12,), "y": (7,)}


def test_the_next_odometer_goes_on_and_counts_nothing_twice() -> None:
    before = Odometer()
    look(before, a=of("x", 5), b=of("x", 5))
    after = Odometer(memory=before.memory())
    assert after.memory().totals == {"x": (10,)}
    assert look(after, a=of("x", 8)) == {"x": (13,)}


def test_of_ends_no_more_is_remembered_than_can_be_late() -> None:
    odometer = Odometer()
    for number in range(20_000):
        odometer.part({str(number): of("x", 1)})
    assert odometer.memory().totals == {"x": (20_000,)}
    assert len(odometer._parted) == 3 * 4096


STEPS = st.lists(
    st.tuples(st.sampled_from(["pass", "end", "look", "look at some"]), st.integers(0, 4), st.integers(0, 9)),
    max_size=80,
)


@given(STEPS)
def test_whatever_comes_and_goes_totals_are_exact_and_never_go_back(steps: list[tuple[str, int, int]]) -> None:
    odometer, live, sent, names = Odometer(), {}, {}, iter(range(1000))  # type: ignore[var-annotated]
    last: dict[str, tuple[int, ...]] = {}
    for step, slot, amount in steps:
        owner = f"t{slot % 3}"
        if step == "pass":
            name, shown = live.get(slot) or (str(next(names)), 0)
            live[slot] = name, shown + amount
            sent[owner] = sent.get(owner, 0) + amount
        elif step == "end" and slot in live:
            name, shown = live.pop(slot)
            odometer.part({name: of(owner, shown)})
        elif step == "look at some":  # others are being closed
            some = {name: of(f"t{at % 3}", shown) for at, (name, shown) in live.items() if (at + amount) % 2}
            odometer.read(odometer.begin(), some)
        else:
            meters = {name: of(f"t{at % 3}", shown) for at, (name, shown) in live.items()}
            odometer.read(odometer.begin(), meters)
            assert odometer.memory().totals == {owner: (total,) for owner, total in sent.items()}
        now = odometer.memory().totals
        assert all(now[label] >= figures for label, figures in last.items())
        last = now


def test_so_many_tenants_have_a_label_and_the_rest_are_one() -> None:
    shares = Shares(2, linger=60)
    assert [shares.label(tenant) for tenant in ("a", "b", "c", "a", "")] == ["a", "b", OTHERS, "a", NOBODY]
    assert shares.attend(["b", "c", "d"], now=0) == []
    assert shares.label("d") == OTHERS


def test_a_label_ends_a_while_after_its_last_endpoint_and_is_the_next_ones() -> None:
    shares = Shares(1, linger=60)
    assert shares.attend(["a"], now=0) == []
    assert shares.attend(["b"], now=60) == []
    assert shares.label("b") == OTHERS
    assert shares.attend(["b"], now=61) == ["a"]
    assert shares.attend(["b"], now=62) == []
    assert (shares.label("b"), shares.label("a")) == ("b", OTHERS)


def test_who_came_and_went_between_two_looks_has_its_while_too() -> None:
    shares = Shares(1, linger=60)
    shares.label("a")
    assert shares.attend([], now=1000) == []
    assert shares.attend([], now=1061) == ["a"]


def test_totals_are_bounded_and_sum_up_also_where_labels_change_hands() -> None:
    shares = Shares(3, linger=10)
    odometer = Odometer(shares.label)
    passed = 0
    for now in range(0, 600, 6):
        tenants = [f"t{now}-{number}" for number in range(50)]
        odometer.read(odometer.begin(), {f"{tenant}": of(tenant, 1) for tenant in tenants})
        passed += 50
        before = sum(total for (total,) in odometer.memory().totals.values())
        ended = shares.attend(tenants, now)
        gone = sum(odometer.memory().totals[label][0] for label in ended if label in odometer.memory().totals)
        for label in ended:
            odometer.drop(label)
        passed -= gone
        assert before - gone == passed == sum(total for (total,) in odometer.memory().totals.values())
        assert len(odometer.memory().totals) <= 4


def test_no_tenant_can_be_called_like_what_is_no_tenant() -> None:
    from cellwall.errors import InvalidSpec
    from cellwall.model.identifiers import parse_tenant

    for label in (OTHERS, NOBODY):
        try:
            parse_tenant(label)
        except InvalidSpec:
            continue
        raise AssertionError(label)


def test_the_file_is_of_one_boot_and_what_is_damaged_begins_anew(tmp_path: Path) -> None:
    path = str(tmp_path / "totals")
    kept = Totals(Memory({"7": (1, 2)}, {"acme": (3, 4)}), Memory({}, {"dropped why": (5, 6)}))
    assert TotalsFile(path, "one").read() == Totals()
    TotalsFile(path, "one").write(kept)
    found = TotalsFile(path, "one").read()
    assert (found.traffic, found.denied) == (kept.traffic, kept.denied)
    assert TotalsFile(path, "two").read() == Totals()
    assert Path(path).stat().st_mode & 0o777 == 0o600
    for damaged in (b"", b"\xff\x00", Path(path).read_bytes()[:-3]):
        Path(path).write_bytes(damaged)
        assert TotalsFile(path, "one").read() == Totals()


def test_totals_of_another_form_are_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "totals")
    TotalsFile(path, "one").write(Totals(Memory({"7": (1, 2)}, {"acme": (3, 4)})))
    assert TotalsFile(path, "one").read().traffic.totals
    monkeypatch.setattr("cellwall.daemon.metrics.totals._FORM", 0)
    assert TotalsFile(path, "one").read() == Totals()


def test_totals_that_cannot_be_written_are_said_once_until_they_can_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "missing"
    file = TotalsFile(str(place / "totals"), "one")
    for said in (1, 1):
        file.write(Totals())
        assert len(caplog.messages) == said
    place.mkdir()
    file.write(Totals())
    place.rename(tmp_path / "elsewhere")
    for said in (2, 2):
        file.write(Totals())
        assert len(caplog.messages) == said
    assert all("not kept" in message for message in caplog.messages)
