"""Policies that nobody has any more are let go, however many a caller writes."""

import gc
from ipaddress import IPv4Network
from weakref import ref

import pytest

from cellwall.adapters.record import records
from cellwall.adapters.record.records import decode_policy, encode_policy
from cellwall.compile.policy_size import policy_size
from cellwall.model.policy import Policy, Rule, interned


def one(number: int) -> Policy:
    return Policy("allow", (Rule("allow", IPv4Network((number << 8, 24))),))


def test_equal_policies_are_one_as_long_as_somebody_has_it() -> None:
    first = interned(one(1))
    assert interned(one(1)) is first
    assert interned(one(2)) is not first


def test_a_policy_that_nobody_has_is_let_go() -> None:
    policy = interned(one(3))
    gone = ref(policy)
    del policy
    gc.collect()
    assert gone() is None
    assert interned(one(3)) == one(3)


def test_whose_size_was_asked_for_is_let_go_with_it() -> None:
    """But for the few of which the listings are kept."""
    policies = [one(1000 + number) for number in range(200)]
    assert {policy_size("tenant", policy).entries for policy in policies} == {1}
    there = [ref(policy) for policy in policies]
    del policies
    gc.collect()
    assert sum(policy() is not None for policy in there) <= 64


def test_what_was_read_is_kept_by_the_octets_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_decoded", records._Decoded())
    bodies = [encode_policy(one(2000 + number)) for number in range(4)]
    monkeypatch.setattr(records._Decoded, "MOST_OCTETS", sum(map(len, bodies[:2])))
    there = [ref(decode_policy(body)) for body in bodies]
    gc.collect()
    assert [policy() is not None for policy in there] == [False, False, True, True]
    assert decode_policy(bodies[2]) is there[2]()
    assert ref(decode_policy(bodies[0]))() is decode_policy(bodies[0])
    assert [policy() is not None for policy in there] == [False, False, True, False]  # the one asked for last stays
