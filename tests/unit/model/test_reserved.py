"""Which ports are given to who asks for any, and what of the kernel's settings is read for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellwall.errors import Exhausted, InvalidSpec
from cellwall.model.reserved import (
    MAX_OF_MEMBERS,
    MAX_OF_TENANT,
    MAX_RESERVED,
    ReservedPort,
    candidates,
    parse_spans,
    refuse_too_many,
    validate_count,
    validate_lease,
)

SPANS = st.tuples(st.integers(1, 200), st.integers(0, 60)).map(lambda pair: (pair[0], sum(pair)))


@given(wanted=SPANS, spared=st.lists(SPANS, max_size=4), start=st.integers(0, 1 << 32))
def test_every_port_that_nothing_else_wants_is_a_candidate_once(
    wanted: tuple[int, int], spared: list[tuple[int, int]], start: int
) -> None:
    found = list(candidates(wanted, spared, start))
    assert len(found) == len(set(found))
    left = {port for port in range(wanted[0], wanted[1] + 1) if not any(low <= port <= high for low, high in spared)}
    assert set(found) == left


def test_who_comes_next_is_not_given_the_port_of_who_came_before() -> None:
    assert [next(candidates((100, 199), [], start)) for start in (0, 1, 99, 100)] == [100, 101, 199, 100]


@pytest.mark.parametrize(("text", "spans"), [
    ("32768\t60999", ((32768, 60999),)), ("", ()), ("8080", ((8080, 8080),)),
    ("8080,9000-9010", ((8080, 8080), (9000, 9010))), ("9000-9010", ((9000, 9010),)), ("x,1-y", ()),
])  # fmt: skip
def test_ranges_of_the_kernel_are_read(text: str, spans: tuple[tuple[int, int], ...]) -> None:
    assert parse_spans(text) == spans


@pytest.mark.parametrize("count", [0, -1, 65])
def test_a_number_of_ports_has_bounds(count: int) -> None:
    with pytest.raises(InvalidSpec, match=f"^count: {count}: must be 1 to 64 ports$"):
        validate_count(count)


@pytest.mark.parametrize("seconds", [0, -1, 86401, float("nan"), float("inf")])
def test_a_time_has_bounds(seconds: float) -> None:
    with pytest.raises(InvalidSpec, match=r"^seconds: "):
        validate_lease(seconds)


def rows(number: int, tenant: str = "", user: int | None = None) -> list[ReservedPort]:
    return [ReservedPort(n, "some", tenant, 0.0, user=user, exact=True) for n in range(number)]


@pytest.mark.parametrize(("others", "tenant", "user", "refused"), [
    (rows(MAX_RESERVED - 1), "", None, None),
    (rows(MAX_RESERVED), "", None, f"{MAX_RESERVED} ports are reserved already, of {MAX_RESERVED} at most"),
    (rows(MAX_OF_TENANT - 1, "acme"), "acme", None, None), (rows(MAX_OF_TENANT, "acme"), "other", None, None),
    (rows(MAX_OF_TENANT, "acme"), "acme", None, f"tenant acme has {MAX_OF_TENANT} ports reserved"),
    (rows(MAX_OF_MEMBERS - 1, "x", 7), "acme", 8, None), (rows(MAX_OF_MEMBERS, "x"), "acme", 7, None),
    (rows(MAX_OF_MEMBERS, "x", 7), "acme", None, None),
    (rows(MAX_OF_MEMBERS, "x", 7), "acme", 8, f"others than root have {MAX_OF_MEMBERS} ports reserved"),
])  # fmt: skip
def test_a_node_a_tenant_and_all_but_root_have_so_many(
    others: list[ReservedPort], tenant: str, user: int | None, refused: str | None
) -> None:
    if refused is None:
        refuse_too_many(others, [], tenant, user, 1)
    else:
        with pytest.raises(Exhausted, match=f"^count: 1: {refused}"):
            refuse_too_many(others, [], tenant, user, 1)


def test_what_a_container_had_before_is_no_more_of_others_share() -> None:
    own = rows(4, "acme", 7)
    refuse_too_many(rows(MAX_OF_MEMBERS - 4, "x", 7), own, "acme", 7, 4)
    with pytest.raises(Exhausted, match="others than root"):
        refuse_too_many(rows(MAX_OF_MEMBERS - 4, "x", 7), own, "acme", 7, 5)
    refuse_too_many(rows(MAX_OF_MEMBERS, "x", 7), rows(4, "acme"), "acme", 7, 4)  # root's, which stay so
