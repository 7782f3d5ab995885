"""Which ports are given to who asks for any, and what of the kernel's settings is read for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellwall.errors import InvalidSpec
from cellwall.model.reserved import candidates, parse_spans, validate_count, validate_lease

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
