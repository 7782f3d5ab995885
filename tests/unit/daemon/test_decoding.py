"""A name that stands twice in an object of a body is refused, whatever else is in there."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellwall.daemon.http.decoding import CallRefused, decoded

VALUES = st.recursive(
    st.none() | st.integers() | st.text(':,{}"\\a', max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(":ab", max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_what_has_each_name_once_is_taken(value: Any) -> None:
    assert decoded(msgspec.json.decode, json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":2}',
        '{"a":1,"\\u0061":2}',
        '{"a":"x:y","a":2}',
        '[[{"b":{"a":{},"a":{}}}]]',
        '{"a":{"b":1},"a":{"c:":1}}',
        '{"l":[' + "0," * 100 + '0],"a":1,"a":2}',
        '{"a":{"b":1,"c":2},"a":[]}',
    ],
)
def test_a_name_that_stands_twice_is_refused(text: str) -> None:
    with pytest.raises(CallRefused) as refused:
        decoded(msgspec.json.decode, text.encode())
    assert "stands twice" in str(refused.value.problem.detail)
