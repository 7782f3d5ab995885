"""What `B9-KIN-…` says of a stamp beside the first version of an address's holder, as the kernel runs its programs."""

from hypothesis import given
from hypothesis import strategies as st

from cellwall.lower.xt.programs import DIFFERENT, FIRST_IS_LESS, SECOND_IS_FORMER, Words
from cellwall.lower.xt.view import NODE_MARKS
from cellwall.model.versions import BLOCK, END_BLOCK, FIRST_BLOCK, STEM, first_version, policy_version

ALL = END_BLOCK - FIRST_BLOCK
BLOCKS = st.integers(FIRST_BLOCK, END_BLOCK - 1)
MARKS = st.integers(0, 31).map(lambda bit: 1 << bit).filter(lambda mark: bool(mark & NODE_MARKS))
_LOAD_MARK, _STORE_X, _ADD, _SUBTRACT_X, _AND, _SHIFT, _RETURN = 0x20, 0x07, 0x04, 0x1C, 0x54, 0x74, 0x06
_JUMPS = {
    0x15: lambda a, x, k: a == k,
    0x1D: lambda a, x, k: a == x,
    0x2D: lambda a, x, k: a > x,
    0x35: lambda a, x, k: a >= k,
    0x45: lambda a, x, k: bool(a & k),
}


def matches(words: Words, mark: int) -> bool:
    """linux/filter.h, as far as these programs go."""
    steps = [tuple(map(int, step.split())) for step in words[-1].split(",")[1:]]
    a = x = at = 0
    while True:
        code, yes, no, k = steps[at]
        at += 1
        if code in _JUMPS:
            at += yes if _JUMPS[code](a, x, k) else no
        elif code == _RETURN:
            return k != 0
        elif code == _STORE_X:
            x = a
        else:
            a = {
                _LOAD_MARK: mark,
                _ADD: a + k,
                _SUBTRACT_X: a - x,
                _AND: a & k,
                _SHIFT: a >> k,
            }[code] & 0xFFFFFFFF


def is_former(stamp: int, born: int) -> bool:
    upper = born & 0xFFFF0000 | stamp >> 16
    if matches(SECOND_IS_FORMER, upper):
        return True
    if matches(DIFFERENT, upper):
        return False
    return matches(FIRST_IS_LESS, (stamp & 0xFFFF) << 16 | born & 0xFFFF)


@given(BLOCKS, st.integers(-ALL // 4 + 1, ALL // 4 - 1), st.integers(0, BLOCK - 1), MARKS)
def test_a_stamp_of_an_earlier_block_is_a_former_ones_also_beyond_the_last(
    born: int, further: int, within: int, mark: int
) -> None:
    block = FIRST_BLOCK + (born - FIRST_BLOCK + further) % ALL
    stamp = policy_version(block * BLOCK + within, mark)
    assert is_former(stamp, first_version(born, mark)) is (further < 0)


@given(BLOCKS, st.integers(1, (1 << 30) - 1), MARKS)
def test_a_mark_that_is_no_version_is_a_former_ones(born: int, stamp: int, mark: int) -> None:
    assert is_former(stamp, first_version(born, mark))


@given(BLOCKS, st.integers(0, BLOCK - 1), MARKS)
def test_all_versions_of_ones_own_block_are_ones_own(born: int, within: int, mark: int) -> None:
    first = first_version(born, mark)
    assert not is_former(first | (within & ~mark & ~STEM), first)
