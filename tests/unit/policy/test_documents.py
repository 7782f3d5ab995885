"""Policies as documents: what is read, what is written, and where an error is."""

from copy import deepcopy
from ipaddress import ip_network

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellwall.errors import InvalidSpec
from cellwall.model.policy import OPEN, Policy, Rule
from cellwall.model.policy_check import ground_of, validate_policy
from cellwall.model.policy_document import merge_patch, parse_policy, patched, policy_document
from cellwall.model.settings import Settings, parse_openings
from unit.policy.test_decisions import allow, deny, of

prefixes = st.one_of(
    st.builds(lambda bits, length: ip_network((bits >> 32 - length << 32 - length, length)),
              st.integers(0, (1 << 32) - 1), st.integers(0, 32)),
    st.builds(lambda bits, length: ip_network((bits >> 128 - length << 128 - length, length)),
              st.integers(1 << 64, (1 << 128) - 1), st.integers(0, 128)),
)  # fmt: skip
ports = st.tuples(st.integers(1, 65535), st.integers(1, 65535)).map(lambda pair: (min(pair), max(pair)))
rules = st.builds(
    Rule,
    st.sampled_from(["allow", "deny"]),
    prefixes,
    st.sampled_from(["any", "tcp", "udp", "icmp"]),
    ports | st.none(),
)
policies = st.builds(
    Policy,
    st.sampled_from(["open", "block", "allow"]),
    st.lists(rules, max_size=5).map(tuple),
    st.none() | st.lists(prefixes, max_size=3).map(tuple),
    st.booleans(),
    st.booleans(),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(policies)
def test_a_policy_is_what_its_document_says(policy: Policy) -> None:
    assert parse_policy(policy_document(policy)).policy == policy


@given(
    values | st.dictionaries(st.sampled_from(["mode", "rules", "sources", "allow_list", "links", "version"]), values)
)
def test_any_document_is_read_or_refused_with_a_pointer(document: object) -> None:
    try:
        parse_policy(document)
    except InvalidSpec as error:
        assert error.field.startswith("/")


def test_an_empty_document_is_the_open_policy() -> None:
    assert parse_policy({}).policy == OPEN
    assert parse_policy({"version": None}).policy == OPEN, "null is what a member is that was left out"


@pytest.mark.parametrize(("document", "policy"), [
    ({"block_network": True}, of("block")),
    ({"block_network": False}, OPEN),
    ({"allow_list": ["1.1.1.0/24", "8.8.8.8"]}, of("allow", allow("1.1.1.0/24"), allow("8.8.8.8/32"))),
    ({"block_network": False, "allow_list": ["1.1.1.0/24"]}, of("allow", allow("1.1.1.0/24"))),
    ({"outbound_cidr_allowlist": ["2606:4700::/32"]}, of("allow", allow("2606:4700::/32"))),
    ({"inbound_cidr_allowlist": ["203.0.113.0/24"]}, Policy(sources=(ip_network("203.0.113.0/24"),))),
    ({"mode": "open", "rules": [{"action": "deny", "prefix": "1.1.1.1", "protocol": "tcp", "ports": "25"}]},
     of("open", deny("1.1.1.1/32", "tcp", (25, 25)))),
    ({"rules": [{"action": "deny", "prefix": "1.1.1.1", "protocol": "udp", "ports": "53-100"}]},
     of("open", deny("1.1.1.1/32", "udp", (53, 100)))),
])  # fmt: skip
def test_names_of_other_platforms_are_accepted(document: object, policy: Policy) -> None:
    assert parse_policy(document).policy == policy


@pytest.mark.parametrize(("document", "pointer"), [
    (None, "/"),
    ([], "/"),
    ({"version": 2}, "/version"),
    ({"version": True}, "/version"),
    ({"mode": "closed"}, "/mode"),
    ({"mode": None}, "/mode"),
    ({"rulez": []}, "/rulez"),
    ({"a/b~c": []}, "/a~1b~0c"),
    ({"rules": {}}, "/rules"),
    ({"rules": [1]}, "/rules/0"),
    ({"rules": [{"prefix": "1.1.1.1"}]}, "/rules/0/action"),
    ({"rules": [{"action": "deny"}]}, "/rules/0/prefix"),
    ({"rules": [{"action": "deny", "prefix": "1.1.1.1/24"}]}, "/rules/0/prefix"),
    ({"rules": [{"action": "deny", "prefix": 16843009}]}, "/rules/0/prefix"),
    ({"rules": [{"action": "deny", "prefix": "fe80::1%eth0"}]}, "/rules/0/prefix"),
    ({"rules": [{"action": "deny", "prefix": "1.1.1.1", "port": 80}]}, "/rules/0/port"),
    ({"rules": [{"action": "deny", "prefix": "1.1.1.1", "ports": True}]}, "/rules/0/ports"),
    ({"rules": [{"action": "deny", "prefix": "1.1.1.1", "ports": "80-"}]}, "/rules/0/ports"),
    ({"rules": [{"action": "deny", "prefix": "1.1.1.1", "ports": "١"}]}, "/rules/0/ports"),
    ({"rules": [{"action": "deny", "prefix": "1.1.1.1", "ports": "1-08"}]}, "/rules/0/ports"),
    ({"rules": [{"action": "deny", "prefix": "1.1.1.1", "ports": "010"}]}, "/rules/0/ports"),
    ({"rules": [{"action": "deny", "prefix": "1.1.1.1", "ports": "0443"}]}, "/rules/0/ports"),
    ({"rules": [{"action": "deny", "prefix": "1.1.1.1", "ports": 10**30}]}, "/rules/0/ports"),
    ({"rules": [{"action": "deny", "prefix": "1.1.1.1", "protocol": "sctp"}]}, "/rules/0/protocol"),
    ({"links": "yes"}, "/links"),
    ({"monitor": 1}, "/monitor"),
    ({"block_network": "yes"}, "/block_network"),
    ({"block_network": True, "allow_list": ["1.1.1.1"]}, "/allow_list"),
    ({"block_network": True, "mode": "open"}, "/block_network"),
    ({"allow_list": ["1.1.1.1"], "outbound_cidr_allowlist": ["1.1.1.1"]}, "/outbound_cidr_allowlist"),
    ({"allow_list": ["1.1.1.1"], "rules": []}, "/allow_list"),
    ({"allow_list": "1.1.1.1"}, "/allow_list"),
    ({"allow_list": ["1.1.1.1", "x"]}, "/allow_list/1"),
    ({"sources": ["1.1.1.1"], "inbound_cidr_allowlist": ["1.1.1.1"]}, "/inbound_cidr_allowlist"),
    ({"inbound_cidr_allowlist": [1]}, "/inbound_cidr_allowlist/0"),
])  # fmt: skip
def test_an_error_points_to_its_place(document: object, pointer: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse_policy(document)
    assert caught.value.field == pointer


@pytest.mark.parametrize(("document", "pointer"), [
    ({"mode": "allow", "rules": [{"action": "allow", "prefix": "10.0.0.0/8"}]}, "/rules/0/prefix"),
    ({"allow_list": ["1.1.1.1", "10.0.0.0/8"]}, "/allow_list/1"),
    ({"outbound_cidr_allowlist": []}, "/outbound_cidr_allowlist"),
    ({"mode": "allow"}, "/rules"),
    ({"inbound_cidr_allowlist": ["127.0.0.1"]}, "/inbound_cidr_allowlist/0"),
    ({"sources": []}, "/sources"),
    ({"mode": "open", "rules": [{"action": "deny", "prefix": "1.1.1.1", "ports": 80}]}, "/rules/0/ports"),
])  # fmt: skip
def test_a_refusal_points_to_what_was_written(document: object, pointer: str) -> None:
    written = parse_policy(document)
    with pytest.raises(InvalidSpec) as caught:
        validate_policy(written.policy, ground_of(Settings(), ()), "tenant")
    assert written.located(caught.value).field == pointer


OPENINGS = parse_openings("resolver 10.0.0.2 udp,tcp/53", "x") + parse_openings("db fc00::5 tcp/5432", "x")


def test_openings_of_the_node_are_allowed_by_their_names() -> None:
    written = parse_policy({"allow_list": ["1.1.1.1"], "exceptions": ["db", "resolver", "db"]})
    rules = (
        allow("1.1.1.1/32"),
        allow("fc00::5/128", "tcp", (5432, 5432)),
        allow("10.0.0.2/32", "udp", (53, 53)),
        allow("10.0.0.2/32", "tcp", (53, 53)),
    )
    resolved = written.resolved(OPENINGS)
    assert resolved.policy == of("allow", *rules)
    assert resolved.exceptions == ()
    validate_policy(resolved.policy, ground_of(Settings(exceptions=OPENINGS), ()), "tenant")
    again = patched(resolved.policy, {"exceptions": ["resolver"]}).resolved(OPENINGS)
    assert again.policy == resolved.policy


@pytest.mark.parametrize(("document", "pointer"), [
    ({"mode": "allow", "exceptions": ["resolver", "none"]}, "/exceptions/1"),
    ({"exceptions": ["resolver"]}, "/exceptions/0"),
    ({"block_network": True, "exceptions": ["db"]}, "/exceptions/0"),
    ({"allow_list": ["1.1.1.1", "10.0.0.0/8"], "exceptions": ["db"]}, "/allow_list/1"),
    ({"mode": "allow", "exceptions": "db"}, "/exceptions"),
    ({"mode": "allow", "exceptions": [1]}, "/exceptions/0"),
    ({"mode": "allow", "exceptions": ["a b"]}, "/exceptions/0"),
])  # fmt: skip
def test_a_refusal_of_a_name_points_to_it(document: object, pointer: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        written = parse_policy(document).resolved(OPENINGS)
        with written.locating():
            validate_policy(written.policy, ground_of(Settings(), ()), "tenant")
    assert caught.value.field == pointer


@pytest.mark.parametrize(("target", "patch", "result"), [  # RFC 7396, appendix A
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
])  # fmt: skip
def test_a_merge_patch_does_what_its_standard_says(target: object, patch: object, result: object) -> None:
    before = deepcopy((target, patch))
    assert merge_patch(target, patch) == result
    assert (target, patch) == before


@pytest.mark.parametrize(("patch", "policy"), [
    ({}, of("allow", allow("1.1.1.1/32"), monitor=True)),
    ({"monitor": None}, of("allow", allow("1.1.1.1/32"))),
    ({"mode": None, "rules": None, "monitor": False}, OPEN),
    ({"block_network": True}, of("block", monitor=True)),
    ({"block_network": False}, of("open", monitor=True)),
    ({"allow_list": ["8.8.8.8"]}, of("allow", allow("8.8.8.8/32"), monitor=True)),
    ({"rules": [{"action": "allow", "prefix": "8.8.8.8"}]}, of("allow", allow("8.8.8.8/32"), monitor=True)),
])  # fmt: skip
def test_a_patch_changes_what_it_names(patch: object, policy: Policy) -> None:
    assert patched(of("allow", allow("1.1.1.1/32"), monitor=True), patch).policy == policy


@pytest.mark.parametrize("name", ["block_network", "allow_list", "outbound_cidr_allowlist", "inbound_cidr_allowlist"])
@pytest.mark.parametrize("before", [
    Policy("allow", (allow("1.1.1.1/32"),), (ip_network("203.0.113.0/24"),)),
    of("block"),
])  # fmt: skip
def test_null_of_another_platforms_name_takes_nothing_away(before: Policy, name: str) -> None:
    assert patched(before, {name: None}).policy == before
    assert patched(before, {name: None, "monitor": True}).policy == msgspec.structs.replace(before, monitor=True)


def test_a_patch_of_clients_by_another_platforms_name_takes_the_place_of_ours() -> None:
    before = Policy(sources=(ip_network("203.0.113.0/24"),))
    after = patched(before, {"inbound_cidr_allowlist": ["203.0.112.0/24"]}).policy
    assert after == Policy(sources=(ip_network("203.0.112.0/24"),))
