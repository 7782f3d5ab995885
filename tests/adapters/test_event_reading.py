"""Events that were recorded are found again: the latest first, over all files, and no more than is asked for."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from cellwall.adapters.events.files import EventFiles, event_files
from cellwall.adapters.events.reading import every, following, latest
from cellwall.audit.events import Attempt, Event, line_of
from cellwall.audit.selection import Selection
from cellwall.audit.telling import time_text

START = 1_700_000_000


def event(number: int, tenant: str = "acme") -> Attempt:
    return Attempt(time_text(START + number), "deny", "out", "FWD", "the floor", tenant=tenant, container=f"c{number}")


def write(place: Path, events: Sequence[Event], size: int = 1000) -> None:
    files = EventFiles(str(place), size=size, count=100)
    assert files.append([line_of(one) for one in events]).error == ""
    files.close()


def numbers(events: Sequence[Event]) -> list[int]:
    return [int(one.container[1:]) for one in events if isinstance(one, Attempt)]


@pytest.fixture
def hundred(tmp_path: Path) -> str:
    """A hundred events in many files, of two tenants in turns."""
    write(tmp_path, [event(number, "acme" if number % 2 else "rival") for number in range(100)])
    assert len(event_files(str(tmp_path))) > 10
    return str(tmp_path)


def test_the_latest_are_given_in_their_order_and_earlier_ones_are_told_of(hundred: str) -> None:
    found = latest(hundred, Selection(), limit=23)
    assert (numbers(found.events), found.more) == (list(range(77, 100)), True)
    everything = latest(hundred, Selection(), limit=None)
    assert (numbers(everything.events), everything.more) == (list(range(100)), False)
    assert latest(hundred, Selection(), limit=100).more is False


def test_what_is_not_asked_for_or_not_permitted_takes_no_place(hundred: str) -> None:
    found = latest(hundred, Selection(tenant="acme"), limit=5)
    assert numbers(found.events) == [91, 93, 95, 97, 99]
    permitted = latest(hundred, Selection(), limit=5, permit=lambda one: getattr(one, "tenant", "") == "rival")
    assert numbers(permitted.events) == [90, 92, 94, 96, 98]


def test_a_page_ends_where_the_next_one_begins(hundred: str) -> None:
    pages: list[int] = []
    until = ""
    while True:
        found = latest(hundred, Selection(until=until), limit=7)
        pages = numbers(found.events) + pages
        if not found.more:
            break
        until = found.reached
    assert pages == list(range(100))


def test_files_that_are_older_than_what_is_asked_for_are_not_read(hundred: str) -> None:
    for number, path in enumerate(event_files(hundred)):
        os.utime(path, (START + number, START + number))
    found = latest(hundred, Selection(since=time_text(START + 1000)), limit=None)
    assert (found.events, found.more) == ((), False)


def test_from_a_time_on_only_what_came_then_is_given(hundred: str) -> None:
    found = latest(hundred, Selection(since=time_text(START + 50)), limit=None)
    assert (numbers(found.events), found.more) == (list(range(50, 100)), False)
    between = latest(hundred, Selection(since=time_text(START + 50), until=time_text(START + 60)), limit=None)
    assert numbers(between.events) == list(range(50, 60))


def test_all_are_read_one_by_one_from_the_oldest_on(hundred: str) -> None:
    assert numbers(list(every(hundred, Selection(tenant="acme", since=time_text(START + 50))))) == list(
        range(51, 100, 2)
    )


def test_how_much_is_read_is_bounded(hundred: str) -> None:
    found = latest(hundred, Selection(tenant="nobody"), limit=5, octets=2000)
    assert (found.events, found.more) == ((), True)
    asked = 1
    while found.more:
        found = latest(hundred, Selection(tenant="nobody", until=found.reached), limit=5, octets=2000)
        asked += 1
    assert 5 < asked < 20, "each goes on where the one before had come to"
    seen, until, more = list[int](), "", True
    while more:
        page = latest(hundred, Selection(tenant="acme", until=until), limit=7, octets=2000)
        seen, until, more = numbers(page.events) + seen, page.reached, page.more
    assert seen == list(range(1, 100, 2))


def test_a_line_that_is_none_is_passed_over_and_told(tmp_path: Path) -> None:
    write(tmp_path, [event(1)])
    (path,) = event_files(str(tmp_path))
    with open(path, "ab") as file:
        file.write(b'{"kind":"attempt","time":"2\n')
    write(tmp_path, [event(2)])
    found = latest(str(tmp_path), Selection(), limit=10)
    assert (numbers(found.events), found.unreadable) == ([1, 2], 1)


def test_nothing_is_found_where_nothing_was_recorded(tmp_path: Path) -> None:
    assert latest(str(tmp_path / "none"), Selection(), limit=10).events == ()


def test_who_follows_is_given_what_is_asked_for_as_it_comes(tmp_path: Path) -> None:
    read = following(str(tmp_path), Selection(tenant="acme"))
    assert list(read()) == []
    write(tmp_path, [event(number, "acme" if number % 2 else "rival") for number in range(20)])
    assert numbers(list(read())) == list(range(1, 20, 2))
    write(tmp_path, [event(21)])
    assert numbers(list(read())) == [21]
    assert numbers(list(following(str(tmp_path), Selection(), from_start=True)())) == [*range(20), 21]
