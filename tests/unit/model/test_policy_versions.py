"""Policy versions leave the node's bit of the packet mark alone."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from cellwall.model.endpoint import policy_version

MARKS = st.integers(0, 30).map(lambda bit: 1 << bit)


@given(st.integers(1, (1 << 30) - 1), MARKS)
def test_no_version_has_the_nodes_bit_or_more_than_31(number: int, mark: int) -> None:
    version = policy_version(number, mark)
    assert 0 < version < 1 << 31
    assert not version & mark


@given(MARKS, st.integers(1, 1 << 20))
def test_a_later_number_is_a_greater_version(mark: int, start: int) -> None:
    versions = [policy_version(number, mark) for number in range(start, start + 50)]
    assert all(earlier < later for earlier, later in pairwise(versions))


@given(st.integers(1, 1 << 20), st.integers(0, 1 << 20), MARKS)
def test_versions_that_were_numbers_alone_do_not_come_back(former: int, further: int, mark: int) -> None:
    assert policy_version(former + 1 + further, mark) > former
