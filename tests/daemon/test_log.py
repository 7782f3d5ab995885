"""What sandboxes tried, as callers of the daemon are told: root of all, members of what is their tenants'."""

import json
import os
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from cellwall.adapters.events.files import EventFiles
from cellwall.audit.events import Attempt, Began, Event, Unrecorded, line_of
from cellwall.audit.telling import time_text
from cellwall.client import Client
from cellwall.daemon.authority import Authority, Granted
from cellwall.errors import InvalidSpec
from cellwall.model.grants import parse_grant
from daemon.test_bounds import connected_as, rest
from served import Served, open_served

pytestmark = pytest.mark.root
USER, NOSY = 12345, 12346
AUTHORITY = Authority(
    [
        Granted(USER, parse_grant(f"{USER} log acme", "daemon.allow")),
        Granted(NOSY, parse_grant(f"{NOSY} list acme", "daemon.allow")),
    ]
)
ATTEMPTS = [
    Attempt(f"2026-01-31T12:00:{n:02}.000000Z", "deny", "out", "FWD", "the floor", tenant=tenant, container=f"c{n}")
    for n, tenant in enumerate(["acme", "rival", "", "acme", "acmeother"])
]
EVENTS: list[Event] = [
    Began("2026-01-31T11:00:00.000000Z", "0.1.0"),
    *ATTEMPTS,
    Unrecorded("2026-01-31T12:01:00.000000Z", 7, "rate", "acme"),
    Unrecorded("2026-01-31T12:01:00.000000Z", 8, "rate", "rival"),
    Unrecorded("2026-01-31T12:01:00.000000Z", 9, "queue"),
]


@pytest.fixture(scope="module")
def recorded() -> Iterator[Served]:
    with open_served(authority=AUTHORITY) as served:
        os.chmod(served.path, 0o666)
        os.chmod(served.world.lab.root, 0o755)
        files = EventFiles(served.world.wall.paths.in_log(), size=1 << 20, count=2)
        assert files.append([line_of(event) for event in EVENTS]).error == ""
        files.close()
        yield served


def asked(served: Served, query: str = "", user: int = 0) -> tuple[int, Any]:
    with connected_as(served.path, user) as sock:
        sock.sendall(f"GET /v1/log{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        head, _, body = rest(sock).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def test_root_is_told_all_in_the_words_of_the_files(recorded: Served) -> None:
    status, document = asked(recorded)
    assert status == 200
    assert document["events"] == [json.loads(line_of(event)) for event in EVENTS]
    assert (document["more"], document["unreadable"]) == (False, 0)


def test_a_member_is_told_of_its_tenants_alone(recorded: Served) -> None:
    wanted = [event for event in EVENTS if isinstance(event, Began) or event.tenant == "acme"]
    for query in ("", "?tenant=acme", "?container=c0&tenant=acme"):
        status, document = asked(recorded, query, USER)
        assert status == 200
        assert [event for event in document["events"] if event.get("tenant") not in (None, "acme")] == []
        if "container" not in query:
            assert document["events"] == [json.loads(line_of(event)) for event in wanted]


@pytest.mark.parametrize(("query", "user"), [("?tenant=rival", USER), ("", NOSY), ("?tenant=acme", NOSY)])
def test_nobody_is_told_who_may_not(recorded: Served, query: str, user: int) -> None:
    assert asked(recorded, query, user)[0] == 403


def test_the_latest_are_told_and_that_there_are_more(recorded: Served) -> None:
    _, document = asked(recorded, "?limit=2&tenant=acme", USER)
    assert [event.get("container") for event in document["events"]] == ["c3", None]
    assert document["more"] is True
    _, before = asked(recorded, f"?limit=2&until={document['events'][0]['time']}", USER)
    assert [event["kind"] for event in before["events"]] == ["began", "attempt"]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("?limit=0", "limit"),
        ("?limit=many", "limit"),
        ("?since=yesterday", "since"),
        ("?until=", "until"),
        ("?tenant=%20", "tenant"),
        ("?container=..", "container"),
        ("?reason=" + "x" * 129, "reason"),
        ("?colour=red", "colour"),
        ("?tenant=a&tenant=b", "tenant"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_by_its_name(recorded: Served, query: str, parameter: str) -> None:
    status, document = asked(recorded, query)
    assert (status, document["parameter"]) == (422, parameter)


def test_a_client_asks_in_the_same_words(recorded: Served) -> None:
    with Client(recorded.path) as client:
        found = client.log(tenant="acme", reason="floor")
        assert [event for event in EVENTS if event in found.events] == [ATTEMPTS[0], ATTEMPTS[3]]
        assert client.log(limit=1).more
        with pytest.raises(InvalidSpec, match="since"):
            client.log(since="later")


def test_the_wall_itself_reads_the_same(recorded: Served) -> None:
    found = recorded.world.wall.log(tenant="rival", since="2026-01-31", reason="FWD")
    assert found.events == (ATTEMPTS[1],)
    with pytest.raises(InvalidSpec, match="limit"):
        recorded.world.wall.log(limit=0)


def test_what_one_answer_costs_to_read_is_bounded_and_the_next_goes_on_where_it_ended() -> None:
    """Whoever asks for what is not there would have all files read, again and again: 20 MiB of another's."""
    wanted = msgspec.structs.replace(ATTEMPTS[0], time=time_text(1_800_000_000))
    others = [
        msgspec.structs.replace(ATTEMPTS[1], time=time_text(1_800_000_001 + n), reason="x" * 4000) for n in range(5000)
    ]
    with open_served(up=False) as served:
        files = EventFiles(served.world.wall.paths.in_log(), size=1 << 20, count=100)
        assert files.append([line_of(one) for one in (wanted, *others)]).error == ""
        files.close()
        pages = [asked(served, "?tenant=acme")[1]]
        while pages[-1]["more"]:
            pages.append(asked(served, f"?tenant=acme&until={pages[-1]['reached']}")[1])
        assert [len(page["events"]) for page in pages] == [0, 0, 1]
