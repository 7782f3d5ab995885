"""`cellwall log`: the event files of a node, for people and programs, as they are and as they grow."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count
from threading import Event as Occasion
from threading import Thread

import msgspec
import pytest
from nodecommand import SOURCE, Answer

from cellwall.adapters.events.files import EventFiles, event_files
from cellwall.audit.events import Attempt, Began, Event, Unrecorded, line_of
from cellwall.audit.telling import time_text
from cellwall.client.patience import PATIENCE
from cellwall.config import paths_for

ATTEMPTS = [
    Attempt(time_text(1_700_000_000 + n), "deny", "out", "FWD", "the floor", tenant=f"t{n % 2}", container=f"c{n}")
    for n in range(20)
]
EVENTS: list[Event] = [
    Began(time_text(1_600_000_000)),
    *ATTEMPTS,
    Unrecorded(time_text(1_700_001_000), 5, "rate", "t1"),
]
ENVIRON = {name: text for name, text in os.environ.items() if name != "PYTHONUNBUFFERED"} | {"PYTHONPATH": str(SOURCE)}
"""Without what would print a line as it comes, whether or not the command sees to it."""
pytestmark = pytest.mark.root


@pytest.fixture
def node(tmp_path: os.PathLike[str]) -> Iterator[str]:
    """The root of a node with events in several files."""
    keep(os.fspath(tmp_path), EVENTS)
    yield os.fspath(tmp_path)


def keep(root: str, events: list[Event]) -> None:
    files = EventFiles(paths_for(root).in_log(), size=800, count=50)
    assert files.append([line_of(event) for event in events]).error == ""
    files.close()


def argv(root: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "cellwall.cli.main", "--root", root, "log", *arguments]


def log(root: str, *arguments: str) -> Answer:
    done = subprocess.run(argv(root, *arguments), capture_output=True, text=True, check=False, timeout=60, env=ENVIRON)
    return Answer(done.returncode, done.stdout, done.stderr)


def test_a_line_an_event_for_people(node: str) -> None:
    told = log(node)
    assert told.status == 0
    lines = told.out.splitlines()
    assert len(lines) == len(EVENTS)
    assert "c3 out denied" in lines[4] and lines[4].endswith("(FWD: the floor)")
    assert "5 attempts of tenant t1 were not recorded" in lines[-1]
    assert "by a daemon only" in told.err


def test_one_document_for_programs(node: str) -> None:
    document = log(node, "--json", "--tenant", "t1", "--reason", "floor", "--limit", "3").json
    assert [event["container"] for event in document["events"]] == ["c15", "c17", "c19"]
    assert document["more"] is True


def test_a_document_a_line_as_the_schema_has_it(node: str) -> None:
    told = log(node, "--ocsf", "--container", "c4")
    documents = [json.loads(line) for line in told.out.splitlines()]
    assert [document["class_uid"] for document in documents] == [0, 4001, 0]


def test_what_is_left_out_is_said_and_what_is_not_is_not(node: str) -> None:
    whole, few = log(node), log(node, "--limit", "3")
    assert "earlier" not in whole.err and "could not be read" not in whole.err
    assert f"there are earlier ones: --limit, or --until {ATTEMPTS[18].time}, shows them" in few.err
    path = event_files(paths_for(node).in_log())[0]
    with open(path, "ab") as file:
        file.write(b'{"kind":"atte\n')
    assert "1 lines of the event files could not be read" in log(node).err


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["--since", "noon"], "since"),
        (["--limit", "none"], "limit"),
        (["--tenant", "a b"], "tenant"),
        (["--container", ".."], "container"),
        (["--until", "1h", "--follow"], "until"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_field_and_value(node: str, arguments: list[str], field: str) -> None:
    refused = log(node, *arguments, "--json")
    assert (refused.status, refused.json["error"]["field"]) == (2, field)
    assert refused.json["error"]["value"] == arguments[1]


def test_a_node_where_nothing_was_recorded_has_no_events(tmp_path: os.PathLike[str]) -> None:
    told = log(os.fspath(tmp_path), "--json")
    assert (told.status, told.json["events"]) == (0, [])


def test_others_than_root_are_told_at_once_where_no_daemon_could_be_asked() -> None:
    somebody = ["setpriv", "--reuid", "65534", "--clear-groups"]
    begun = time.monotonic()
    refused = subprocess.run(
        [*somebody, *argv("/nonexistent")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=ENVIRON,
    )
    assert (refused.returncode, refused.stdout) == (6, "")
    assert "root" in refused.stderr and "node.mode" in refused.stderr
    assert time.monotonic() - begun < PATIENCE


def test_a_reader_that_has_seen_enough_is_no_error(node: str) -> None:
    line = f"{' '.join(argv(node, '--ocsf'))} | head -1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True, timeout=60, env=ENVIRON)
    assert done.stdout.count("\n") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_who_follows_is_told_of_what_comes_over_the_next_files_until_it_ends(node: str, end: int) -> None:
    follow = subprocess.Popen(
        argv(node, "--follow", "--json", "--tenant", "t1", "--limit", "1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRON,
    )
    assert follow.stdout is not None and follow.stderr is not None
    assert json.loads(follow.stdout.readline())["kind"] == "unrecorded"
    later = [Attempt(time_text(1_800_000_000 + n), "deny", "in", "FWD", "x", tenant=f"t{n % 2}") for n in range(40)]
    keep(node, list(later))
    times = [json.loads(follow.stdout.readline())["time"] for _ in range(20)]
    assert times == [attempt.time for attempt in later if attempt.tenant == "t1"]
    follow.send_signal(end)
    rest, said = follow.communicate(timeout=30)
    assert (rest, b"Traceback" in said) == (b"", False)


@pytest.mark.parametrize("limit", ["1", "1000000"])
def test_what_is_recorded_while_who_follows_begins_is_told_once_and_in_its_order(node: str, limit: str) -> None:
    """Events come all the time, many of them while the files are read that were there before."""
    over = Occasion()
    files = EventFiles(paths_for(node).in_log(), size=1 << 20, count=50)
    files.append([line_of(msgspec.structs.replace(ATTEMPTS[0], container=f"old{n}")) for n in range(3000)])

    def record() -> None:
        numbers = count()
        while not over.wait(0.0005):
            files.append([line_of(msgspec.structs.replace(ATTEMPTS[1], container=f"new{next(numbers)}"))])
        files.close()

    recording = Thread(target=record)
    recording.start()
    try:
        with subprocess.Popen(
            argv(node, "--follow", "--json", "--limit", limit), stdout=subprocess.PIPE, env=ENVIRON
        ) as follow:
            assert follow.stdout is not None
            told: list[int] = []
            while len(told) < 1000:
                container = json.loads(follow.stdout.readline()).get("container", "")
                told += [int(container[3:])] if container.startswith("new") else []
            follow.terminate()
    finally:
        over.set()
        recording.join()
    assert told == list(range(told[0], told[0] + len(told)))


@pytest.mark.parametrize("name", ["tenant", "container", "since", "until", "reason"])
def test_an_empty_word_is_refused_and_shows_not_everybody_s(node: str, name: str) -> None:
    """As of a script whose variable is not set."""
    refused = log(node, f"--{name}", "", "--json")
    assert refused.status == 2
    assert json.loads(refused.out)["error"]["field"] == name
    assert "c3" not in refused.out
