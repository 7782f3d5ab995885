"""A daemon has sandboxes ready, gives each to one container, and makes others while nobody waits."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime

import msgspec
import pytest

from cellwall.client import Client
from cellwall.daemon.asker import Asker
from cellwall.daemon.authority import Authority, Peer
from cellwall.daemon.bounds import Bounds
from cellwall.daemon.turns.gathered import Attached
from cellwall.model.endpoint import Endpoint
from cellwall.model.pool import PoolFigures, PoolSize, was_pooled
from cellwall.wire.bodies import AttachBody, Places
from cellwall.wire.octets import request_text
from running import wait_until
from served import Plain, Served, open_served

pytestmark = pytest.mark.root

SIZE = 6
NONE, SOME = PoolSize(), PoolSize(SIZE)


@pytest.fixture(scope="module")
def pooled() -> Iterator[Served]:
    with open_served(size=SOME) as served:
        yield served


@pytest.fixture
def client(pooled: Served) -> Iterator[Client]:
    resize(pooled, SOME)
    wait_until(lambda: pooled.node.pool.figures.ready == SIZE)
    with Client(pooled.path) as client:
        yield client
        client.detach_many([endpoint.key for endpoint in client.endpoints()])


def resize(served: Served, size: PoolSize) -> None:
    async def act() -> None:
        served.node.resize_pool(size)

    served.run(act)


def counted(served: Served, before: PoolFigures) -> tuple[int, int]:
    now = served.node.pool.figures
    return now.claimed - before.claimed, now.missed - before.missed


def test_a_claim_is_answered_with_a_sandbox_that_stood_ready(pooled: Served, client: Client) -> None:
    before = pooled.node.pool.figures
    web = client.claim("web", tenant="acme")
    assert was_pooled(web) and os.path.exists(web.netns)
    wait_until(lambda: counted(pooled, before) == (1, 0))  # the answer is sent first
    assert client.claim("web", tenant="acme") == web  # told again, as its answer may have been lost
    assert counted(pooled, before) == (1, 0)
    assert client.verify("web") == ()


def test_what_was_claimed_is_made_up_for(pooled: Served, client: Client) -> None:
    for number in range(SIZE):
        client.claim(f"c{number}")
    wait_until(lambda: pooled.node.pool.figures.ready == SIZE)
    assert client.status().ready == SIZE and client.status().drift == ()


def test_a_claim_that_finds_none_is_an_attach_and_counted_as_missed(pooled: Served, client: Client) -> None:
    resize(pooled, NONE)
    wait_until(lambda: pooled.node.pool.figures.ready == 0)
    before = pooled.node.pool.figures
    web = client.claim("web")
    assert web.owns_netns and not was_pooled(web)
    assert counted(pooled, before) == (0, 1)


def test_a_claim_that_comes_alone_is_carried_out_before_anything_else_is_heard(pooled: Served, client: Client) -> None:
    asker, made = Asker(Peer(0), Authority()), list[Attached]()

    async def claim() -> bool:
        places = Places([AttachBody(f"c{time.monotonic_ns()}", tenant="acme")], [""])
        asked = pooled.node.attachments.claim(asker, places, alone=True)
        try:
            asked.send(None)
        except StopIteration as over:
            made.append(over.value)
            return True
        asked.close()  # in its turn: the pool was being filled just then, or the last one took long
        return False

    def alone() -> bool:
        wait_until(lambda: pooled.node.pool.figures.ready == SIZE)  # what came in its turn has emptied it
        return pooled.run(claim)

    wait_until(alone)
    assert was_pooled(made[0].endpoint) and not made[0].before
    assert made[0].endpoint in client.endpoints()


CLAIM = request_text("POST", "/v1/pool/claims", b'{"container":"api","tenant":"acme"}')


def test_a_claim_on_the_fast_path_is_answered_as_any_is(pooled: Served, client: Client) -> None:
    with pooled.connect() as plain:
        usual = plain.ask("POST", "/v1/pool/claims", {"container": "web", "tenant": "acme"})
    said: list[bytes] = []

    async def claim() -> bool:
        places = pooled.fast.read(Peer(0), CLAIM)
        assert places is not None
        said.append(pooled.fast.answer(Peer(0), places) or b"")
        return bool(said[-1])

    wait_until(lambda: pooled.run(claim))
    head, _, body = said[-1].partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    assert status == "HTTP/1.1 201 Created" and usual.status == 201
    assert set(headers) == set(usual.headers)
    assert all(headers[name] == usual.headers[name] for name in ("content-type", "server"))
    assert parsedate_to_datetime(headers["date"]) and int(headers["content-length"]) == len(body)
    document, like = msgspec.json.decode(body)["endpoint"], msgspec.json.decode(usual.body)["endpoint"]
    assert (document["container"], set(document)) == ("api", set(like))
    assert client.endpoint("api") in client.endpoints() and client.verify("api") == ()


def test_a_client_that_claims_one_after_the_other_is_answered_fast(
    pooled: Served, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Places] = []

    def answer(peer: Peer, places: Places) -> bytes | None:
        tried.append(places)
        return None

    monkeypatch.setattr(pooled.fast, "answer", answer)
    for number in range(3):
        client.claim(f"c{number}")
    assert len(tried) == 2  # all but the first of the connection


def test_a_connection_that_is_answered_fast_ends_when_it_is_idle() -> None:
    with open_served(bounds=Bounds(idle_seconds=1.0), size=PoolSize(SIZE)) as served, served.connect() as plain:
        resize(served, SOME)
        wait_until(lambda: served.node.pool.figures.ready == SIZE)
        assert plain.ask("GET", "/v1/version").status == 200
        connection = plain.sock
        for number in range(7):  # longer than an idle one is kept
            connection.sendall(CLAIM.replace(b"api", b"c0%d" % number))
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 201 ")
            time.sleep(0.2)
        assert connection.recv(1) == b""


def test_a_claim_that_waits_for_a_repair_keeps_no_other_call_waiting(pooled: Served, client: Client) -> None:
    before = pooled.node.pool.figures
    with ThreadPoolExecutor(1) as pool, Client(pooled.path) as other:
        with pooled.world.wall._caller.mutex:  # as who repairs has it
            claim = pool.submit(client.claim, "web", tenant="acme")
            wait_until(lambda: pooled.node.writer.busy_for() > 0)
            other.dns()
            assert not claim.done()
        assert was_pooled(claim.result(30))
    assert counted(pooled, before) == (1, 0)


def test_many_at_once_get_one_each_and_the_rest_are_attached(pooled: Served, client: Client) -> None:
    names = [f"many{number}" for number in range(3 * SIZE)]
    with ThreadPoolExecutor(len(names)) as threads:
        made: list[Endpoint] = list(threads.map(client.claim, names))
    assert sorted(one.key.container_id for one in made) == sorted(names)
    assert len({one.netns for one in made}) == len({one.address4 for one in made}) == len(names)
    assert sum(map(was_pooled, made)) >= SIZE
    assert client.status().drift == ()


def test_of_claims_at_once_each_has_its_own_refusal(pooled: Served, client: Client) -> None:
    with Plain(pooled.path) as plain, ThreadPoolExecutor(8) as threads:
        good = [threads.submit(client.claim, f"good{number}") for number in range(4)]
        answer = plain.ask("POST", "/v1/pool/claims", {"container": "bad", "expose": ["80:80", "80:81"]})
        assert (answer.status, answer.document["type"]) == (422, "urn:cellwall:problem:invalid")
        assert {one.result().key.container_id for one in good} == {f"good{number}" for number in range(4)}
        answer = plain.ask("POST", "/v1/pool/claims", {"container": "~00000000"})
        assert (answer.status, answer.document["pointer"]) == (422, "/container")


def test_ready_ones_are_in_no_list_and_nobodys_to_detach(pooled: Served, client: Client) -> None:
    assert client.endpoints() == ()
    with Plain(pooled.path) as plain:
        assert plain.ask("DELETE", "/v1/endpoints/~00000000/eth0").status == 422
    assert pooled.node.pool.figures.ready == SIZE


def test_a_node_that_was_taken_down_is_not_brought_up_for_its_pool(pooled: Served, client: Client) -> None:
    client.down()
    wait_until(lambda: pooled.node.pool.figures.ready == 0)
    assert not client.status().up and client.status().ready == 0
    client.up()
    wait_until(lambda: pooled.node.pool.figures.ready == SIZE)
