"""The text of a log's prefix, both ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellwall.compile.reasons import MAX_PREFIX, Reason, format_reason, parse_reason
from cellwall.errors import InvalidSpec

_WORDS = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ,.:'-", min_size=1, max_size=40)


@given(
    st.sampled_from(("PIN", "RAW", "FWD")), st.sampled_from(("deny", "watch")), st.sampled_from(("out", "in")), _WORDS
)
def test_a_reason_reads_back(layer: str, judgement: "str", direction: "str", why: str) -> None:
    reason = Reason(layer, judgement, direction, why)  # type: ignore[arg-type]  # drawn from the literals
    assert parse_reason(format_reason(reason)) == reason


def test_the_reader_is_not_told_twice_that_something_was_only_watched() -> None:
    for said in ("only watches", "is only watched"):
        assert format_reason(Reason("FWD", "watch", "out", f"mail, which {said}")) == "FWD watch out: mail"


@pytest.mark.parametrize("why", ["x" * MAX_PREFIX, "", "two\nlines", "caf\xe9"])
def test_what_does_not_fit_is_refused(why: str) -> None:
    with pytest.raises(InvalidSpec):
        format_reason(Reason("FWD", "deny", "out", why))


@pytest.mark.parametrize("prefix", ["", "IN=eth0", "FWD: drop", "fwd deny out: x", "FWD deny sideways: x"])
def test_prefixes_of_others_are_not_ours(prefix: str) -> None:
    assert parse_reason(prefix) is None
