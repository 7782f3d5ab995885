"""Events in files: bounded, whole lines whatever happens, and read on where one file follows another."""

import os
import resource
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cellwall.adapters.events.files import EventFiles, Following, event_files, whole_lines

LINE = b"x" * 99 + b"\n"


def opened(directory: Path, size: int = 1000, count: int = 3) -> EventFiles:
    return EventFiles(str(directory), size=size, count=count)


def lines_in(directory: Path) -> list[bytes]:
    return [line for path in event_files(str(directory)) for _, line in whole_lines(path)]


def numbered(first: int, last: int) -> list[bytes]:
    return [b"%06d" % number + b"." * 93 + b"\n" for number in range(first, last)]


def test_root_alone_may_read_them(tmp_path: Path) -> None:
    files = opened(tmp_path / "log" / "cellwall")
    assert files.append([LINE]).written == 1
    files.close()
    (path,) = event_files(str(tmp_path / "log" / "cellwall"))
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(tmp_path / "log" / "cellwall").st_mode) == 0o700


def test_size_and_number_are_bounded_and_the_latest_are_kept(tmp_path: Path) -> None:
    files = opened(tmp_path)
    for first in range(0, 1000, 7):
        assert files.append(numbered(first, min(first + 7, 1000))).error == ""
        assert len(event_files(str(tmp_path))) <= 3
    assert all(os.path.getsize(path) <= 1000 for path in event_files(str(tmp_path)))
    kept = lines_in(tmp_path)
    assert kept == [line.rstrip(b"\n") for line in numbered(1000 - len(kept), 1000)]
    assert len(kept) >= 20


def test_lines_of_any_length_together_keep_the_size(tmp_path: Path) -> None:
    lines = [b"%d" % (number % 10) * (50 + number * 37 % 400) + b"\n" for number in range(200)]
    files = opened(tmp_path, count=1000)
    assert files.append(lines).written == 200
    paths = event_files(str(tmp_path))
    assert lines_in(tmp_path) == [line[:-1] for line in lines]
    assert all(500 < os.path.getsize(path) <= 1000 for path in paths[:-1])
    files = opened(tmp_path / "full")
    assert files.append([LINE] * 20).written == 20
    assert [os.path.getsize(path) for path in event_files(str(tmp_path / "full"))] == [1000, 1000], "to the last octet"


def test_a_line_that_is_longer_than_a_file_has_one_to_itself(tmp_path: Path) -> None:
    files = opened(tmp_path, size=150)
    assert files.append([LINE, b"y" * 400 + b"\n", LINE]).written == 3
    assert [os.path.getsize(path) for path in event_files(str(tmp_path))] == [100, 401, 100]


def test_another_run_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    for number in range(3):
        files = opened(tmp_path)
        assert files.append(numbered(number, number + 1)).written == 1
        files.close()
    assert len(event_files(str(tmp_path))) == 1
    assert len(lines_in(tmp_path)) == 3


def test_a_line_that_a_crash_tore_spoils_no_other(tmp_path: Path) -> None:
    (tmp_path / "events-00000001.jsonl").write_bytes(LINE + b'{"kind":"att')
    files = opened(tmp_path)
    assert lines_in(tmp_path) == [LINE[:-1]], "not yet whole"
    assert files.append([LINE]).written == 1
    assert lines_in(tmp_path) == [LINE[:-1], b'{"kind":"att', LINE[:-1]]


def test_a_file_that_somebody_took_away_is_made_anew(tmp_path: Path) -> None:
    files = opened(tmp_path)
    files.append([LINE])
    (path,) = event_files(str(tmp_path))
    os.unlink(path)
    assert files.append([LINE]).written == 1
    os.rename(path, tmp_path / "elsewhere")
    assert files.append([LINE]).written == 1
    assert len(lines_in(tmp_path)) == 1


def test_a_link_in_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    os.symlink(tmp_path / "victim", tmp_path / "events-00000001.jsonl")
    assert "symbolic" in opened(tmp_path).append([LINE]).error
    assert not (tmp_path / "victim").exists()


@contextmanager
def room_for(octets: int) -> Iterator[None]:
    """No file of this process gets any longer: a write is cut short, and the next refused, as by a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_a_full_disk_cuts_short_leaves_no_half_line_and_is_told(tmp_path: Path) -> None:
    files = opened(tmp_path)
    assert files.append(numbered(0, 2)).written == 2
    with room_for(450):
        refused = files.append(numbered(2, 8))
        assert (refused.written, refused.error != "") == (0, True)
        assert files.append(numbered(8, 10)).written == 2
    assert files.append(numbered(10, 12)).written == 2
    assert lines_in(tmp_path) == [line[:-1] for line in (*numbered(0, 2), *numbered(8, 12))]


def open_below(directory: Path) -> int:
    """How many descriptors this process has of files there, also of those that were taken away."""
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            found += os.readlink(f"/proc/self/fd/{fd}").startswith(os.fspath(directory))
    return found


def test_one_file_is_open_at_most_and_none_after_the_end(tmp_path: Path) -> None:
    files = opened(tmp_path)
    for first in range(0, 50, 5):
        files.append(numbered(first, first + 5))
        assert open_below(tmp_path) == 1
    os.unlink(event_files(str(tmp_path))[-1])
    files.append(numbered(50, 52))
    assert open_below(tmp_path) == 1
    with room_for(450):
        assert files.append(numbered(52, 58)).error != ""
    assert open_below(tmp_path) == 0
    files.append(numbered(58, 60))
    files.close()
    files.close()
    assert open_below(tmp_path) == 0


def test_what_cannot_be_opened_is_told_and_tried_again(tmp_path: Path) -> None:
    place = tmp_path / "log"
    place.write_bytes(b"a file")
    files = opened(place)
    assert files.append([LINE]).written == 0
    place.unlink()
    assert files.append([LINE]).written == 1


def test_who_follows_reads_on_in_the_next_file(tmp_path: Path) -> None:
    files = opened(tmp_path)
    files.append(numbered(0, 5))
    following, everything = Following(str(tmp_path)), Following(str(tmp_path), from_start=True)
    assert list(following.read()) == []
    for first in (5, 12, 19):
        files.append(numbered(first, first + 7))
        assert list(following.read()) == [line[:-1] for line in numbered(first, first + 7)]
    assert list(following.read()) == []
    kept = list(everything.read())
    assert kept == lines_in(tmp_path)


def test_who_follows_reads_on_where_somebody_took_the_files_away(tmp_path: Path) -> None:
    """By hand, or with the directory: the next file may have a number that was there already."""
    files = opened(tmp_path / "log")
    files.append(numbered(0, 25))
    following = Following(str(tmp_path / "log"))
    shutil.rmtree(tmp_path / "log")
    assert list(following.read()) == []
    files.append(numbered(25, 32))
    assert list(following.read()) == [line[:-1] for line in numbered(25, 32)]
    assert list(following.read()) == []


def test_who_follows_reads_on_where_somebody_emptied_the_file(tmp_path: Path) -> None:
    files = opened(tmp_path)
    files.append(numbered(0, 7))
    following = Following(str(tmp_path))
    (path,) = event_files(str(tmp_path))
    os.truncate(path, 0)
    files.append(numbered(7, 9))
    assert list(following.read()) == [line[:-1] for line in numbered(7, 9)]


def test_who_follows_reads_a_file_from_its_beginning_that_somebody_put_in_the_place_of_another(tmp_path: Path) -> None:
    """Also where it is as long: it is another file by its inode."""
    files = opened(tmp_path)
    files.append(numbered(0, 3))
    following = Following(str(tmp_path))
    (path,) = event_files(str(tmp_path))
    beside = tmp_path / "beside"
    beside.write_bytes(b"".join(numbered(3, 6)))
    os.replace(beside, path)
    assert list(following.read()) == [line[:-1] for line in numbered(3, 6)]
    assert list(following.read()) == []


def test_what_stays_of_files_that_went_is_nothing_new_where_the_others_are_taken_away(tmp_path: Path) -> None:
    files = EventFiles(str(tmp_path), size=1000, count=3, shares=1000)
    files.append([b'{"tenant":"acme","container":"web"}\n'] * 100)
    kept, *others = event_files(str(tmp_path))
    assert kept.endswith("events-00000000.jsonl") and os.path.getsize(kept) > 0
    following, everything = Following(str(tmp_path)), Following(str(tmp_path), from_start=True)
    assert len(list(everything.read())) > 30
    for path in others:
        os.unlink(path)
    assert list(following.read()) == list(everything.read()) == []
    files.append(numbered(45, 47))
    assert list(following.read()) == list(everything.read()) == [line[:-1] for line in numbered(45, 47)]


def test_who_follows_waits_for_a_line_to_be_whole(tmp_path: Path) -> None:
    following = Following(str(tmp_path))
    assert list(following.read()) == []
    with open(tmp_path / "events-00000001.jsonl", "ab", buffering=0) as file:
        file.write(LINE + b"half")
        assert list(following.read()) == [LINE[:-1]]
        file.write(b" and half\n")
        assert list(following.read()) == [b"half and half"]
