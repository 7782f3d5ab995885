"""What stays of event files that go: of each tenant as much as of any other."""

import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellwall.adapters.events import shares as event_shares
from cellwall.adapters.events.files import EventFiles, Following, event_files, whole_lines
from cellwall.adapters.events.reading import latest
from cellwall.adapters.events.shares import keep_shares, share_of
from cellwall.audit.events import Attempt, Began, Event, event_of, line_of
from cellwall.audit.selection import Selection

from .test_event_files import room_for

SIZE, COUNT, SHARES = 4000, 3, 8000


def attempt(number: int, tenant: str = "", container: str = "c") -> bytes:
    time = f"2026-01-31T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}.000000Z"
    return line_of(Attempt(time, "deny", "out", "FWD", "the floor", tenant, container))


def events_in(directory: Path) -> list[Event]:
    return [event_of(line) for path in event_files(str(directory)) for _, line in whole_lines(path)]


def whose(events: list[Event]) -> Counter[str]:
    return Counter(one.tenant or one.container for one in events if isinstance(one, Attempt))


@pytest.fixture
def files(tmp_path: Path) -> Iterator[EventFiles]:
    files = EventFiles(str(tmp_path), size=SIZE, count=COUNT, shares=SHARES)
    yield files
    files.close()


def test_what_a_tenant_had_denied_outlasts_any_flood_of_anothers(files: EventFiles, tmp_path: Path) -> None:
    files.append([attempt(number, "quiet") for number in range(5)])
    for number in range(5, 2000):
        assert files.append([attempt(number, "loud")]).error == ""
    assert whose(events_in(tmp_path))["quiet"] == 5
    assert sum(os.path.getsize(path) for path in event_files(str(tmp_path))) <= COUNT * SIZE + SHARES


def test_however_many_flood_none_keeps_more_than_who_is_flooded(files: EventFiles, tmp_path: Path) -> None:
    for number in range(3000):
        files.append([attempt(number, f"loud{number % 7}")])
        if number < 300:
            files.append([attempt(number, "quiet")])
    kept = whose([event_of(line) for _, line in whole_lines(event_files(str(tmp_path))[0])])
    assert max(kept.values()) - min(kept.values()) <= 1


def test_a_container_without_a_tenant_is_one_to_itself(files: EventFiles, tmp_path: Path) -> None:
    for number in range(3000):
        files.append([attempt(number, "acme")] if number % 4 else [attempt(number, "", f"own{number // 4 % 3}")])
    kept = whose([event_of(line) for _, line in whole_lines(event_files(str(tmp_path))[0])])
    assert kept.keys() == {"acme", "own0", "own1", "own2"}
    assert max(kept.values()) - min(kept.values()) <= 1


def test_what_a_container_had_denied_outlasts_a_flood_of_another_of_its_tenant(
    files: EventFiles, tmp_path: Path
) -> None:
    files.append([attempt(number, "acme", "quiet") for number in range(5)])
    for number in range(5, 2000):
        files.append([attempt(number, "acme", "loud")])
    events = [one for one in events_in(tmp_path) if isinstance(one, Attempt)]
    assert sum(one.container == "quiet" for one in events) == 5
    assert sum(os.path.getsize(path) for path in event_files(str(tmp_path))) <= COUNT * SIZE + SHARES


def test_a_container_keeps_its_part_of_what_it_had_denied_before_another_s_flood(tmp_path: Path) -> None:
    """Which is a quarter of the share here, and not nothing because it had more than that."""
    old, into = tmp_path / "old", tmp_path / "kept"
    before = [attempt(number, "acme", "before") for number in range(50)]
    old.write_bytes(b"".join([*before, *(attempt(number, "acme", "loud") for number in range(50, 2000))]))
    keep_shares([str(into), str(old)], str(into), SHARES)
    kept = [line for line in into.read_bytes().splitlines(keepends=True) if b'"before"' in line]
    assert SHARES / 4 - len(before[0]) < len(b"".join(kept)) <= SHARES / 4
    assert kept == before[-len(kept) :]


def test_containers_that_are_no_more_leave_half_to_the_latest_of_their_tenant(tmp_path: Path) -> None:
    """However many there were: a container is not asked for whether it is still there."""
    old, into = tmp_path / "old", tmp_path / "kept"
    old.write_bytes(b"".join(attempt(number, "acme", f"c{number}") for number in range(3000)))
    keep_shares([str(into), str(old)], str(into), SHARES)
    kept = into.read_bytes().splitlines(keepends=True)
    assert SHARES * 0.9 < len(b"".join(kept)) <= SHARES
    latest = [attempt(number, "acme", f"c{number}") for number in range(3000 - len(kept) // 2 + 2, 3000)]
    assert kept[-len(latest) :] == latest


def test_so_many_containers_of_a_tenant_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that came first: a number for each that ever was would be memory without a bound."""
    monkeypatch.setattr(event_shares, "MAX_APART", 2)
    old, into = tmp_path / "old", tmp_path / "kept"
    first = [attempt(number, "acme", f"c{number}") for number in range(4)]
    old.write_bytes(b"".join([*first, *(attempt(number, "acme", f"c{number % 2 + 4}") for number in range(4, 1000))]))
    keep_shares([str(into), str(old)], str(into), SHARES)
    kept = into.read_bytes().splitlines(keepends=True)
    assert kept[:2] == first[:2] and first[2] not in kept
    assert len(b"".join(kept)) <= SHARES


def test_containers_without_a_tenant_have_a_share_each(files: EventFiles, tmp_path: Path) -> None:
    files.append([attempt(number, "", "quiet") for number in range(5)])
    files.append([attempt(number, "", "loud") for number in range(5, 2000)])
    assert whose(events_in(tmp_path))["quiet"] == 5


def test_what_stays_is_the_latest_of_each_in_the_order_of_its_time(files: EventFiles, tmp_path: Path) -> None:
    lines = [attempt(number, ("a", "b", "c")[number % 3]) for number in range(1500)]
    files.append(lines)
    found = events_in(tmp_path)
    for tenant in "abc":
        own = [event_of(line) for line in lines if event_of(line).tenant == tenant]  # type: ignore[union-attr]
        kept = [one for one in found if isinstance(one, Attempt) and one.tenant == tenant]
        assert kept == own[-len(kept) :]
    assert [one.time for one in found] == sorted(one.time for one in found)


def test_it_is_read_like_any_other_file(files: EventFiles, tmp_path: Path) -> None:
    files.append([attempt(0, "quiet")])
    files.append([attempt(number, "loud") for number in range(1, 2000)])
    kept, *_ = event_files(str(tmp_path))
    assert kept.endswith("events-00000000.jsonl")
    assert stat.S_IMODE(os.stat(kept).st_mode) == 0o600
    (found,) = latest(str(tmp_path), Selection(tenant="quiet"), limit=10).events
    assert isinstance(found, Attempt)
    assert b"quiet" in next(Following(str(tmp_path), from_start=True).read())


def test_another_run_goes_on_behind_it(tmp_path: Path) -> None:
    for run in range(4):
        files = EventFiles(str(tmp_path), size=SIZE, count=COUNT, shares=SHARES)
        files.append([attempt(number, f"t{run}") for number in range(200)])
        files.close()
    numbers = [int(Path(path).stem.removeprefix("events-")) for path in event_files(str(tmp_path))]
    assert numbers == [0, *range(numbers[-1] - COUNT + 1, numbers[-1] + 1)]
    assert set(whose(events_in(tmp_path))) == {"t0", "t1", "t2", "t3"}


def test_a_torn_line_stays_out(tmp_path: Path) -> None:
    old, into = tmp_path / "old", tmp_path / "kept"
    old.write_bytes(attempt(0, "a") + attempt(1, "a")[:40] + b"\n" + attempt(2, "a") + attempt(3, "a")[:-1])
    keep_shares([str(into), str(old)], str(into), SHARES)
    assert into.read_bytes() == attempt(0, "a") + attempt(2, "a")


def test_of_what_a_full_disk_cuts_short_nothing_is_left(tmp_path: Path) -> None:
    old, into = tmp_path / "old", tmp_path / "kept"
    old.write_bytes(b"".join(attempt(number, "a") for number in range(1000)))
    into.write_bytes(attempt(0, "a"))
    with room_for(1000), pytest.raises(OSError):
        keep_shares([str(into), str(old)], str(into), SHARES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "old"]
    assert into.read_bytes() == attempt(0, "a")


def test_where_it_cannot_be_written_files_go_all_the_same(files: EventFiles, tmp_path: Path) -> None:
    files.append([attempt(number, "a") for number in range(1000)])
    before = Path(event_files(str(tmp_path))[0]).read_bytes()
    (tmp_path / "events-00000000.jsonl.new").mkdir()
    assert files.append([attempt(number, "b") for number in range(1000, 1200)]).error == ""
    kept, *others = event_files(str(tmp_path))
    assert Path(kept).read_bytes() == before
    assert len(others) == COUNT


def test_what_is_nobodys_has_a_share_too(files: EventFiles, tmp_path: Path) -> None:
    files.append([line_of(Began("2026-01-31T00:00:00.000000Z", "1"))])
    files.append([attempt(number, "loud") for number in range(1, 2000)])
    assert isinstance(events_in(tmp_path)[0], Began)


@given(st.lists(st.integers(0, 1000), max_size=20), st.integers(0, 5000))
def test_a_share_is_the_largest_that_fits(sizes: list[int], octets: int) -> None:
    def taken(share: int) -> int:
        return sum(min(size, share) for size in sizes)

    share = share_of(sizes, octets)
    assert taken(share) <= octets
    assert taken(share) == sum(sizes) or taken(share + 1) > octets
