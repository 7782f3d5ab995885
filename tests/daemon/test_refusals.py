"""Whatever is wrong with a call is told as a problem document, with the place where it is wrong; nothing is done."""

import logging
from typing import Any

import pytest

from cellwall.api import Wall
from cellwall.daemon.authority import Authority, Granted, Peer
from cellwall.errors import Conflict, KernelError
from cellwall.model.grants import parse_grant
from served import Plain, Served, open_served
from world import Wrapped

pytestmark = pytest.mark.root

PROBLEM = "application/problem+json"
ATTACH = ("POST", "/v1/endpoints")


@pytest.mark.parametrize(
    ("method", "path", "body", "pointer"),
    [
        (*ATTACH, {}, "/container"),
        (*ATTACH, [], ""),
        (*ATTACH, {"container": 7}, "/container"),
        (*ATTACH, {"container": "a b"}, "/container"),
        (*ATTACH, {"container": "web", "mtu": 9}, "/mtu"),
        (*ATTACH, {"container": "web", "interface": "lo"}, "/interface"),
        (*ATTACH, {"container": "web", "mac": "zz"}, "/mac"),
        (*ATTACH, {"container": "web", "mac": "02:00:00:00:00:01"}, "/mac"),
        (*ATTACH, {"container": "web", "address4": "10.9.9.9"}, "/address4"),
        (*ATTACH, {"container": "web", "address6": "2001:db8::1"}, "/address6"),
        (*ATTACH, {"container": "web", "netns": "/proc/self/ns/net"}, "/netns"),
        (*ATTACH, {"container": "web", "netns": "/etc/passwd"}, "/netns"),
        (*ATTACH, {"container": "web", "netns": "a\0b"}, "/netns"),
        (*ATTACH, {"container": "web", "expose": ["80:80", "10240:1"]}, "/expose/1"),
        (*ATTACH, {"container": "web", "expose": ["80:80", "80:81"]}, "/expose/1"),
        (
            *ATTACH,
            {"container": "web", "expose": [{"host_port": 80, "port": 80, "sources": ["x"]}]},
            "/expose/0/sources/0",
        ),
        (
            "POST",
            "/v1/endpoints/batch",
            {"endpoints": [{"container": "a"}, {"container": "a"}]},
            "/endpoints/1/container",
        ),
        (
            "POST",
            "/v1/endpoints/batch",
            {"endpoints": [{"container": "a"}, {"container": "b", "address4": "10.9.9.9"}]},
            "/endpoints/1/address4",
        ),
        (
            "POST",
            "/v1/endpoints/detach",
            {"endpoints": [{"container": "a"}, {"container": "/"}]},
            "/endpoints/1/container",
        ),
        ("POST", "/v1/endpoints/a/eth0/ports", {"binding": "x"}, "/binding"),
        ("POST", "/v1/endpoints/a/eth0/ports", {"binding": {"host_port": 0, "port": 1}}, "/binding/host_port"),
        ("POST", "/v1/down", {"force": "yes"}, "/force"),
        ("POST", "/v1/up", {"force": True}, ""),
    ],
)
def test_the_pointer_leads_to_what_is_wrong(plain: Plain, method: str, path: str, body: Any, pointer: str) -> None:
    answer = plain.ask(method, path, body)
    assert (answer.status, answer.document.get("pointer")) == (422, pointer), answer.document
    assert answer.headers["content-type"] == PROBLEM
    assert answer.document["type"] == "urn:cellwall:problem:invalid"
    assert plain.ask("GET", "/v1/endpoints").document == {"endpoints": []}


@pytest.mark.parametrize(
    ("method", "path", "parameter"),
    [
        ("GET", "/v1/endpoints/a%20b/eth0", "container"),
        ("GET", "/v1/endpoints/a%2Fb/eth0", "container"),
        ("GET", "/v1/endpoints/%2E%2E/eth0", "container"),
        ("GET", "/v1/endpoints/a/" + "x" * 16, "ifname"),
        ("DELETE", "/v1/endpoints/a/eth0/ports", "binding"),
        ("DELETE", "/v1/endpoints/a/eth0/ports?binding=80", "binding"),
        ("DELETE", "/v1/endpoints/a/eth0/ports?binding=80:80&binding=81:81", "binding"),
        ("GET", "/v1/endpoints?tenant=a", "tenant"),
    ],
)
def test_a_wrong_parameter_is_named(plain: Plain, method: str, path: str, parameter: str) -> None:
    answer = plain.ask(method, path)
    assert (answer.status, answer.document["parameter"]) == (422, parameter), answer.document


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "kind"),
    [
        ("GET", "/", None, {}, 404, "no-such-call"),
        ("GET", "/v2/endpoints", None, {}, 404, "no-such-call"),
        ("GET", "/v1/endpoints/", None, {}, 404, "no-such-call"),
        ("POST", "/v1/cni", b"{}", {}, 404, "no-such-call"),
        ("PUT", "/v1/endpoints", None, {}, 405, "method-not-allowed"),
        ("POST", "/v1/endpoints/a/eth0", None, {}, 405, "method-not-allowed"),
        (*ATTACH, b"{", {"Content_Type": "application/json"}, 400, "malformed"),
        (*ATTACH, b"", {}, 400, "malformed"),
        ("PUT", "/v1/policies/acme", b"", {}, 400, "malformed"),
        ("PATCH", "/v1/policies/acme", None, {}, 400, "malformed"),
        (*ATTACH, b'{"container": "\xff"}', {}, 400, "malformed"),
        (*ATTACH, b'{"container": "\\ud800"}', {}, 400, "malformed"),
        (*ATTACH, b'{"container": "a", "netns": "/x", "tenant": "acme", "t\\u0065nant": "b"}', {}, 400, "malformed"),
        ("PUT", "/v1/policies/acme", b'{"mode": "block", "mode": "open"}', {}, 400, "malformed"),
        (
            "PUT",
            "/v1/policies/acme",
            b'{"rules": [{"action": "deny", "prefix": "1.1.1.1", "prefix": "2.2.2.2"}]}',
            {},
            400,
            "malformed",
        ),
        (*ATTACH, b"[" * 100_000, {}, 422, "invalid"),
        (*ATTACH, b"a=b", {"Content_Type": "application/x-www-form-urlencoded"}, 415, "unsupported-media-type"),
        (*ATTACH, b"{}", {"Content_Type": "application/json; charset=utf-16"}, 415, "unsupported-media-type"),
        (*ATTACH, b"\x1f\x8b", {"Content_Encoding": "gzip"}, 415, "unsupported-media-type"),
        ("GET", "/v1/endpoints", None, {"Accept": "text/html"}, 406, "not-acceptable"),
        (*ATTACH, b" " * (1 << 20) + b"{}", {}, 413, "too-large"),
    ],
)
def test_a_call_that_is_wrong_in_itself_is_a_problem_too(
    served: Served, method: str, path: str, body: Any, headers: dict[str, str], status: int, kind: str
) -> None:
    with served.connect() as plain:
        answer = plain.ask(method, path, body, **headers)
    assert (answer.status, answer.document["type"]) == (status, f"urn:cellwall:problem:{kind}"), answer.document
    assert answer.headers["content-type"] == PROBLEM
    assert answer.document["status"] == status
    if status == 405:
        assert method not in answer.headers["allow"].split(", ")


def test_a_body_without_a_length_is_bounded_too(served: Served) -> None:
    with served.connect() as plain:
        answer = plain.ask("POST", "/v1/endpoints", iter([b" " * 65536] * 32))
    assert answer.status == 413


def test_a_defect_stays_in_the_log_under_its_number(caplog: pytest.LogCaptureFixture) -> None:
    def broken(wall: Wall) -> Any:
        def up() -> None:
            raise ZeroDivisionError("the secret")

        return Wrapped(wall, up=up)

    with open_served(wrap=broken, up=False) as served, served.connect() as plain:
        with caplog.at_level(logging.ERROR, "cellwall.daemon"):
            answer = plain.ask("POST", "/v1/up")
        assert (answer.status, answer.document["type"]) == (500, "urn:cellwall:problem:internal")
        assert b"secret" not in answer.body
        assert b"Traceback" not in answer.body
        (record,) = [record for record in caplog.records if answer.document["incident"] in record.getMessage()]
        assert record.exc_info
        assert plain.ask("GET", "/v1/version").status == 200  # it goes on


@pytest.mark.parametrize("status", [409, 500])
def test_how_often_a_members_calls_fail_is_a_line_and_not_a_log(caplog: pytest.LogCaptureFixture, status: int) -> None:
    """Whoever is root in a sandbox decides that, by what they do to its interface meanwhile."""

    def failing(wall: Wall) -> Any:
        def attach_many(requests: Any) -> Any:
            error = KernelError(19, "configure eth0 in the sandbox")
            if status == 500:
                raise error
            raise Conflict("netns: eth0 was changed while it was attached") from error

        return Wrapped(wall, attach_many=attach_many)

    authority = Authority([Granted(7, parse_grant("7 attach ci-*", "daemon.allow"))])
    member = Peer(1000, frozenset({7}))
    with open_served(wrap=failing, authority=authority, peer=lambda _: member) as served, served.connect() as plain:
        caplog.clear()
        for number in range(20):
            body = {"container": f"c{number}", "tenant": "ci-1"}
            answer = plain.ask("POST", "/v1/endpoints", body)
            assert answer.status == status
    (line,) = [message for message in caplog.messages if "/v1/endpoints of uid 1000" in message]
    assert line.endswith("(failed by now: 1)")


def test_what_fails_for_one_group_keeps_nobody_from_hearing_of_another(caplog: pytest.LogCaptureFixture) -> None:
    def failing(wall: Wall) -> Any:
        def attach_many(requests: Any) -> Any:
            raise KernelError(19, "configure eth0 in the sandbox")

        return Wrapped(wall, attach_many=attach_many)

    grants = [Granted(gid, parse_grant(f"{gid} attach ci-*", "daemon.allow")) for gid in (7, 8)]
    members = [Peer(1000, frozenset({7})), Peer(1001, frozenset({7})), Peer(2000, frozenset({8}))]
    calling = members[0]
    with open_served(wrap=failing, authority=Authority(grants), peer=lambda _: calling) as served:
        caplog.clear()
        for member in members:
            calling = member
            for number in range(3):
                with served.connect() as plain:
                    plain.ask(*ATTACH, {"container": f"c{number}", "tenant": "ci-1"})
    lines = [message for message in caplog.messages if "/v1/endpoints of uid" in message]
    assert [line.split(" of ")[1].split()[1] for line in lines] == ["1000", "2000"], lines
    assert all(line.endswith("(failed by now: 1)") for line in lines)
