"""Policies as values: types are not checked at run time, and a value is recorded for everybody to read."""

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given

from cellwall.engine.policies.calls import check_policy, written_policy
from cellwall.errors import InvalidSpec
from cellwall.model.policy import Policy, Rule
from cellwall.model.settings import Settings
from unit.policy.test_documents import policies

_ANY = ip_network("0.0.0.0/0")


def anything(*given: Any, **named: Any) -> Policy:
    return Policy(*given, **named)


def rule(*given: Any) -> Rule:
    return Rule(*given)


@pytest.mark.parametrize(("value", "field"), [
    (anything("Block"), "mode"),
    (anything(b"block"), "mode"),
    (anything("open", (rule("Deny", _ANY),)), "rules[0].action"),
    (anything("open", (rule("deny", _ANY), rule("deny", _ANY, "TCP"))), "rules[1].protocol"),
    (anything("open", (rule("deny", "1.1.1.1/24"),)), "rules[0].prefix"),
    (anything("open", (rule("deny", ip_address("1.1.1.1")),)), "policy"),
    (anything("open", (rule("deny", _ANY, "tcp", 80),)), "policy"),
    (anything("open", (rule("deny", _ANY, "tcp", "89"),)), "policy"),
    (anything("open", (rule("deny", _ANY, "tcp", (True, True)),)), "rules[0].ports"),
    (anything("open", (rule("deny", _ANY, "tcp", (-1, 8)),)), "rules[0].ports"),
    (anything("open", ("deny",)), "policy"),
    (anything("open", [rule("deny", _ANY)]), "policy"),
    (anything(sources=("203.0.113.0/24",)), "policy"),
    (anything(sources=(3,)), "sources[0]"),
    (anything(links="no"), "links"),
    (anything(monitor=1), "monitor"),
])  # fmt: skip
def test_a_value_that_its_document_does_not_give_back_is_refused_where_it_stands(value: Policy, field: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        written_policy(value)
    assert caught.value.field == field
    with pytest.raises(InvalidSpec):
        check_policy(value, Settings(), (), endpoint=False)


@given(policies)
def test_a_value_that_its_document_gives_back_is_taken_as_it_is(policy: Policy) -> None:
    assert written_policy(policy).policy is policy
