"""A refusal leads to the entry that is wrong, whoever refuses it: decoder, parser or engine."""

from ipaddress import IPv4Address, IPv6Address
from typing import Any

import msgspec
import pytest

from cellwall.daemon.http.decoding import CallRefused, decoded
from cellwall.engine.requests import AttachRequest
from cellwall.errors import InvalidSpec
from cellwall.model.endpoint import PortBinding
from cellwall.wire.bodies import AttachBody, AttachManyBody, Places, attach_body, attach_request
from cellwall.wire.pointers import Refused, decoder_pointer, pointer
from cellwall.wire.policies import PolicyBody, body_of
from cellwall.wire.problems import invalid_body, problem_of

WEB = {"container": "web"}


@pytest.mark.parametrize(
    ("body", "at"),
    [
        ([], ""),
        ({}, "/endpoints"),
        ({"endpoints": 7}, "/endpoints"),
        ({"endpoints": [WEB, {}]}, "/endpoints/1/container"),
        ({"endpoints": [WEB, {"container": 7}]}, "/endpoints/1/container"),
        ({"endpoints": [{"container": "web", "mtu": 9}]}, "/endpoints/0/mtu"),
        (
            {"endpoints": [WEB, WEB, {"container": "web", "expose": ["80:80", {"port": 80}]}]},
            "/endpoints/2/expose/1/host_port",
        ),
        (
            {"endpoints": [{"container": "a", "expose": [{"host_port": 1, "port": 65536}]}]},
            "/endpoints/0/expose/0/port",
        ),
        ({"endpoints": [], "a~b/c": 1}, "/a~0b~1c"),
        ({"endpoints": [WEB] * 1025}, "/endpoints"),
    ],
)
def test_what_the_decoder_refuses_has_its_place(body: object, at: str) -> None:
    with pytest.raises(msgspec.ValidationError) as refusal:
        msgspec.convert(body, AttachManyBody)
    assert decoder_pointer(str(refusal.value)) == at
    problem = invalid_body(str(refusal.value))
    assert (problem.pointer, problem.status) == (at, 422)
    assert problem.reason and "`$" not in problem.reason


@pytest.mark.parametrize(
    ("raw", "field", "value", "detail"),
    [
        ('{"endpoints": 7}', "/endpoints", 7, "/endpoints: 7: Expected `array`, got `int`"),
        (
            '{"endpoints": [{"container": ["a", 1]}]}',
            "/endpoints/0/container",
            '["a",1]',
            '/endpoints/0/container: ["a",1]: Expected `str`, got `array`',
        ),
        (
            '{"endpoints": [{"container": "a", "policy": {"mode": "shut"}}]}',
            "/endpoints/0/policy/mode",
            "shut",
            '/endpoints/0/policy/mode: "shut": must be open, block or allow',
        ),
        (
            '{"endpoints": [{"container": "a", "policy": {"rules": [{"protocol": "x"}]}}]}',
            "/endpoints/0/policy/rules/0/protocol",
            "x",
            '/endpoints/0/policy/rules/0/protocol: "x": must be any, tcp, udp or icmp',
        ),
        (
            '{"endpoints": [{"container": "a", "policy": {"rules": [{"action": "permit", "prefix": "::/0"}]}}]}',
            "/endpoints/0/policy/rules/0/action",
            "permit",
            '/endpoints/0/policy/rules/0/action: "permit": must be allow or deny',
        ),
        (
            '{"endpoints": [{"container": "a", "expose": [{"host_port": 1, "port": 1, "protocol": "sctp"}]}]}',
            "/endpoints/0/expose/0/protocol",
            "sctp",
            '/endpoints/0/expose/0/protocol: "sctp": must be tcp or udp',
        ),
        (
            '{"endpoints": [{"container": "a", "expose": [{"host_port": 1, "port": 1, "proxy": "x"}]}]}',
            "/endpoints/0/expose/0/proxy",
            "x",
            '/endpoints/0/expose/0/proxy: "x": must be 6to4 or 4to6',
        ),
        ('{"endpoints": [], "m": true}', "/m", "true", "/m: true: Object contains unknown field `m`"),
        (
            '{"endpoints": 1180591620717411303424}',
            "/endpoints",
            "1180591620717411303424",
            "/endpoints: 1180591620717411303424: Expected `array`, got `float`",
        ),
        ("{}", "/endpoints", None, "/endpoints: Object missing required field `endpoints`"),
        ("[]", "body", "[]", "body: []: Expected `object`, got `array`"),
    ],
)
def test_what_the_decoder_refuses_has_its_field_and_value(raw: str, field: str, value: object, detail: str) -> None:
    with pytest.raises(CallRefused) as refusal:
        decoded(msgspec.json.Decoder(AttachManyBody).decode, raw.encode())
    problem = refusal.value.problem
    assert (problem.field, problem.value, problem.detail) == (field, value, detail)


def test_a_policy_of_another_shape_is_refused_by_a_client_with_what_was_written() -> None:
    for document, said in (
        ({"mode": "shut"}, '/mode: "shut": must be open, block or allow'),
        ({"rules": {}}, "/rules: {}: "),
        ([], "/: []: "),
    ):
        with pytest.raises(Refused) as refused:
            body_of(document)
        assert str(refused.value).startswith(said)


def test_a_long_value_is_told_of_by_its_beginning() -> None:
    with pytest.raises(CallRefused) as refusal:
        decoded(msgspec.json.Decoder(AttachManyBody).decode, b'{"endpoints": "' + b"x" * 5000 + b'"}')
    problem = refusal.value.problem
    assert isinstance(problem.value, str)
    assert len(problem.value) < 300
    assert len(problem.detail) < 300


@pytest.mark.parametrize(
    ("body", "field", "text"),
    [
        ({"allow_list": ["1.1.1.0/24"], "block_network": True}, "/allow_list", '["1.1.1.0/24"]'),
        ({"allow_list": ["1.1.1.0/24"], "policy": {}}, "/allow_list", '["1.1.1.0/24"]'),
        ({"block_network": True, "policy": {}}, "/block_network", "true"),
    ],
    ids=str,
)
def test_a_list_is_shown_as_it_was_sent(body: dict[str, object], field: str, text: str) -> None:
    with pytest.raises(Refused) as refused:
        attach_request(msgspec.convert(WEB | body, AttachBody))
    problem = problem_of(refused.value)
    assert (problem.pointer, problem.field, problem.value) == (field, field, text)
    assert problem.detail.startswith(f"{field}: {text}: contradicts")


@pytest.mark.parametrize(
    ("entry", "at"),
    [
        ({"container": "a b"}, "/container"),
        ({"container": ""}, "/container"),
        ({"interface": "a/b"}, "/interface"),
        ({"tenant": ""}, "/tenant"),
        ({"mac": "zz"}, "/mac"),
        ({"mac": "01:00:00:00:00:00"}, "/mac"),
        ({"address4": "1.2.3"}, "/address4"),
        ({"address4": "fd00::1"}, "/address4"),
        ({"address6": "1.2.3.4"}, "/address6"),
        ({"address6": "fe80::1%eth0"}, "/address6"),
        ({"expose": ["80:80", "80"]}, "/expose/1"),
        ({"expose": ["80:80", "0:80"]}, "/expose/1"),
        ({"expose": ["8080:80@"]}, "/expose/0"),
        ({"expose": [{"host_port": 9, "port": 9, "host_port_last": 8}]}, "/expose/0/host_port"),
        ({"expose": [{"host_port": 9, "port": 65535, "host_port_last": 19}]}, "/expose/0/port"),
        ({"expose": [{"host_port": 9, "port": 9, "bind": "127.0.0.1"}]}, "/expose/0/bind"),
        ({"expose": [{"host_port": 9, "port": 9, "bind": "x"}]}, "/expose/0/bind"),
        ({"expose": [{"host_port": 9, "port": 9, "sources": ["10.0.0.0/8", "10.0.0.1/8"]}]}, "/expose/0/sources/1"),
        ({"expose": [{"host_port": 9, "port": 9, "bind": "10.0.0.1", "sources": ["::/0"]}]}, "/expose/0/sources"),
        ({"policy": {"rules": [{"action": "allow", "prefix": "1.1.1.1/8"}]}}, "/policy/rules/0/prefix"),
        ({"policy": {"rules": [{"action": "allow", "prefix": "1.0.0.0/8", "ports": "x"}]}}, "/policy/rules/0/ports"),
        ({"policy": {"version": 9}}, "/policy/version"),
        ({"policy": {"mode": "allow", "exceptions": ["db"]}}, "/policy/exceptions"),
        ({"policy": {"mode": "open", "block_network": True}}, "/policy/block_network"),
        ({"allow_list": ["1.1.1.1/8"]}, "/allow_list/0"),
        ({"policy": {}, "block_network": True}, "/block_network"),
    ],
)
def test_what_a_parser_refuses_has_its_place(entry: dict[str, Any], at: str) -> None:
    body = msgspec.convert({"container": "web", **entry}, AttachBody)
    with pytest.raises(Refused) as refusal:
        attach_request(body, "/endpoints/3")
    assert refusal.value.pointer == "/endpoints/3" + at


RULE = {"action": "allow", "prefix": "1.1.1.0/24"}
PORT = PortBinding("tcp", 80, 80)
OTHER = PortBinding("udp", 53, 53)
FIRST = AttachRequest("a", "/n/a", address4=IPv4Address("10.0.0.1"), mac=2, bindings=(OTHER,))
SECOND = AttachRequest("b", "/n/b", tenant="t", address6=IPv6Address("fd00::2"), mac=2 << 8, bindings=(OTHER, PORT))
TWIN = AttachRequest("a", "/n/c", address4=IPv4Address("10.0.0.1"), mac=2)


def places(*requests: AttachRequest) -> Places:
    return Places([attach_body(request) for request in requests], [f"/{number}" for number in range(len(requests))])


@pytest.mark.parametrize(
    ("field", "value", "at"),
    [
        ("container id", "a/eth0", "/2/container"),
        ("ip", "10.0.0.1, 10.0.0.1", "/2/address4"),
        ("mac", "2, 512, 2", "/2/mac"),
        ("mac", "00:00:00:00:02:00", "/1/mac"),
        ("ip", IPv6Address("fd00::2"), "/1/address6"),
        ("expose.host_port", "80:80/tcp", "/1/expose/1"),
        ("expose.host_port", "53:53/udp", "/1/expose/0"),
        ("netns", "/n/c", "/2/netns"),
    ],
)
def test_what_the_engine_refuses_has_its_place(field: str, value: object, at: str) -> None:
    refusal = places(FIRST, SECOND, TWIN).of(InvalidSpec(field, value, "no"))
    assert isinstance(refusal, Refused)
    assert (refusal.pointer, str(refusal)) == (at, str(InvalidSpec(field, value, "no")))


def test_of_one_entry_only_that_is_meant() -> None:
    refusal = places(FIRST, TWIN).of(InvalidSpec("container id", "a/eth0", "no"), 0)
    assert isinstance(refusal, Refused)
    assert refusal.pointer == "/0/container"


@pytest.mark.parametrize(
    ("entry", "field", "at"),
    [
        ({"policy": {"rules": [RULE, RULE]}}, "policy.rules[1].prefix", "/policy/rules/1/prefix"),
        ({"policy": {"allow_list": ["1.1.1.0/24"]}}, "policy.rules[0].prefix", "/policy/allow_list/0"),
        ({"allow_list": ["1.1.1.0/24", "1.1.2.0/24"]}, "policy.rules[1].prefix", "/allow_list/1"),
    ],
)
def test_a_rule_that_the_engine_refuses_has_its_place(entry: dict[str, Any], field: str, at: str) -> None:
    body = msgspec.convert({"container": "web", **entry}, AttachBody)
    refusal = Places([body], ["/endpoints/0"]).of(InvalidSpec(field, "1.1.1.0/24", "no"))
    assert isinstance(refusal, Refused)
    assert refusal.pointer == "/endpoints/0" + at


@pytest.mark.parametrize("name", ["sources", "allow_list", "outbound_cidr_allowlist", "inbound_cidr_allowlist"])
def test_a_list_that_is_too_long_is_no_body(name: str) -> None:
    """Before anything waits with it, or is read of it."""
    body_of({name: ["1.1.1.0/24"] * 1000})
    with pytest.raises(Refused) as refused:
        body_of({name: ["1.1.1.0/24"] * 1001})
    assert refused.value.pointer == f"/{name}"
    with pytest.raises(msgspec.ValidationError, match="length <= 256"):
        msgspec.json.decode(msgspec.json.encode({name: ["1" * 257]}), type=PolicyBody)


def test_what_no_entry_says_has_no_place() -> None:
    refusal = InvalidSpec("node.interface", "eth9", "does not exist")
    assert places(FIRST).of(refusal) is refusal


def test_a_place_is_kept() -> None:
    refusal = Refused("/x", "mac", 2, "no")
    assert places(FIRST).of(refusal) is refusal


def test_pointers_escape_what_divides_them() -> None:
    assert pointer("a/b", 0, "~1") == "/a~1b/0/~01"
    assert pointer() == ""
