"""Many callers at once, on a real node: none is lost, none is done twice, and each has its own answer."""

import asyncio
import gc
import resource
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Any

import msgspec
import pytest

from cellwall.api import AttachRequest, Wall
from cellwall.daemon.bounds import Bounds
from cellwall.errors import KernelError
from cellwall.model.endpoint import EndpointKey
from cellwall.wire.octets import request_text
from served import Answer, Served, connected, open_served
from world import Wrapped

pytestmark = pytest.mark.root


class Held:
    """A wall whose `up` waits until it is let go, so that writes gather behind it; it notes what it is asked."""

    def __init__(self) -> None:
        self.began, self.go = Event(), Event()
        self.attached: list[list[str]] = []
        self.detached: list[list[str]] = []

    def before(self, wall: Wall) -> Any:
        def up() -> Any:
            self.began.set()
            assert self.go.wait(30)
            return wall.up()

        def attach_many(requests: Sequence[AttachRequest]) -> Any:
            self.attached.append([request.container_id for request in requests])
            return wall.attach_many(requests)

        def detach_many(keys: Sequence[EndpointKey]) -> int:
            self.detached.append([key.container_id for key in keys])
            return wall.detach_many(keys)

        return Wrapped(wall, up=up, attach_many=attach_many, detach_many=detach_many)


@contextmanager
def held(**bounds: Any) -> Iterator[tuple[Served, Held, ThreadPoolExecutor]]:
    """A daemon whose writer is at a write that goes on until it is let go, and callers."""
    wall = Held()
    with open_served(bounds=Bounds(**bounds), wrap=wall.before) as served, ThreadPoolExecutor(64) as callers:
        up = callers.submit(ask, served, "POST", "/v1/up")
        assert wall.began.wait(30)
        try:
            yield served, wall, callers
        finally:
            wall.go.set()
            assert up.result(30).status == 200


def ask(served: Served, method: str, path: str, body: object = None) -> Answer:
    with served.connect() as plain:
        return plain.ask(method, path, body)


def names(served: Served) -> list[str]:
    listed = ask(served, "GET", "/v1/endpoints").document["endpoints"]
    return sorted(one["container"] for one in listed)


def until_waiting(served: Served, count: int) -> None:
    """Until so many writes wait."""

    async def look() -> None:
        while len(served.node.writer._waiting) < count:
            await asyncio.sleep(0.001)

    served.run(look)


def test_attaches_that_wait_are_one_transaction_and_each_has_its_answer() -> None:
    with held() as (served, wall, callers):
        asked = [f"c{number}" for number in range(20)]
        answers = []
        for number, name in enumerate(asked):
            answers.append(callers.submit(ask, served, "POST", "/v1/endpoints", {"container": name}))
            until_waiting(served, number + 1)
        wall.go.set()
        got = [answer.result(30) for answer in answers]
        assert [answer.status for answer in got] == [201] * 20
        assert [answer.document["endpoint"]["container"] for answer in got] == asked
        assert len({answer.document["endpoint"]["address4"] for answer in got}) == 20
        assert names(served) == sorted(asked)
        assert wall.attached == [asked]


def test_one_that_is_refused_costs_the_others_nothing() -> None:
    with held() as (served, wall, callers):
        bodies: list[dict[str, Any]] = [
            {"container": f"c{number}", "expose": [f"{8000 + number}:80"]} for number in range(4)
        ]
        bodies[2]["expose"] = ["8000:80"]  # the first one's
        bodies.append({"container": "c0", "expose": ["8000:80"]})  # asked for again, as it is
        bodies.append({"container": "c1"})
        bodies.append({"container": "e", "netns": "/nowhere"})
        bodies.append({"container": "f", "expose": ["80:80", "10240:80"]})
        answers = []
        for number, body in enumerate(bodies):
            answers.append(callers.submit(ask, served, "POST", "/v1/endpoints", body))
            until_waiting(served, number + 1)
        wall.go.set()
        got = [answer.result(30) for answer in answers]
        assert [answer.status for answer in got] == [201, 201, 409, 201, 200, 200, 404, 422]
        assert got[-1].document["pointer"] == "/expose/1"
        assert names(served) == ["c0", "c1", "c3"]
        assert ask(served, "GET", "/v1/status").document["drift"] == []


def test_detaches_that_wait_are_one_transaction_too() -> None:
    with held() as (served, wall, callers):
        wall.go.set()
        for name in "abc":
            assert ask(served, "POST", "/v1/endpoints", {"container": name}).status == 201
        wall.go.clear()
        wall.began.clear()
        up = callers.submit(ask, served, "POST", "/v1/up")
        assert wall.began.wait(30)
        answers = []
        for number, name in enumerate("azbc"):
            answers.append(callers.submit(ask, served, "DELETE", f"/v1/endpoints/{name}/eth0"))
            until_waiting(served, number + 1)
        wall.go.set()
        assert [answer.result(30).document["detached"] for answer in answers] == [True, False, True, True]
        assert up.result(30).status == 200
        assert wall.detached == [list("azbc")]
        assert names(served) == []


def test_a_full_queue_says_when_to_ask_again() -> None:
    with held(writes=2) as (served, wall, callers):
        waiting = [callers.submit(ask, served, "POST", "/v1/endpoints", {"container": name}) for name in "ab"]
        until_waiting(served, 2)
        refused = ask(served, "POST", "/v1/endpoints", {"container": "c"})
        assert (refused.status, refused.document["type"]) == (503, "urn:cellwall:problem:unavailable")
        assert refused.headers["retry-after"] == "1"
        wall.go.set()
        assert [answer.result(30).status for answer in waiting] == [201, 201]
        assert names(served) == ["a", "b"]


def test_reads_do_not_wait_for_a_write() -> None:
    with held() as (served, wall, _):
        assert ask(served, "GET", "/v1/endpoints").document == {"endpoints": []}
        assert ask(served, "GET", "/v1/endpoints/a/eth0").status == 404
        assert ask(served, "GET", "/v1/version").status == 200
        assert not wall.go.is_set()


def test_however_many_look_a_write_waits_for_one() -> None:
    with held() as (served, wall, callers):
        looks = [callers.submit(ask, served, "GET", path) for path in ("/v1/status", "/v1/dns") for _ in range(10)]
        until_waiting(served, 1)
        attach = callers.submit(ask, served, "POST", "/v1/endpoints", {"container": "a"})
        until_waiting(served, 2)
        assert len(served.node.writer._waiting) == 2
        wall.go.set()
        assert attach.result(30).status == 201
        assert {look.result(30).status for look in looks} == {200}


def test_writes_get_through_a_flood_of_reads(served: Served) -> None:
    served.world.wall.attach_many([AttachRequest(f"r{number}") for number in range(40)])
    flooding = Event()
    with ThreadPoolExecutor(6) as readers:
        try:
            counts = [readers.submit(_read_on, served, flooding) for _ in range(6)]
            with served.connect() as plain:
                for number in range(20):
                    assert plain.ask("POST", "/v1/endpoints", {"container": f"w{number}"}).status == 201
                    assert plain.ask("DELETE", f"/v1/endpoints/w{number}/eth0").document == {"detached": True}
        finally:
            flooding.set()
    assert sum(count.result() for count in counts) > 6
    served.world.wall.detach_many([one.key for one in served.world.wall.endpoints()])


def _read_on(served: Served, until: Event) -> int:
    """Read until told not to; how often."""
    count = 0
    with served.connect() as plain:
        while not until.is_set():
            assert plain.ask("GET", "/v1/endpoints").status == 200
            count += 1
    return count


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_of_many_that_attach_at_once_none_is_lost(served: Served, count: int) -> None:
    async def one(method: str, target: str, body: bytes = b"") -> tuple[int, Any]:
        reader, writer = await asyncio.open_unix_connection(served.path)
        head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        head_of, _, document = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        return int(head_of.split()[1]), msgspec.json.decode(document)

    async def all_at_once() -> None:
        bodies = [msgspec.json.encode({"container": f"m{number}"}) for number in range(count)]
        got = await asyncio.gather(*(one("POST", "/v1/endpoints", body) for body in bodies))
        assert {status for status, _ in got} == {201}
        assert len({document["endpoint"]["address4"] for _, document in got}) == count
        gone = await asyncio.gather(*(one("DELETE", f"/v1/endpoints/m{number}/eth0") for number in range(count)))
        assert all(document == {"detached": True} for _, document in gone)

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # both ends of every connection are in this process
    asyncio.run(all_at_once())
    assert served.world.wall.status().drift == ()


def test_who_goes_before_its_write_began_is_forgotten() -> None:
    with held() as (served, wall, callers):
        body = b'{"container": "gone"}'
        head = b"POST /v1/endpoints HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        with connected(served.path) as sock:
            sock.sendall(head + body)
            until_waiting(served, 1)
        kept = callers.submit(ask, served, "POST", "/v1/endpoints", {"container": "kept"})

        async def forgotten() -> None:
            while [job.item.request.container_id for job in served.node.writer._waiting] != ["kept"]:
                await asyncio.sleep(0.001)

        served.run(forgotten)
        wall.go.set()
        assert kept.result(30).status == 201
        assert names(served) == ["kept"]


def test_who_goes_while_it_is_written_interrupts_nothing() -> None:
    wall = Held()
    with open_served(wrap=wall.before, up=False) as served:
        with connected(served.path) as sock:
            sock.sendall(b"POST /v1/up HTTP/1.1\r\nHost: x\r\n\r\n")
            assert wall.began.wait(30)
        wall.go.set()
        assert ask(served, "GET", "/v1/status").document["up"] is True


def test_a_status_that_fails_when_nobody_waits_for_it_any_more_is_nobodys_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    began, gone = Event(), Event()

    def status() -> Any:
        began.set()
        assert gone.wait(30)
        raise KernelError(5, "look at the rules")

    with open_served(wrap=lambda wall: Wrapped(wall, status=status), up=False) as served:
        with connected(served.path) as sock:
            sock.sendall(request_text("GET", "/v1/status", b""))
            assert began.wait(30)
            sock.shutdown(socket.SHUT_WR)  # and so it has gone
            assert sock.recv(1) == b""
        served.run(lambda: asyncio.sleep(0.01))  # it has heard
        gone.set()
    gc.collect()
    assert caplog.text == ""


def test_an_orderly_end_finishes_what_began_and_refuses_the_rest() -> None:
    wall = Held()
    with ThreadPoolExecutor(4) as callers:
        with open_served(wrap=wall.before, up=False) as served:
            up = callers.submit(ask, served, "POST", "/v1/up")
            assert wall.began.wait(30)
            attach = callers.submit(ask, served, "POST", "/v1/endpoints", {"container": "a"})
            until_waiting(served, 1)
            callers.submit(_let_go_once_refused, attach, wall)
        assert up.result(30).status == 200
        assert (attach.result(30).status, attach.result(30).headers["retry-after"]) == (503, "1")


def _let_go_once_refused(refused: Any, wall: Held) -> None:
    refused.result(30)
    wall.go.set()
