"""Policy versions leave the node's bit of the packet mark alone."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from cellwall.model.versions import (
    BLOCK,
    END_BLOCK,
    FIRST_BLOCK,
    STEM,
    TENANT_BIT,
    TENANT_BITS,
    block_of,
    every_version,
    first_version,
    following,
    policy_version,
    stems,
    tenant_label,
)

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


BLOCKS = st.integers(FIRST_BLOCK, END_BLOCK - 1)


@given(BLOCKS, MARKS)
def test_an_endpoint_counts_through_its_block_and_no_further(block: int, mark: int) -> None:
    versions = [first_version(block, mark)]
    while (after := following(versions[-1], mark)) is not None:
        versions.append(after)
    assert len(versions) == (BLOCK // 2 if mark < BLOCK else BLOCK)
    assert versions == sorted(set(versions))
    assert stems(tuple(versions)) == (versions[0],)
    assert {block_of(version, mark) for version in versions} == {block}
    assert not any(version & mark or version >> 31 for version in versions)


@given(BLOCKS, MARKS)
def test_a_flow_that_was_labelled_with_a_number_alone_is_known_to_be_a_tenants(block: int, mark: int) -> None:
    assert first_version(block, mark) & TENANT_BITS & ~TENANT_BIT


@given(BLOCKS, BLOCKS, MARKS)
def test_labels_differ_as_tenants_do_and_are_all_the_same_to_who_sees_their_lowest_bit(
    one: int, other: int, mark: int
) -> None:
    numbers = [first_version(one, mark), first_version(other, mark), 1 << 31, 1 << 31 | 1]
    labels = [tenant_label(number) for number in numbers]
    assert len(set(labels)) == len(set(numbers))
    assert all(label & TENANT_BITS & -label == TENANT_BIT for label in labels)


@given(BLOCKS, BLOCKS, MARKS)
def test_no_two_blocks_share_a_version(one: int, other: int, mark: int) -> None:
    assert (one == other) is (first_version(one, mark) & STEM == first_version(other, mark) & STEM)


@given(BLOCKS, MARKS, MARKS)
def test_what_follows_never_has_the_nodes_bit_though_it_was_another_before(block: int, mark: int, later: int) -> None:
    after = following(first_version(block, mark), later)
    assert after is None or not after & later


@given(BLOCKS, MARKS, st.integers(0, BLOCK - 1))
def test_every_version_is_told_from_other_marks(block: int, mark: int, further: int) -> None:
    value, mask = every_version(mark)
    version = policy_version(block * BLOCK + further, mark)
    assert version & mask == value
    assert all(small & mask != value for small in (0, 1, 0x4000, 0xFFFF, 0x80000000))
