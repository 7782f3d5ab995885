"""What takes long to read is read beside the event loop, which answers everybody else meanwhile."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event, current_thread
from typing import Any

import pytest

from cellwall.daemon.asker import Asker
from cellwall.daemon.authority import Authority, Peer
from cellwall.model.policy import PolicyRecord
from served import Answer, Served, open_served

pytestmark = pytest.mark.root

RULES = [{"action": "deny", "prefix": f"1.2.{number}.0/24"} for number in range(60)]
LONG = {
    "/v1/endpoints": ("POST", {"container": "job", "policy": {"rules": [{"action": "x"}, *RULES]}}),
    "/v1/endpoints/batch": ("POST", {"endpoints": [{"container": "job", "policy": {"rules": RULES}}] * 2}),
    "/v1/endpoints/detach": ("POST", {"endpoints": [{"container": f"job{number}"} for number in range(90)]}),
    "/v1/policies/acme": ("PUT", {"mode": "open", "rules": RULES}),
}
REFUSED = ("/v1/endpoints", "/v1/endpoints/batch")


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with open_served() as one:
        yield one


def ask(served: Served, method: str, path: str, body: object = None) -> Answer:
    with served.connect() as connection:
        return connection.ask(method, path, body)


@pytest.mark.parametrize("path", LONG)
def test_a_call_is_answered_while_a_long_body_waits_to_be_read(served: Served, path: str) -> None:
    method, body = LONG[path]
    began, go = Event(), Event()

    async def hold() -> Any:
        def act() -> None:
            began.set()
            assert go.wait(30)

        return await served.node.aside.do(act)

    with ThreadPoolExecutor(3) as callers:
        holding = callers.submit(served.run, hold)
        assert began.wait(30)
        long: Future[Answer] = callers.submit(ask, served, method, path, body)
        assert ask(served, "GET", "/v1/version").status == 200
        assert ask(served, "POST", "/v1/endpoints", {"container": "short"}).status in (200, 201)
        assert not long.done()
        go.set()
        assert long.result(30).status == (422 if path in REFUSED else 200)
        holding.result(30)


def test_a_batch_has_so_many_rules_in_all(served: Served) -> None:
    allowed = [f"1.{number >> 8}.{number & 255}.0/24" for number in range(1000)]
    batch = [{"container": f"job{number}", "allow_list": allowed} for number in range(4)]
    batch.append({"container": "one", "policy": {"rules": RULES, "sources": allowed[:37]}})
    refused = ask(served, "POST", "/v1/endpoints/batch", {"endpoints": batch})
    assert (refused.status, refused.document["pointer"]) == (422, "/endpoints")
    assert "4097" in refused.document["detail"] and "4096" in refused.document["detail"]


def test_policies_are_rendered_where_they_are_read(served: Served) -> None:
    """A node's are some mebibytes."""
    threads: list[str] = []

    async def rendered() -> int:
        def render(known: Mapping[str, PolicyRecord]) -> int:
            threads.append(current_thread().name)
            return len(known)

        return await served.node.policies.all(Asker(Peer(0), Authority()), render)

    ask(served, "PUT", "/v1/policies/acme", {"mode": "block"})
    assert served.run(rendered) == len(ask(served, "GET", "/v1/policies").document["policies"]) >= 1
    assert threads == ["cellwall-reader_0"]
