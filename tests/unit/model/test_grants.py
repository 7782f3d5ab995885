"""Grants: what a group may ask for, and for whom."""

import pytest

from cellwall.errors import InvalidSpec
from cellwall.model.grants import VERBS, Grant, parse_grant


def test_a_grant_is_read_as_it_is_written() -> None:
    grant = parse_grant("ci attach,detach  ci-*,nightly", "daemon.allow")
    assert grant == Grant("ci", frozenset({"attach", "detach"}), ("ci-*", "nightly"))
    assert parse_grant(str(grant), "daemon.allow") == grant


@pytest.mark.parametrize(
    ("tenants", "tenant", "covered"),
    [
        ("ci", "ci", True),
        ("ci", "ci-1", False),
        ("ci-*", "ci-1", True),
        ("ci-*", "ci-", True),
        ("ci-*", "ci", False),
        ("ci-*", "xci-1", False),
        ("a,b*", "bc", True),
        ("*", "anybody", True),
        ("*", "", False),
    ],
)
def test_a_star_stands_for_any_end_of_a_name(tenants: str, tenant: str, covered: bool) -> None:
    assert parse_grant(f"ci attach {tenants}", "daemon.allow").covers(tenant) is covered


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ci",
        "ci attach",
        "ci attach a b",
        "ci attach a*b",
        "ci attach **",
        "ci attach a,",
        "ci attach *,",
        "ci attach, a",
        "ci up a",
        "ci node a",
        "ci status a",
        "ci * a",
        "ci Attach a",
        "-ci attach a",
        "c/i attach a",
    ],
)
def test_what_is_no_grant_is_refused_by_field_and_value(text: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        parse_grant(text, "daemon.allow")
    assert refused.value.field == "daemon.allow"


def test_nothing_of_the_node_can_be_granted() -> None:
    assert not {"node", "up", "down", "reconcile", "status", "cni"} & VERBS


def test_metrics_are_granted_for_all_tenants_or_not_at_all() -> None:
    assert parse_grant("watchers metrics *", "daemon.allow").verbs == {"metrics"}
    for text in ("ci attach,metrics ci-*", "ci metrics web", "ci metrics *,web"):
        with pytest.raises(InvalidSpec) as refused:
            parse_grant(text, "daemon.allow")
        assert refused.value.value == text
