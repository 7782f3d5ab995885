"""Each call does what its row of the table says, over a real socket on a real node."""

from typing import Any

import pytest

from cellwall.daemon.http.calls import ACTS
from cellwall.wire.calls import CALLS, CNI
from served import Plain, Served
from world import PUBLIC4, assert_connection

pytestmark = pytest.mark.root


def attach(plain: Plain, container: str, **options: Any) -> dict[str, Any]:
    answer = plain.ask("POST", "/v1/endpoints", {"container": container, **options})
    assert answer.status == 201, answer.document
    return answer.document["endpoint"]


@pytest.fixture(autouse=True)
def bare(served: Served) -> Any:
    yield
    with served.connect() as plain:
        listed = plain.ask("GET", "/v1/endpoints").document["endpoints"]
        keys = [{"container": one["container"], "interface": one["interface"]} for one in listed]
        plain.ask("POST", "/v1/endpoints/detach", {"endpoints": keys})
        assert plain.ask("GET", "/v1/endpoints").document == {"endpoints": []}


def test_every_call_of_the_table_is_carried_out() -> None:
    assert set(ACTS) == {call.name for call in CALLS} - {CNI.name}


def test_an_attach_is_answered_when_packets_pass(served: Served, plain: Plain) -> None:
    served.world.lab.internet.serve(tcp=[80])
    host = served.world.host("web")
    answer = plain.ask("POST", "/v1/endpoints", {"container": "web", "netns": str(host.netns), "expose": ["8080:80"]})
    assert answer.status == 201
    assert_connection(host, PUBLIC4, 80)
    endpoint = answer.document["endpoint"]
    assert (endpoint["container"], endpoint["interface"], endpoint["tenant"]) == ("web", "eth0", "")
    assert endpoint["exposed"][0]["host_port"] == 8080
    again = plain.ask("POST", "/v1/endpoints", {"container": "web", "netns": str(host.netns)})
    assert (again.status, again.document) == (200, answer.document)
    assert plain.ask("GET", "/v1/endpoints/web/eth0").document == answer.document
    assert plain.ask("GET", "/v1/endpoints").document == {"endpoints": [endpoint]}
    assert plain.ask("GET", "/v1/endpoints/web/eth0/findings").document == {"findings": []}


def test_a_detach_says_whether_there_was_one(plain: Plain) -> None:
    attach(plain, "web")
    assert plain.ask("DELETE", "/v1/endpoints/web/eth0").document == {"detached": True}
    assert plain.ask("DELETE", "/v1/endpoints/web/eth0").document == {"detached": False}
    gone = plain.ask("GET", "/v1/endpoints/web/eth0")
    assert (gone.status, gone.document["type"]) == (404, "urn:cellwall:problem:not-found")
    assert gone.headers["content-type"] == "application/problem+json"


def test_ports_come_and_go(plain: Plain) -> None:
    attach(plain, "web")
    exposed = plain.ask("POST", "/v1/endpoints/web/eth0/ports", {"binding": {"host_port": 8080, "port": 80}})
    assert exposed.document["endpoint"]["exposed"][0] == {
        "protocol": "tcp",
        "host_port": 8080,
        "host_port_last": 8080,
        "port": 80,
        "bind": None,
        "sources": [],
        "proxy": None,
    }
    again = plain.ask("POST", "/v1/endpoints/web/eth0/ports", {"binding": "8080:80/tcp"})
    assert (again.status, again.document) == (200, exposed.document)
    withdrawn = plain.ask("DELETE", "/v1/endpoints/web/eth0/ports?binding=8080%3A80")
    assert withdrawn.document["endpoint"]["exposed"] == []
    assert plain.ask("DELETE", "/v1/endpoints/web/eth0/ports?binding=8080:80").status == 200
    assert plain.ask("DELETE", "/v1/endpoints/nobody/eth0/ports?binding=8080:80").status == 404


def test_a_batch_is_attached_whole_or_not_at_all(plain: Plain) -> None:
    batch = [{"container": "a"}, {"container": "b", "tenant": "t", "expose": ["53:53/udp"]}]
    answer = plain.ask("POST", "/v1/endpoints/batch", {"endpoints": batch})
    assert [one["container"] for one in answer.document["endpoints"]] == ["a", "b"]
    wrong = [{"container": "c"}, {"container": "d", "expose": ["80:80", "10240:80"]}]
    refused = plain.ask("POST", "/v1/endpoints/batch", {"endpoints": wrong})
    assert (refused.status, refused.document["pointer"]) == (422, "/endpoints/1/expose/1")
    taken = plain.ask(
        "POST", "/v1/endpoints/batch", {"endpoints": [{"container": "c"}, {"container": "d", "expose": ["53:1/udp"]}]}
    )
    assert (taken.status, taken.document["type"]) == (409, "urn:cellwall:problem:conflict")
    assert [one["container"] for one in plain.ask("GET", "/v1/endpoints").document["endpoints"]] == ["a", "b"]
    closed = plain.ask("POST", "/v1/endpoints/detach", {"endpoints": [{"container": "a"}, {"container": "z"}]})
    assert closed.document == {"detached": 1}


def test_the_node_says_how_it_is(plain: Plain) -> None:
    status = plain.ask("GET", "/v1/status").document
    assert (status["up"], status["drift"], status["endpoints"]) == (True, [], 0)
    assert plain.ask("POST", "/v1/up").document["changed"] is False
    assert plain.ask("POST", "/v1/reconcile").document == {"repaired": []}
    assert plain.ask("GET", "/v1/dns").document["dns"]
    assert plain.ask("GET", "/v1/version").document["api"] == 1


def test_down_needs_force_while_something_is_attached(plain: Plain) -> None:
    attach(plain, "web")
    assert plain.ask("POST", "/v1/down").status == 409
    assert plain.ask("POST", "/v1/down", {"force": False}).status == 409
    assert plain.ask("POST", "/v1/down", {"force": True}).document == {"up": False}
    assert plain.ask("GET", "/v1/status").document["up"] is False
    assert plain.ask("POST", "/v1/up").document["changed"] is True


def test_findings_name_what_is_wrong_inside(served: Served, plain: Plain) -> None:
    host = served.world.host("web")
    attach(plain, "web", netns=str(host.netns))
    host.run(["ip", "link", "set", "eth0", "down"])
    (line, *_) = plain.ask("GET", "/v1/endpoints/web/eth0/findings").document["findings"]
    assert "is down inside the sandbox" in line


def test_head_is_get_without_its_body(plain: Plain) -> None:
    answer = plain.ask("HEAD", "/v1/version")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) > 0


def test_options_name_the_methods_of_a_path(plain: Plain) -> None:
    answer = plain.ask("OPTIONS", "/v1/endpoints/web/eth0")
    assert (answer.status, answer.headers["allow"]) == (204, "DELETE, GET, HEAD, OPTIONS")
